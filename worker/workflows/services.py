"""What every workflow is given: settings, a clock, the database and the gateways."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from schedules.errors import ToldInWords
from worker.clock import Clock
from worker.config import Settings
from worker.gateway.port import Gateway


class UnknownAccount(ToldInWords, LookupError):
    """A charge belongs to a gateway account that this worker has no credentials for."""


@dataclass(frozen=True, slots=True)
class Services:
    """The real parts, wired together once for each operating-system process."""

    settings: Settings
    clock: Clock
    engine: Engine
    gateways: Mapping[str, Gateway]
    fingerprint: str  # of this environment and this very database; no copy has the same

    def gateway(self, account: str) -> Gateway:
        """The gateway of an account."""
        try:
            return self.gateways[account]
        except KeyError:
            known = ", ".join(self.gateways)
            raise UnknownAccount(
                f"no credentials for gateway account {account!r}; this worker has: {known}"
            ) from None
