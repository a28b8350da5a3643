"""`--dry-run`: carry out a command in a transaction, print its result and changes, and roll it back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.terminal.output import as_words, os_user, print_json, say, wants_json, with_currency

if TYPE_CHECKING:
    from worker.services import DryRunChanges
    from worker.task_api.verbs import Context

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done; nothing is.")]
# Ids that mean nothing outside of the database, and facts that the printed sentence contains.
HIDDEN = frozenset({
    "id", "created_at", "subscription_id", "customer_id", "billing_key_id", "plan_id", "policy_id",
    "request_fingerprint",
})  # fmt: skip
# The printed names of the columns of subscriptions and charges.
WORDS: Mapping[str, str] = {
    "key": "key", "status": "status", "held_why": "held because", "account": "gateway account",
    "anchor": "anchor", "anchor_no": "number of the period at the anchor",
    "anchor_day": "day of the month asked for",
    "next_period_no": "next period", "next_period_date": "next period begins", "next_due_at": "next charge is due",
    "open_at": "next period is opened", "ends_at": "ends", "tell_at": "next charge is announced",
    "told_as": "announced as", "external_ref": "reference of the system before", "plan_code": "plan",
    "another": "beside another subscription to the plan", "trial_of": "trial of plan",
    "billing_time": "billing time",
    "skip_to": "periods below this number are skipped",
    "kind": "kind", "period_no": "period", "request_key": "request key", "keyed_in": "card is typed in",
    "amount": "amount", "currency": "currency", "name": "name on the statement", "due_at": "due",
    "next_attempt_at": "next try", "queued_until": "message in the broker until", "attempts": "tries",
    "declines": "declines", "technical_tries": "technical failures", "refusals": "refusals of the gateway",
    "unanswered_tries": "tries without an answer", "manual_tries": "tries by hand",
    "first_declined_at": "first declined", "ladder_began_at": "retries are counted from", "waits": "waits for",
    "tried_by": "next try is asked for by", "planned_at": "retries go on", "look_at": "next change by time alone",
    "card_since": "on its present card since", "given_up": "final action", "refunded": "refunded",
    "closed_at": "closed", "closed_why": "closed because", "archived_at": "archived", "asked_at": "asked for",
    "unapproved_actor": "asked for, not approved yet, by", "unapproved_os_user": "system user of who asked for it",
}  # fmt: skip


def context(*, dry_run: bool) -> "Context":
    """The context of a command; with `dry_run` its changes are rolled back."""
    from worker import tasks
    from worker.services import DryRunChanges

    made = replace(tasks.context(), os_user=os_user())
    return replace(made, services=replace(made.services, dry_run=DryRunChanges())) if dry_run else made


def facts_of(at: "Context") -> dict[str, Any]:
    """For JSON: whether this was a dry run, and its changes."""
    dry_run = at.services.dry_run
    if dry_run is None:
        return {"dry_run": False}
    changes = {
        name: {"from": was, "to": becomes}
        for name, (was, becomes) in dry_run.changes.items()
        if name not in HIDDEN
    }
    return {"dry_run": True, "changes": changes}


def print_if_dry_run(at: "Context", what: str, document: Mapping[str, Any] | None = None) -> bool:
    """In a dry run, print what would have been done; return whether it was one.

    With --json the document and the changes are printed instead; without a document it was printed before.
    """
    dry_run = at.services.dry_run
    if dry_run is None:
        return False
    if document is not None and wants_json():
        print_json(dict(document) | facts_of(at))
    say(f"nothing is done; it would {what}")
    before, after = (_in_words(dry_run, side) for side in (0, 1))
    for name, (was, becomes) in dry_run.changes.items():
        if name not in HIDDEN and was is not None:
            say(f"  {WORDS[name]}: {before[name]} -> {'none' if becomes is None else after[name]}")
        elif name not in HIDDEN:
            say(f"  {WORDS[name]}: {after[name]}")
    return True


def _in_words(dry_run: "DryRunChanges", side: int) -> dict[str, str]:
    """The changed facts before (0) or after (1) the command, with amounts in the currency of the subject."""
    facts = {name: change[side] for name, change in dry_run.changes.items()}
    shown = facts | with_currency(facts | {"currency": dry_run.currency})
    return {name: as_words(value) for name, value in shown.items()}
