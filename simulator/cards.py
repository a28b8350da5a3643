"""Simulated cards: they approve, decline with a gateway's own texts, expire, or approve on the k-th try."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from simulator.words import MORE_PROVIDERS, PROVIDERS, SCENARIOS, Scenario, words_of

KOREA = timezone(timedelta(hours=9))
PAYDAY_DAYS = 5  # days with money after payday
_FIELDS = {"customer_uid", "card", "card_number", "pg", "shape", "k"}


class BadCard(ValueError):
    """A card that the simulator does not know; the message lists what exists."""


@dataclass(slots=True)
class SimulatedCard:
    """A card and its behaviour; `tries` and `approvals` count its charges."""

    scenario: Scenario = Scenario.APPROVE
    provider: str = "kcp"
    shape: str = "A"  # A: code 0 and status failed; B: code -1 and no payment in the answer
    k: int = 0
    masked: str = "53331234****1234"  # the card number as a gateway shows it; the full number is not stored
    pg_id: str = "simulated"
    tries: int = 0
    approvals: int = 0

    def refusal(self, now: float) -> str | None:
        """Count a try; return the decline text, or None when the card approves."""
        self.tries += 1
        scenario = self._scenario_now(now)
        if scenario is Scenario.APPROVE:
            self.approvals += 1
            return None
        return words_of(self.provider, scenario, self.k)

    def _scenario_now(self, now: float) -> Scenario:
        match self.scenario:
            case Scenario.APPROVE_ON_TRY:
                return Scenario.APPROVE if self.tries >= self.k else Scenario.NO_MONEY
            case Scenario.APPROVE_TIMES:
                return Scenario.APPROVE if self.approvals < self.k else Scenario.EXPIRED
            case Scenario.PAYDAY:
                day = datetime.fromtimestamp(now, KOREA).day
                return Scenario.APPROVE if self.k <= day < self.k + PAYDAY_DAYS else Scenario.NO_MONEY
            case Scenario.REFUSE_ISSUE:
                return Scenario.DO_NOT_HONOR
            case _:
                return self.scenario


def card_from_number(number: str, pg: str | None = None) -> SimulatedCard:
    """The card of a number: 4000 00PP SSSB KKKK; any other number of 14 to 16 digits approves.

    PP is the gateway, SSS the scenario, B the shape of a decline (0 is A, 1 is B), KKKK is k. For other numbers
    `pg` names the gateway, as `gateway` or `gateway.MID`; an unknown one becomes `kcp`.
    """
    digits = "".join(sign for sign in number if sign.isdecimal())
    if not 14 <= len(digits) <= 16:
        raise BadCard("the card number has not 14 to 16 digits")
    masked = _mask(digits)
    if not digits.startswith("400000") or len(digits) != 16:
        provider, _, mid = (pg or "").partition(".")
        known = provider in PROVIDERS or provider in MORE_PROVIDERS
        return SimulatedCard(
            provider=provider if known else "kcp", masked=masked, pg_id=(known and mid) or "simulated"
        )
    place, scenario, shape = int(digits[6:8]), int(digits[8:11]), digits[11]
    if place >= len(PROVIDERS) or scenario >= len(SCENARIOS) or shape not in "01":
        raise BadCard("the card number names a gateway, scenario or shape that there is not")
    return SimulatedCard(SCENARIOS[scenario], PROVIDERS[place], "AB"[int(shape)], int(digits[12:]), masked)


def card_from_words(document: Mapping[str, object]) -> SimulatedCard:
    """The card of a JSON document: {"card": "no_money", "k": 0, "pg": "kcp", "shape": "A"} or a card_number."""
    unknown = sorted(set(document) - _FIELDS)
    if unknown:
        raise BadCard(f"{unknown[0]}: there is no such field; there are {', '.join(sorted(_FIELDS))}")
    if "card_number" in document:
        return card_from_number(str(document["card_number"]))
    name = str(document.get("card", "approve"))
    provider = str(document.get("pg", "kcp"))
    shape = str(document.get("shape", "A"))
    k = document.get("k", 0)
    if name not in set(Scenario):
        raise BadCard(f"card: {name!r} is not known; there are {', '.join(Scenario)}")
    if provider not in PROVIDERS and provider not in MORE_PROVIDERS:
        raise BadCard(f"pg: {provider!r} is not known; there are {', '.join(PROVIDERS + MORE_PROVIDERS)}")
    if shape not in ("A", "B"):
        raise BadCard(f"shape: {shape!r} is neither A nor B")
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise BadCard(f"k: {k!r} is not a whole number of 0 or more")
    return SimulatedCard(Scenario(name), provider, shape, k)


def _mask(digits: str) -> str:
    shown = 8 if len(digits) == 16 else 6  # at least four digits stay hidden
    return f"{digits[:shown]}****{digits[-4:]}"
