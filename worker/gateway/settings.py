"""What the gateway's client needs to be told: the account, and how long to wait for what."""

from dataclasses import dataclass, field

from worker.addresses import check_behind_proxy, check_gateway
from worker.certificates import CertificateFiles


class BadGatewaySettings(ValueError):
    """Settings that cannot be worked with; says which and why, never a secret."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of patience for each phase of a call, and for the whole of it."""

    connect: float = 5  # a host that is up answers in well under one
    read: float = 60  # PortOne's own figure for calls that move money: it waits that long for the bank
    write: float = 10  # a request is under 2 kB
    # All of a call: token, sending, a repetition after a 401. Above the read time-out, so that a slow bank
    # is waited for; below the lease, so that nobody else sends while we still may.
    deadline: float = 75

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "deadline"):
            if not getattr(self, name) > 0:
                raise BadGatewaySettings(f"time-out {name} is {getattr(self, name)}; give seconds above 0")
        if self.read >= self.deadline:
            raise BadGatewaySettings(f"read time-out {self.read} is not below the deadline {self.deadline}")


@dataclass(frozen=True, slots=True)
class PortOneSettings:
    """One PortOne account; the repr shows no secret."""

    base_url: str
    imp_key: str = field(repr=False)
    imp_secret: str = field(repr=False)
    timeouts: Timeouts = Timeouts()
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
