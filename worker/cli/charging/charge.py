"""`again charge`: a charge outside of any plan, and its outcome."""

from datetime import datetime
from typing import Annotated

import typer

from schedules.charging.charges import AttemptState, ChargeStatus
from schedules.charging.reasons import Reason
from schedules.dunning.policies import ONCE
from schedules.errors import Code, OwnCode
from schedules.money.amounts import parse_money
from schedules.requests.adhoc import ChargeRequest
from worker.charging import adhoc
from worker.cli.terminal import output
from worker.cli.terminal.dry_run import DryRun, context, facts_of, print_if_dry_run
from worker.cli.terminal.output import Actor, actor, print_json, say, wants_json
from worker.clock import elapsed, wait
from worker.renewals import enqueue
from worker.reporting import explain, history
from worker.reporting.explain import Why
from worker.reporting.history import Story
from worker.services import Services

LOOK_EVERY = 0.5  # seconds

app = typer.Typer()


class NotPaid(OwnCode):
    """The charge has not been paid."""


@app.command("charge")
def charge(
    customer_uid: Annotated[str, typer.Argument(help="The customer's billing key.")],
    amount: Annotated[str, typer.Argument(help="How much, in major units: 9900, or 12.34.")],
    name: Annotated[str, typer.Option(help="On the customer's statement, at most 40 characters.")],
    request_key: Annotated[
        str, typer.Option(help="Your own key of this debt: given again, it answers with the same charge.")
    ],
    why: output.Why,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "KRW",
    policy: Annotated[
        str, typer.Option(help="The policy by which it is tried again; `once` gives up after a decline.")
    ] = ONCE.code,
    wait: Annotated[bool, typer.Option("--wait", help="Show what becomes of it, until it is over.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 120,
    dry_run: DryRun = False,
    who: Actor = actor(),
) -> None:
    """Charge a customer once, outside any plan; a worker collects it at once."""
    request = ChargeRequest(
        customer_uid=customer_uid, money=parse_money(amount, currency), name=name, request_key=request_key,
        reason=why, policy=policy,
    )  # fmt: skip
    at = context(dry_run=dry_run)
    asked = adhoc.charge(at.services, request, who, at.os_user)
    would = f"charge {request.money} to {customer_uid}" if asked.is_new else "do nothing: it was asked for before"
    if print_if_dry_run(at, would, {"charge": asked.key, "is_new": asked.is_new, "held_why": asked.held_why}):
        if asked.held_why is not None:
            say(f"  it would wait: {asked.held_why}")
        return
    enqueue.send_now(at.services, asked.id, at.publish)
    before = "" if asked.is_new else ", as it was asked for before"
    say(f"charge {asked.key}: {request.money} to {customer_uid} is {asked.status}{before}")
    if asked.held_why is not None:
        say(f"it waits: {asked.held_why}; `again release {asked.key} --why …`")
    ended = _waited_for(at.services, asked.key, timeout) if wait else None
    if wants_json():
        print_json(history.charge_status(at.services, asked.key, None) | {"is_new": asked.is_new} | facts_of(at))
    if ended is not None:
        raise NotPaid(*ended)


def _waited_for(services: Services, key: str, timeout: float) -> tuple[Code, str] | None:
    """Show the history of a charge until it is paid (None) or stops otherwise (the code and reason)."""
    until, seen = elapsed() + timeout, 0
    while True:
        # Before the history, which is then not older than the reason.
        (why,) = explain.why(services, key)
        story = history.show(services, key)
        for happening in story.happenings[seen:]:
            say(f"  {happening.at:%Y-%m-%d %H:%M:%S}Z {happening.what}: {happening.words}")
        seen = len(story.happenings)
        if story.facts["status"] == ChargeStatus.PAID:
            return None
        if (code := code_at_rest(story, why, services.clock.now())) is not None:
            return code, why.sentence
        if elapsed() > until:
            return Code.UNKNOWN, f"not paid after {timeout:g} seconds: {why.sentence}"
        wait(LOOK_EVERY)


def code_at_rest(story: Story, why: Why, now: datetime) -> Code | None:
    """The code of a charge for which nothing will happen soon; None while something may happen."""
    match why.reason:
        case Reason.CLOSED:
            gave_up = story.facts["status"] == ChargeStatus.UNCOLLECTIBLE
            return Code.DECLINED if gave_up else Code.CONFLICT
        case Reason.HELD:
            return Code.HELD
        case Reason.SCHEDULED | Reason.WAITS_FOR_CARD | Reason.CARD_STOPPED | Reason.CARD_CAP | Reason.LOOK_UP:
            # An attempt that was not sent is sent again: the charge is not declined.
            ended = story.parts and not AttemptState(story.parts[-1]["state"]).is_unresolved
            again = story.facts["next_attempt_at"]
            return Code.DECLINED if ended and (again is None or again > now) else None
        case _:
            return None
