"""Hearing: a webhook says that something has happened; what it was is read from the gateway, never from it."""

import logging
from collections.abc import Sequence

from schedules.charges import AttemptState
from schedules.outcomes import GatewayPayment
from worker.gateway.port import Found
from worker.store import attempts, customers
from worker.workflows import asking, cards
from worker.workflows.comparing import compare
from worker.workflows.services import Services

log = logging.getLogger("again.hearing")
WEBHOOK = "webhook"


def hear(services: Services, merchant_uid: str) -> None:
    """Look at the payments of a uid as the reconciler would, and whether a card that is waited for has changed.

    A webhook does not say which account it is about: the debt does, and for what is no debt of ours all are asked.
    """
    with services.engine.begin() as db:
        state = attempts.state_of(db, merchant_uid)
        account = attempts.account_of(db, merchant_uid)
        if state is not None and state[1] is AttemptState.UNKNOWN:
            attempts.ask_now(db, state[0], services.clock.now())
    match state:
        case (_, AttemptState.PAID | AttemptState.SENDING):
            return  # we know, or are being told at this moment
        case (attempt_id, AttemptState.UNKNOWN):
            asking.ask(services, attempt_id)
            return
    for name in services.gateways if account is None else (account,):
        _look(services, name, merchant_uid)


def _look(services: Services, account: str, merchant_uid: str) -> None:
    answer = services.gateway(account).find_all(merchant_uid)
    if not isinstance(answer, Found):
        log.info("%s: the gateway did not tell: %s", merchant_uid, answer.reason)
        return  # the reconciler and the daily look at cards find it without a webhook
    compare(services, account, answer.payments)
    for customer_uid in _waited_for(services, answer.payments):
        try:
            cards.changed(services, customer_uid, WEBHOOK, None, believed=False)
        except cards.CannotChange as error:
            log.info("%s", error)


def _waited_for(services: Services, payments: Sequence[GatewayPayment]) -> Sequence[str]:
    named = sorted({payment.customer_uid for payment in payments if payment.customer_uid is not None})
    with services.engine.begin() as db:
        return customers.waited_for(db, named)
