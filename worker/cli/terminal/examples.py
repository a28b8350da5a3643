"""An example of each command, printed at the end of its help; a test parses each of them."""

from collections.abc import Iterator, Mapping
from typing import Any

SUBSCRIPTION = "7k3v9q0m2x5c4t8b1n6w"
CHARGE = f"r{SUBSCRIPTION}00003"
UID = "ag1prodr7k3v9q0m2x5c4t8b1n6w0000300014"
EXAMPLES: Mapping[str, str] = {
    "up": "again up --data .again",
    "migrate": "again migrate",
    "worker": "again worker --queues charges,charges.bulk --concurrency 8",
    "beat": "again beat",
    "listen": "again listen --host 0.0.0.0 --trust-proxy 10.0.0.0/8",
    "simulator": "again simulator --port 8765",
    "clock": "again clock --next",
    "demo": "again demo --customers 100 --days 30",
    "status": "again status --healthy",
    "alive": "again alive /run/again/alive",
    "find": "again find 010-1234-5678",
    "show": f"again show {CHARGE}",
    "why": "again why ann",
    "customers": "again customers --plan coffee",
    "subscriptions": "again subscriptions --status active --on 2026-12-15 --zone Asia/Seoul",
    "charges": "again charges --status past_due --limit 20",
    "attempts": "again attempts --state declined --plan coffee",
    "due": "again due --on 2026-12-01",
    "forecast": "again forecast --from 2026-12-01 --to 2026-12-31 --plan coffee",
    "held": "again held",
    "unknown": "again unknown",
    "dates": "again dates --anchor 2026-01-31 --unit month --count 6",
    "report recovery": "again report recovery --from 2026-11-01 --to 2026-11-30 --by week",
    "report failures": "again report failures --from 2026-11-01",
    "audit": "again audit --by kim --since 2026-12-01",
    "accounts": "again accounts",
    "plan add": "again plan add coffee --price 9900 --name 'Coffee club' --unit month --time 10:00",
    "plan list": "again plan list --archived",
    "plan show": "again plan show coffee",
    "plan archive": "again plan archive coffee",
    "policy add": "again policy add gentle.toml",
    "policy list": "again policy list --all",
    "policy show": "again policy show standard",
    "policy preview": "again policy preview standard --pg kcp --text 'no balance'",
    "customer add": "again customer add ann-card-1 --name 'Ann Kim' --email ann@example.com",
    "card issue": "again card issue ann-card-1 --pg kcp --why 'asked by telephone'",
    "card pay": "again card pay bob-card-1 9900 --name 'At a till' --request-key order-17 --why 'at the counter'",
    "card show": "again card show ann-card-1",
    "card delete": "again card delete ann-card-1 --end-subscriptions --why 'the account is closed' --dry-run",
    "card changed": "again card changed ann-card-1 --why 'the bank has lifted its block'",
    "card expires": "again card expires ann-card-1 2027-05",
    "subscribe": "again subscribe ann-card-1 coffee --anchor 2026-12-01",
    "unsubscribe": f"again unsubscribe {SUBSCRIPTION} --why 'asked by e-mail' --dry-run",
    "pause": f"again pause {SUBSCRIPTION} --why 'on holiday'",
    "resume": f"again resume {SUBSCRIPTION} --why 'back from holiday'",
    "skip": f"again skip {SUBSCRIPTION} --why 'the delivery was lost'",
    "undo": f"again undo {SUBSCRIPTION} --what skip --why 'the delivery was found'",
    "move-anchor": f"again move-anchor {SUBSCRIPTION} 2026-12-15 --why 'payday is the 15th'",
    "move-time": f"again move-time {SUBSCRIPTION} 21:30 --why 'the salary comes in the evening'",
    "change-plan": f"again change-plan {SUBSCRIPTION} coffee-large --why 'wants more' --dry-run",
    "change-card": f"again change-card {SUBSCRIPTION} ann-card-2 --why 'a new card'",
    "charge": "again charge ann-card-1 9900 --name 'Extra box' --request-key order-18 --why 'extra box' --wait",
    "charge-batch": "again charge-batch extra.csv --name 'Extra box' --why 'December boxes' --dry-run",
    "batch list": "again batch list --limit 10",
    "batch show": "again batch show december-boxes",
    "batch approve": "again batch approve december-boxes --why 'checked against the orders'",
    "batch drop": "again batch drop december-boxes --why 'the wrong file'",
    "batch stop": "again batch stop december-boxes --why 'the amounts are wrong'",
    "batch resume": "again batch resume december-boxes --why 'the amounts are right'",
    "batch watch": "again batch watch december-boxes",
    "batch export": "again batch export december-boxes --out results.csv",
    "refund": f"again refund {CHARGE} --amount 3000 --request-key refund-5 --why 'a damaged box'",
    "refunds": "again refunds --all --limit 20",
    "try": f"again try {CHARGE} --why 'the customer asked for it'",
    "release": f"again release {CHARGE} --why 'looked at and correct'",
    "waive": f"again waive {CHARGE} --why 'goodwill' --dry-run",
    "cancel-charge": f"again cancel-charge {CHARGE} --why 'the wrong price'",
    "paid-elsewhere": f"again paid-elsewhere {CHARGE} --why 'bank transfer of 30 November'",
    "stop-charging": "again stop-charging --why 'the gateway has an incident'",
    "resume-charging": "again resume-charging --why 'the incident is over'",
    "adopt": "again adopt --since 2026-11-30T03:00:00+09:00 --why 'restored from a backup'",
    "reconcile": "again reconcile --from 2026-11-28 --to 2026-11-30",
    "findings": "again findings --all",
    "findings resolve": "again findings resolve 12 --accept --why 'confirmed in the PG console'",
    "findings refund": "again findings refund 12 --why 'paid twice'",
    "declines classify": "again declines classify --pg kcp --text 'over the limit'",
    "declines unplaced": "again declines unplaced --limit 20",
    "declines reclassify": "again declines reclassify",
    "simulate-dunning": "again simulate-dunning --policy standard --customers 5000",
    "events": "again events --dead",
    "events show": "again events show 381",
    "events replay": "again events replay 381 382 --why 'the receiver is repaired'",
    "events skip": "again events skip --before 2026-11-01 --why 'too old to be of use'",
    "events schema": "again events schema charge.paid --json",
    "dead-letters": "again dead-letters --limit 20",
    "dead-letters purge": "again dead-letters purge",
    "import subscriptions": "again import subscriptions customers.csv --why 'moving in' --dry-run",
    "import schedules": "again import schedules ann-card-1 --plan coffee --why 'moving in' --dry-run",
    "export": "again export charges --out charges.csv --bom",
    "archive": "again archive --before 2025-10 --dry-run",
}


def add_to_help(top: Any) -> None:
    """Add each command's example to the end of its help."""
    for path, command in commands_of(top):
        if path in EXAMPLES:
            _add(command, EXAMPLES[path])
    for path, group in groups_of(top):
        if path not in EXAMPLES:  # a group: use the example of its first command
            _add(group, next(text for name, text in EXAMPLES.items() if name.startswith(f"{path} ")))


def _add(command: Any, example: str) -> None:
    # \b: the formatter must not wrap the lines, which are copied as they are.
    command.epilog = f"\b\nExample:\n  {example}"


def groups_of(top: Any) -> Iterator[tuple[str, Any]]:
    """Every command group with its name."""
    return ((name, each) for name, each in top.commands.items() if getattr(each, "commands", {}))


def commands_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its path, for example `plan add`."""
    below = getattr(command, "commands", {})
    if path and (not below or command.invoke_without_command):
        yield " ".join(path), command
    for name, each in below.items():
        yield from commands_of(each, (*path, name))
