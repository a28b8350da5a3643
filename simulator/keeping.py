"""Store a shop in a file: changes are written before the answer is sent, and read at the next start."""

from dataclasses import asdict
from typing import Any

from simulator.cards import SimulatedCard
from simulator.faults_file import read_faults
from simulator.kept import FAULTS, WEBHOOKS, Kind, Records
from simulator.ledger import Movement
from simulator.payments import Key, Order, Payment
from simulator.schedules import Entry, Schedules
from simulator.shop import Shop
from simulator.webhooks import Webhooks
from simulator.words import Scenario


class Keeping:
    """Writes the changed records whenever the shop saves.

    Counts of traffic and the access token are not stored: a client gets a new token, as after any 401.
    """

    def __init__(self, records: Records, shop: Shop, schedules: Schedules, webhooks: Webhooks) -> None:
        self._records, self._shop, self._schedules, self._webhooks = records, shop, schedules, webhooks

    def restore(self, *, with_faults: bool) -> None:
        """Load everything from the file, then store changes in it."""
        shop, read = self._shop, self._records.read
        for name, document in read(Kind.KEY):
            shop.keys[name] = Key(**document | {"card": _card(document["card"])})
        for _, document in read(Kind.PAYMENT):
            parts = {"card": _card(document["card"]), "order": Order(**document["order"])}
            # The process ended, so the call got no answer.
            shop.take_back(Payment(**document | parts | {"call_is_open": False}))
        for _, document in read(Kind.MOVEMENT):
            shop.ledger.take_back(Movement(**document))
        for _, document in read(Kind.ENTRY):
            self._schedules.take_back(Entry(**document | {"order": Order(**document["order"])}))
        shop.prepared.update(read(Kind.PREPARED))
        settings = dict(read(Kind.SETTING))
        if with_faults and FAULTS in settings:
            shop.faults = read_faults(settings[FAULTS])
        if WEBHOOKS in settings:
            self._webhooks.url, self._webhooks.content_type = settings[WEBHOOKS]
        shop.changed, shop.is_forgotten, shop.save = set(), False, self.save

    def save(self) -> None:
        """Write the changes since the last save."""
        changed = self._shop.changed
        if not changed and not self._shop.is_forgotten:
            return
        documents = [(kind, name, self._document(kind, name)) for kind, name in changed or ()]
        self._records.write(documents, afresh=self._shop.is_forgotten)
        self._shop.changed, self._shop.is_forgotten = set(), False

    def _document(self, kind: Kind, name: str) -> Any:
        """A record as JSON; None for one that was removed."""
        shop = self._shop
        match kind:
            case Kind.KEY:
                return asdict(shop.keys[name]) if name in shop.keys else None
            case Kind.PAYMENT:
                return asdict(shop.payments[name]) if name in shop.payments else None
            case Kind.MOVEMENT:
                number = int(name)
                movements = shop.ledger.movements
                return asdict(movements[number]) if number < len(movements) else None
            case Kind.ENTRY:
                entry = self._schedules.entries.get(name)
                return asdict(entry) if entry is not None else None
            case Kind.PREPARED:
                return shop.prepared.get(name)
            case Kind.SETTING if name == FAULTS:
                return shop.faults.as_json()
            case _:
                return [self._webhooks.url, self._webhooks.content_type]


def _card(document: dict[str, Any]) -> SimulatedCard:
    return SimulatedCard(**document | {"scenario": Scenario(document["scenario"])})
