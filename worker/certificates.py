"""The certificate files of the settings: whose certificates are trusted, and which one this process shows."""

import ssl
from dataclasses import dataclass
from pathlib import Path

CA, CERT, KEY = "AGAIN_TLS_CA", "AGAIN_TLS_CLIENT_CERT", "AGAIN_TLS_CLIENT_KEY"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Files in PEM; each None where the setting is not set."""

    ca: Path | None = None  # trusted beside the public authorities
    cert: Path | None = None  # shown to the gateway
    key: Path | None = None  # of `cert`; None where that file holds it too

    def check(self) -> None:
        """Raise ValueError, which names the setting, unless every file can be read and fits."""
        self.trust_ca(context := ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.show_cert(context)

    def trust_ca(self, context: ssl.SSLContext) -> None:
        """Trust what the authority of the settings has signed; raises ValueError."""
        if self.ca is None:
            return
        _check_readable(CA, self.ca)
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise ValueError(f"{CA} {str(self.ca)!r} holds no certificate in PEM ({error.reason})") from None

    def show_cert(self, context: ssl.SSLContext) -> None:
        """Show the client certificate of the settings to servers that ask for one; raises ValueError."""
        if self.cert is None:
            if self.key is not None:
                raise ValueError(f"{KEY} is set and {CERT} is not; set both, or the second alone")
            return
        _check_readable(CERT, self.cert)
        if self.key is not None:
            _check_readable(KEY, self.key)
        try:
            context.load_cert_chain(self.cert, self.key, password=_refuse_password)
        except ssl.SSLError as error:
            where = f"{CERT} {str(self.cert)!r}" + (f" and {KEY} {str(self.key)!r}" if self.key else "")
            raise ValueError(
                f"{where}: no certificate and its own key in PEM ({error.reason or 'PEM'}); "
                "the key must be unencrypted"
            ) from None


def _refuse_password() -> str:
    return ""  # else OpenSSL asks on the terminal, and waits


def _check_readable(setting: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"{setting} {str(path)!r} cannot be read: {error.strerror}") from None
