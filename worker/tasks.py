"""The Celery tasks: each reads ids and calls one function. Messages are hints; the rows decide what is done."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from celery.signals import worker_shutting_down
from kombu.exceptions import OperationalError

from schedules.charging.charges import ChargeKind
from schedules.operations.queues import BULK, CHARGES, EVENTS, OPS, RECONCILE, REQUESTS
from worker import restore_detector, wiring
from worker.app import app as app  # imported from here, it has the tasks registered
from worker.batches import run_batch
from worker.broker.transient_failures import returned_if_transient, rung_again
from worker.charging import overdue, resolve_unknown, unsendable
from worker.charging.account_places import AccountPlaces, most_charges, most_envelopes
from worker.charging.executor import Executor
from worker.clock import elapsed, wait
from worker.customers import cards
from worker.onboarding import takeover
from worker.outbox import announcements, delivery
from worker.reconciliation import payment_webhooks, reconciler, restore
from worker.refunds import duplicates, refund_payment
from worker.renewals import enqueue, open_charges
from worker.runtime import outages, stop_signal
from worker.services import Services
from worker.task_api import answers, verbs
from worker.task_api.request_places import RequestPlaces
from worker.wiring import services

log = logging.getLogger("again.tasks")
OURS = "again."  # prefix of the names of these tasks
QUEUE_OF = {ChargeKind.ADHOC: CHARGES, ChargeKind.RENEWAL: BULK}
PUBLISH_BATCH = 500  # messages in one round trip to the broker
SLICE = 45.0  # seconds that long work occupies a thread; the next message of beat continues it
# Seconds; beat sends a chore that waits longer again. Both sides judge by the clock of the database: the sender
# has compared its own clock with it; for the worker see `messages.accepted_headers`.
CHORE_EXPIRES = 600.0
MOST_NOTICES = 2000  # messages in the queue above which webhooks are refused; PortOne may send them again
# One thread of a process delivers at a time, so that a receiver that hangs blocks only one.
_delivers = threading.Lock()
# One thread dispatches: beat sends a message each second, and a backlog is topped up more often than that.
_dispatches = threading.Lock()
_request_places = RequestPlaces()
_places = AccountPlaces()
DISPATCH_SLICE = 2.0  # seconds
DISPATCH_PAUSE = 0.15  # seconds between two passes while more is due


@app.task(name="again.open_due", queue=OPS)
@rung_again
def open_due(plan_id: int) -> None:
    """Open the due periods of one plan, and dispatch them."""
    if open_charges.open_due(services(), plan_id):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.open_missed", queue=OPS)
@rung_again
def open_missed() -> None:
    """Open due periods of all plans that no message of beat named."""
    if open_charges.open_due(services()):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.dispatch", queue=OPS)
@rung_again
def dispatch() -> None:
    """Publish due charges as messages, up to the bound, while more are due."""
    if not _dispatches.acquire(blocking=False):
        return
    try:
        until = elapsed() + DISPATCH_SLICE
        queued = enqueue.top_up(services(), publish_charges, _charges_waiting, publish_envelopes)
        while queued and elapsed() < until and enqueue.is_more_due(services()):
            wait(DISPATCH_PAUSE)
            enqueue.top_up(services(), publish_charges, publish_many=publish_envelopes)
    finally:
        _dispatches.release()


@app.task(name="again.charge", queue=BULK)
@rung_again
def charge(charge_id: int, account: str = "") -> None:
    """Try once to collect a charge."""
    carry_out(charge_id, account, str((charge.request.delivery_info or {}).get("routing_key", BULK)))


@app.task(name="again.charge_many", queue=BULK)
@rung_again
def charge_many(charge_ids: list[int], account: str = "") -> None:
    """Try once to collect each charge of an envelope: many due charges of one account."""
    carry_out_envelope(charge_ids, account)


def carry_out(charge_id: int, account: str, queue: str) -> None:
    """Try a charge; give it back to the queue when this process cannot send it now."""
    if stop_signal.is_told() or _may_not_send(account):
        enqueue.give_back(services(), [charge_id])
        return
    charges = _places.of(account).charges[queue]
    taken = charges.take(most_charges(services()))
    if taken is None:
        enqueue.give_back(services(), [charge_id])
        return
    try:
        executor().attempt(charge_id)
    finally:
        charges.give(taken)


def carry_out_envelope(charge_ids: Sequence[int], account: str) -> None:
    """Try each charge if the account has a free thread in this process; otherwise give them back."""
    if _may_not_send(account):
        enqueue.give_back(services(), charge_ids)
        return
    places = _places.of(account)
    if not places.envelopes.take(most_envelopes(services())):
        enqueue.give_back(services(), charge_ids)
        return
    try:
        with places.opens:
            under_way = executor().begin_many(charge_ids, account)
        try:
            if under_way.not_begun:
                enqueue.give_back(services(), under_way.not_begun)
        finally:
            under_way.wait()
    finally:
        places.envelopes.give()


def _may_not_send(account: str) -> bool:
    readiness = executor().readiness
    return readiness.obstacle is not None or readiness.rests(account)


@worker_shutting_down.connect
def _stop_soon(**_: object) -> None:
    stop_signal.begin()


def executor() -> Executor:
    """The executor of this process, with the accounts that its files hold now."""
    services()  # reads changed files
    return wiring.executor()


@app.task(name="again.sweep", queue=OPS)
@rung_again
def sweep() -> None:
    """Take over attempts of workers whose lease has expired."""
    resolve_unknown.sweep(services())


@app.task(name="again.set_aside_unsendable", queue=OPS)
@rung_again
def set_aside_unsendable() -> None:
    """Set aside charges whose gateway account is not configured."""
    unsendable.set_aside_unsendable(services())


@app.task(name="again.ask_due", queue=OPS)
@rung_again
def ask_due() -> None:
    """Begin the look-ups of unknown attempts that are due, in this process."""
    resolve_unknown.begin_due(services(), executor().look_ups.begin)


@app.task(name="again.ask", queue=RECONCILE)
def ask(_attempt_id: int) -> None:
    """Do nothing: an earlier version sends it, and the look-up stays due. Remove it after the first release."""


@app.task(name="again.reconcile", queue=RECONCILE)
@rung_again
def reconcile() -> None:
    """Begin the runs of the reconciler that are due, and continue unfinished ones."""
    _for_each_account("the reconciliation", reconciler.run_due)


@app.task(name="again.refund", queue=RECONCILE)
@rung_again
def refund() -> None:
    """Begin the approved refunds of duplicates, and the requested refunds, in this process."""
    duplicates.refund_due(services(), executor().chores.begin)
    refund_payment.make_due(services(), executor().chores.begin)


@app.task(name="again.run_batches", queue=OPS)
@rung_again
def run_batches() -> None:
    """Open the next lines of the running batches."""
    if run_batch.go_on(services(), _slice()):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.take_over", queue=RECONCILE)
@rung_again
def take_over() -> None:
    """Continue the takeovers from the gateway's timer that were begun."""
    _for_each_account("the takeovers", takeover.go_on)


@app.task(name="again.lift_hold", queue=RECONCILE)
@rung_again
def lift_hold() -> None:
    """Continue what a restored database needs before its hold ends."""
    may_continue, made = _slice(), services()
    executor().chores.begin("hold", "the hold", lambda: restore.lift_when_known(made, may_continue))


@app.task(name="again.chase", queue=OPS)
@rung_again
def chase() -> None:
    """Apply what the passing of time changes for declined debts."""
    overdue.look_due(services(), _slice())


@app.task(name="again.announce", queue=OPS)
@rung_again
def announce() -> None:
    """Enqueue the events that announce charges and ends of subscriptions."""
    announcements.announce_due(services(), _slice())


@app.task(name="again.notified", queue=RECONCILE)
def notified(merchant_uid: str) -> None:
    """Look up the payment that a webhook names; the rest of its content is not trusted."""
    with returned_if_transient("again.notified"):
        payment_webhooks.hear(services(), merchant_uid, executor().webhook_look_ups.begin)


def hand_on(merchant_uid: str) -> None:
    """Publish the look-up of the payment of a webhook; raises BrokerUnreachable when it cannot be published."""
    if messages_in(RECONCILE) >= MOST_NOTICES:
        raise enqueue.BrokerUnreachable(f"{MOST_NOTICES} messages wait for a worker that takes {RECONCILE!r}")
    with app.producer_or_acquire() as producer:
        lost = (OperationalError, *producer.connection.connection_errors, *producer.connection.channel_errors)
        try:
            # With a wrong clock, the expiry may have passed already.
            lasts: dict[str, Any] = {} if services().clock_check.is_wrong else {"expires": CHORE_EXPIRES}
            notified.apply_async((merchant_uid,), producer=producer, **lasts)
        except lost as error:
            raise enqueue.BrokerUnreachable(f"the broker took no message: {error}") from error


@app.task(name="again.look_at_cards", queue=RECONCILE)
@rung_again
def look_at_cards() -> None:
    """Look up whether the cards that debts wait for have changed."""
    _for_each_account("the looks at cards", cards.look_due)


@app.task(name="again.deliver", queue=EVENTS)
@rung_again
def deliver() -> None:
    """Deliver waiting events to the shop's webhook address."""
    if not _delivers.acquire(blocking=False):
        return
    try:
        delivery.deliver_due(services(), _slice())
    finally:
        _delivers.release()


@app.task(name="again.mark", queue=OPS)
@rung_again
def detect_restore() -> None:
    """Check whether the database was restored from a backup, and record its present position."""
    restore_detector.check(app, services())


def _register(verb: Callable[..., verbs.Answer]) -> None:
    """Register a verb as a task. A wrong request gets an answer too."""

    @app.task(name=f"again.{verb.__name__}", queue=REQUESTS, ignore_result=False)
    def task(*positional: object, **named: Any) -> verbs.Answer:
        with returned_if_transient(f"again.{verb.__name__}"), _request_places.request(_request_share()) as take:
            return answers.answer(context(take), verb, positional, named)


def _for_each_account(name: str, work: Callable[[Services, str, Callable[[], bool]], object]) -> None:
    """Begin a chore that calls the gateway, for each account on threads of its own: see `AccountThreads`."""
    may_continue, made = _slice(), services()
    for account in made.account_names:
        executor().chores.begin(account, name, partial(work, made, account, may_continue))


def _slice() -> Callable[[], bool]:
    """Return whether long work may continue: for SLICE seconds, until a stop signal."""
    until = elapsed() + SLICE
    return lambda: elapsed() < until and stop_signal.is_not_told()


def context(before_calls: Callable[[str], object] = lambda _: None) -> verbs.Context:
    """The context of one verb in this process."""
    return verbs.Context(replace(services(), before_calls=before_calls), publish_charges)


def _request_share() -> int:
    """How many threads requests of one account may occupy with calls: one less than its envelopes may."""
    return max(1, most_envelopes(services()) - 1)


for _verb in verbs.VERBS:
    _register(_verb)


@cache
def allowed_on(queue: str) -> frozenset[str]:
    """The names of the tasks that a queue may contain: its own, and none of Celery's built-in tasks."""
    tasks: dict[str, Any] = app.tasks
    own = {name for name, task in tasks.items() if name.startswith(OURS) and task.queue == queue}
    return frozenset(own | ({charge.name, charge_many.name} if queue in QUEUE_OF.values() else set()))


def publish_charges(queued: Sequence[enqueue.Queued]) -> None:
    """Publish one message for each charge, in batches; raises BrokerUnreachable when the broker takes none."""
    _publish([(charge, (each.charge_id, each.account), QUEUE_OF[each.kind]) for each in queued])


def publish_envelopes(envelopes: Sequence[enqueue.Envelope]) -> None:
    """Publish one message for each envelope; see `publish_charges`."""
    _publish([(charge_many, (list(each.charge_ids), each.account), QUEUE_OF[each.kind]) for each in envelopes])


def _publish(messages: Sequence[tuple[Any, tuple[Any, ...], str]]) -> None:
    with app.producer_or_acquire() as producer:
        lost = (OperationalError, *producer.connection.connection_errors, *producer.connection.channel_errors)
        try:
            with producer.batch(PUBLISH_BATCH):
                for task, arguments, queue in messages:
                    task.apply_async(arguments, producer=producer, queue=queue)
            outages.broker.succeeded()
        except lost as error:
            raise enqueue.BrokerUnreachable(f"the broker took no messages: {error}") from error


def _charges_waiting() -> int:
    return messages_in(CHARGES, BULK)


def messages_in(*queues: str) -> int:
    """The number of messages in these queues; 0 for a missing queue, or without a broker."""
    with app.connection_for_write() as connection:
        lost: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        found = 0
        try:
            connection.ensure_connection(max_retries=1, timeout=5, interval_start=0)
            for queue in queues:
                found += _messages_in(connection, queue)
        except lost:
            return 0  # the next publisher reports the outage of the broker
    return found


def _messages_in(connection: Any, queue: str) -> int:
    with connection.channel() as channel:  # a separate channel: RabbitMQ closes it when the queue does not exist
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0
