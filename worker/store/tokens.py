"""The gateway's access token, shared by all processes: encrypted in a row, refreshed by one of them."""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Engine, text

_READ = text(
    "SELECT sealed, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM gateway_tokens "
    "WHERE account = :account AND expires_at > clock_timestamp()"
)
_BEGIN = text(
    """
    INSERT INTO gateway_tokens AS token (account, refresh_until)
    VALUES (:account, clock_timestamp() + make_interval(secs => :seconds))
    ON CONFLICT (account) DO UPDATE SET refresh_until = excluded.refresh_until
    WHERE coalesce(token.refresh_until, '-infinity') < clock_timestamp()
    RETURNING account
    """
)
_WRITE = text(
    "UPDATE gateway_tokens SET sealed = :sealed, refresh_until = NULL, "
    "expires_at = clock_timestamp() + make_interval(secs => :seconds) WHERE account = :account"
)
_END = text("UPDATE gateway_tokens SET refresh_until = NULL WHERE account = :account")
_DROP = text(
    "UPDATE gateway_tokens SET sealed = NULL, expires_at = NULL WHERE account = :account AND sealed = :sealed"
)


class SealedTokens:
    """A TokenStore in PostgreSQL; a row cannot be decrypted without the account's secret."""

    def __init__(self, engine: Engine, account: str, secret: str) -> None:
        self._engine = engine
        self._account = account
        digest = hashlib.blake2b(secret.encode(), digest_size=32, person=b"again-tokens").digest()
        self._seal = Fernet(base64.urlsafe_b64encode(digest))

    def __repr__(self) -> str:
        return f"SealedTokens({self._account!r})"

    def read(self) -> tuple[str, float] | None:
        """Return the shared token and its remaining seconds; None without a valid token that we can decrypt."""
        row = self._read_row()
        if row is None:
            return None
        try:
            return self._seal.decrypt(row[0]).decode(), row[1]
        except InvalidToken:
            return None  # encrypted under a former secret

    def begin_refresh(self, seconds: float) -> bool:
        """Acquire the lease to refresh for these seconds; False when another process has it."""
        with self._engine.begin() as db:
            values = {"account": self._account, "seconds": float(seconds)}
            return db.execute(_BEGIN, values).first() is not None

    def write(self, token: str, seconds_left: float) -> None:
        """Store a fresh token and release the lease to refresh."""
        sealed = self._seal.encrypt(token.encode())
        with self._engine.begin() as db:
            db.execute(_WRITE, {"account": self._account, "sealed": sealed, "seconds": float(seconds_left)})

    def end_refresh(self) -> None:
        """Release the lease to refresh without a token, after a failed refresh."""
        with self._engine.begin() as db:
            db.execute(_END, {"account": self._account})

    def drop(self, token: str) -> None:
        """Delete this token if it is still the shared one: the gateway has refused it."""
        row = self._read_row()
        if row is None:
            return
        shared = self.read()
        if shared is not None and shared[0] == token:
            with self._engine.begin() as db:
                db.execute(_DROP, {"account": self._account, "sealed": row[0]})

    def _read_row(self) -> tuple[bytes, float] | None:
        with self._engine.begin() as db:
            row = db.execute(_READ, {"account": self._account}).first()
        return (bytes(row[0]), float(row[1])) if row and row[0] is not None else None
