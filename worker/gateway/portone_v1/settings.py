"""What the client of PortOne V1 needs to know of an account."""

from dataclasses import dataclass, field

from worker.addresses import check_behind_proxy, check_gateway
from worker.certificates import CertificateFiles
from worker.gateway.timeouts import BadGatewaySettings, Timeouts


@dataclass(frozen=True, slots=True)
class PortOneSettings:
    """One PortOne account; the repr shows no secret."""

    base_url: str
    imp_key: str = field(repr=False)
    imp_secret: str = field(repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tier: str | None = None  # a sub-merchant's code of three characters
    # Test-channel payments are answered with 404 by GET /payments/{imp_uid}, and by no other call, without it.
    include_sandbox: bool = False
    proxy_url: str | None = field(default=None, repr=False)  # may hold a password; for https:// addresses
    certificates: CertificateFiles = field(default_factory=CertificateFiles)

    def __post_init__(self) -> None:
        try:
            check_gateway(self.base_url)
            if self.proxy_url is not None:
                check_behind_proxy(self.base_url)
        except ValueError as error:
            raise BadGatewaySettings(f"the address of the gateway is wrong: {error}") from None
        if not (self.imp_key and self.imp_secret):
            raise BadGatewaySettings("imp_key and imp_secret must both be given")
        if self.tier is not None and not (self.tier.isascii() and self.tier.isalnum()):
            raise BadGatewaySettings(f"tier {self.tier!r} is not a code of letters and digits")
