"""Payment webhooks: a webhook causes a look-up at the gateway; its content is never used."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from schedules.charging.charges import AttemptState
from schedules.charging.outcomes import GatewayPayment
from worker.charging import resolve_unknown
from worker.charging.account_threads import Begin, nothing
from worker.charging.match_payments import compare
from worker.clock import wait
from worker.customers import cards
from worker.gateway.port import Found
from worker.services import Services, UnusableAccount
from worker.store.charging import attempts, rates
from worker.store.customers import customers

log = logging.getLogger("again.payment_webhooks")
WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of look-ups a second that webhooks cause for an account, and how long one may wait."""

    name: str
    rate: float
    patience: float


# Two limits, so that made-up uids do not keep webhooks about real debts from being looked up: each has a bucket
# of the account, for its rate and for its threads.
OURS = Limit("webhooks", 5.0, 2.0)
FOREIGN = Limit("other webhooks", 1.0, 0.0)  # none waits for its turn


def hear(services: Services, merchant_uid: str, begin: Begin) -> None:
    """Begin to compare the payments of a uid like the reconciler, and to look up a card for which charges wait.

    A webhook does not name its account: the charge does, and without a charge all accounts are queried. Anyone may
    send a webhook, so the calls that they cause are limited for each account. A webhook beyond the limit is
    dropped: the reconciler, the look-ups of unknown attempts and the daily look-up of cards find the same later.
    """
    with services.engine.begin() as db:
        state = attempts.state_of(db, merchant_uid)
        account = attempts.account_of(db, merchant_uid)
    if state is not None and state[1] in (AttemptState.PAID, AttemptState.SENDING):
        return  # the outcome is known, or a call is under way
    unknown = state[0] if state is not None and state[1] is AttemptState.UNKNOWN else None
    limit = FOREIGN if account is None else OURS
    for name in services.account_names if account is None else (account,):
        look_up = partial(_look_in_turn, services, name, limit, merchant_uid, unknown)
        if_stopped = nothing if unknown is None else partial(resolve_unknown.make_due, services, unknown)
        if not begin(_bucket(name, limit), merchant_uid, look_up, if_stopped):
            log.warning("a webhook is dropped: account %s has enough look-ups that wait, or a stop began", name)


def _look_in_turn(services: Services, account: str, limit: Limit, merchant_uid: str, unknown: int | None) -> None:
    """Look, unless the limit is reached: then an unknown attempt keeps the time of its next look-up."""
    if not _may_look(services, account, limit):
        return
    if unknown is None:
        _look(services, account, merchant_uid)
        return
    resolve_unknown.make_due(services, unknown)
    resolve_unknown.ask(services, unknown)


def _bucket(account: str, limit: Limit) -> str:
    return f"{account}/{limit.name}"


def _may_look(services: Services, account: str, limit: Limit) -> bool:
    with services.engine.begin() as db:
        seconds = rates.grant(db, _bucket(account, limit), limit.rate, limit.patience)
    if seconds is None:
        log.warning("a webhook is dropped: account %s has %g look-ups a second for these", account, limit.rate)
        return False
    wait(seconds)
    return True


def _look(services: Services, account: str, merchant_uid: str) -> None:
    gateway = services.gateway_if_ours(account)
    if gateway is None:
        return
    answer = gateway.find_all(merchant_uid)
    if not isinstance(answer, Found):
        log.info("%s: the gateway did not tell: %s", merchant_uid, answer.reason)
        return  # the reconciler and the daily look-up of cards find it without a webhook
    compare(services, account, answer.payments)
    for customer_uid in _waited_for(services, answer.payments):
        try:
            cards.changed(services, customer_uid, WEBHOOK, None, believed=False)
        except (cards.CannotChange, UnusableAccount) as error:
            log.info("%s", error)


def _waited_for(services: Services, payments: Sequence[GatewayPayment]) -> Sequence[str]:
    named = sorted({payment.customer_uid for payment in payments if payment.customer_uid is not None})
    with services.engine.begin() as db:
        return customers.waited_for(db, named)
