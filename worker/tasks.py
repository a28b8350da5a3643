"""The tasks by name: ids in, one call out. Messages are hints; the rows decide what is done."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from celery.signals import worker_shutting_down
from kombu.exceptions import OperationalError

from schedules.charging.charges import ChargeKind
from worker import restore_detector
from worker.app import BULK, CHARGES, EVENTS, OPS, RECONCILE, REQUESTS
from worker.app import app as app  # whoever starts it from here has the tasks registered
from worker.batches import run_batch
from worker.broker.transient_failures import returned_if_transient, rung_again
from worker.charging import attempt_charge, overdue, resolve_unknown, unsendable
from worker.charging.executor import Executor
from worker.clock import elapsed, wait
from worker.customers import cards
from worker.onboarding import takeover
from worker.outbox import announcements, delivery
from worker.reconciliation import payment_webhooks, reconciler, restore
from worker.refunds import duplicates, refund_payment
from worker.renewals import enqueue, open_charges
from worker.runtime import outages, stop_signal
from worker.task_api import answers, verbs
from worker.wiring import services

log = logging.getLogger("again.tasks")
OURS = "again."  # how the name of each task of ours begins
QUEUE_OF = {ChargeKind.ADHOC: CHARGES, ChargeKind.RENEWAL: BULK}
PUBLISH_BATCH = 500  # messages in one round trip to the broker
SLICE = 45.0  # seconds that a long work takes of a thread at once; the next ring goes on with it
# Seconds; a chore that waited longer has been rung for again since. The sender's clock was compared with the
# database's, and the worker judges by the database's clock: see `messages.accepted_headers`.
CHORE_EXPIRES = 600.0
MOST_NOTICES = 2000  # messages in the queue beyond which webhooks are sent away; PortOne may send them again
MOST_ASKS = 500  # questions that may wait in the broker at once
# One thread of a process delivers at a time: however often it is rung for, a receiver that hangs holds up one.
_delivers = threading.Lock()
# As few dispatch: the bell rings each second, and a backlog is topped up more often than that.
_dispatches = threading.Lock()
_making = threading.Lock()  # two threads that come first at once must not make two of a thing
_places: dict[str, "_Place"] = {}
DISPATCH_SLICE = 2.0  # seconds
DISPATCH_PAUSE = 0.15  # seconds between two looks while there is more to queue


@app.task(name="again.open_due", queue=OPS)
@rung_again
def open_due(plan_id: int) -> None:
    """Open what is due of one plan, and have it dispatched."""
    if open_charges.open_due(services(), plan_id):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.open_missed", queue=OPS)
@rung_again
def open_missed() -> None:
    """Open what is due of any plan, whoever forgot to ring for it."""
    if open_charges.open_due(services()):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.dispatch", queue=OPS)
@rung_again
def dispatch() -> None:
    """Turn charges that are due into messages, up to the bound, as long as there are more."""
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
def charge(charge_id: int) -> None:
    """Try once to collect a charge."""
    carry_out(charge_id)


@app.task(name="again.charge_many", queue=BULK)
@rung_again
def charge_many(charge_ids: list[int], account: str = "") -> None:
    """Try once to collect each of these charges, all of this account: an envelope, when many are due."""
    carry_out_envelope(charge_ids, account)


def carry_out(charge_id: int) -> None:
    """Try it, unless this process may or can send nothing, or received a stop signal; then queue it again."""
    if stop_signal.is_told() or executor().readiness.obstacle is not None or _rests(charge_id):
        enqueue.give_back(services(), [charge_id])
    else:
        attempt_charge.attempt(services(), charge_id)


def _rests(charge_id: int) -> bool:
    """Whether its account's charges are given back for a while; a charge's message does not name the account."""
    resting = executor().readiness.resting()
    return bool(resting) and enqueue.is_of(services(), charge_id, resting)


def carry_out_envelope(charge_ids: Sequence[int], account: str) -> None:
    """Try each, when the account's share of this process's threads has one free; else have them queued again."""
    readiness = executor().readiness
    if readiness.obstacle is not None or readiness.rests(account):
        enqueue.give_back(services(), charge_ids)
        return
    place = _place_of(account)
    if not place.take(_share()):
        # The other queues need threads too, and so do the other accounts' envelopes.
        enqueue.give_back(services(), charge_ids)
        return
    try:
        with place.opens:
            under_way = executor().begin_many(charge_ids, account)
        try:
            if under_way.not_begun:
                enqueue.give_back(services(), under_way.not_begun)
        finally:
            under_way.wait()
    finally:
        place.give()


@worker_shutting_down.connect
def _stop_soon(**_: object) -> None:
    stop_signal.begin()


def executor() -> Executor:
    """What carries out the charges of this process."""
    made = services().executor
    if made is None:
        raise LookupError("this process was wired without an executor")
    return made


class _Place:
    """What one account's envelopes may take of this process: with a low cap, one is open for long."""

    def __init__(self) -> None:
        self._held = 0  # threads that hold one, open or waiting
        self._lock = threading.Lock()
        self.opens = threading.Lock()  # one begins at a time: the charges of the oldest go first

    def take(self, most: int) -> bool:
        """Take a thread for an envelope; False when so many are taken."""
        with self._lock:
            if self._held >= most:
                return False
            self._held += 1
            return True

    def give(self) -> None:
        """Give it back."""
        with self._lock:
            self._held -= 1


def _share() -> int:
    """How many threads one account's envelopes may take: the accounts share half of all equally."""
    made = services()
    return max(1, made.settings.concurrency // 2 // max(1, len(made.account_names)))


def _place_of(account: str) -> _Place:
    with _making:
        if account not in _places:
            _places[account] = _Place()
        return _places[account]


@app.task(name="again.sweep", queue=OPS)
@rung_again
def sweep() -> None:
    """Take attempts from workers whose lease has run out."""
    resolve_unknown.sweep(services())


@app.task(name="again.set_aside_unsendable", queue=OPS)
@rung_again
def set_aside_unsendable() -> None:
    """Set aside the charges of gateway accounts that are not configured."""
    unsendable.set_aside_unsendable(services())


@app.task(name="again.ask_due", queue=OPS)
@rung_again
def ask_due() -> None:
    """Have every unknown attempt whose time has come asked about."""
    if messages_in(RECONCILE) >= MOST_ASKS:
        return  # nobody takes them; more copies help nobody
    for attempt_id in resolve_unknown.due_asks(services()):
        ask.apply_async((attempt_id,), expires=CHORE_EXPIRES)


@app.task(name="again.ask", queue=RECONCILE)
@rung_again
def ask(attempt_id: int) -> None:
    """Ask the gateway what became of one attempt."""
    resolve_unknown.ask(services(), attempt_id)


@app.task(name="again.reconcile", queue=RECONCILE)
@rung_again
def reconcile() -> None:
    """Begin the reconciler's runs whose time has come, and go on with those that are not over."""
    goes_on, made = _slice(), services()
    for account in made.account_names:
        reconciler.begin_due(made, account)
        reconciler.go_on(made, account, goes_on)


@app.task(name="again.refund", queue=RECONCILE)
@rung_again
def refund() -> None:
    """Give back the second payments that may be given back, and what was asked for."""
    duplicates.refund_due(services(), stop_signal.is_not_told)
    refund_payment.make_due(services(), stop_signal.is_not_told)


@app.task(name="again.run_batches", queue=OPS)
@rung_again
def run_batches() -> None:
    """Open the next lines of the batches that run."""
    if run_batch.go_on(services(), _slice()):
        dispatch.apply_async(expires=CHORE_EXPIRES)


@app.task(name="again.take_over", queue=RECONCILE)
@rung_again
def take_over() -> None:
    """Finish the takeovers from the gateway's own timer that were begun."""
    takeover.go_on(services(), _slice())


@app.task(name="again.lift_hold", queue=RECONCILE)
@rung_again
def lift_hold() -> None:
    """Go on with what a restored database waits for."""
    restore.lift_when_known(services(), _slice())


@app.task(name="again.chase", queue=OPS)
@rung_again
def chase() -> None:
    """Do what the passing of time brings to debts that were declined."""
    overdue.look_due(services(), _slice())


@app.task(name="again.announce", queue=OPS)
@rung_again
def announce() -> None:
    """Tell of the charges and the ends that come soon."""
    announcements.announce_due(services(), _slice())


@app.task(name="again.notified", queue=RECONCILE)
def notified(merchant_uid: str) -> None:
    """Look at what a webhook was about; what it said itself counts for nothing."""
    with returned_if_transient("again.notified"):
        payment_webhooks.hear(services(), merchant_uid)


def hand_on(merchant_uid: str) -> None:
    """Have a webhook's payment looked at; BrokerUnreachable when the broker takes no message."""
    if messages_in(RECONCILE) >= MOST_NOTICES:
        raise enqueue.BrokerUnreachable(f"{MOST_NOTICES} messages wait for a worker that takes {RECONCILE!r}")
    with app.producer_or_acquire() as producer:
        lost = (OperationalError, *producer.connection.connection_errors, *producer.connection.channel_errors)
        try:
            # An expiry by a wrong clock may be over already.
            lasts: dict[str, Any] = {} if services().clock_check.is_wrong else {"expires": CHORE_EXPIRES}
            notified.apply_async((merchant_uid,), producer=producer, **lasts)
        except lost as error:
            raise enqueue.BrokerUnreachable(f"the broker took no message: {error}") from error


@app.task(name="again.look_at_cards", queue=RECONCILE)
@rung_again
def look_at_cards() -> None:
    """Ask the gateway whether the cards that debts wait for have changed."""
    cards.look_due(services(), _slice())


@app.task(name="again.deliver", queue=EVENTS)
@rung_again
def deliver() -> None:
    """Send the events that wait to the shop's own address."""
    if not _delivers.acquire(blocking=False):
        return
    try:
        delivery.deliver_due(services(), _slice())
    finally:
        _delivers.release()


@app.task(name="again.mark", queue=OPS)
@rung_again
def mark() -> None:
    """See whether the database was put back in place, and remember how far the books have come."""
    restore_detector.check(app, services())


def _offer(asked: Callable[..., verbs.Answer]) -> None:
    """Make a task of what may be asked for; who asks is answered, whatever is wrong."""

    @app.task(name=f"again.{asked.__name__}", queue=REQUESTS, ignore_result=False)
    def task(*positional: object, **named: Any) -> verbs.Answer:
        with returned_if_transient(f"again.{asked.__name__}"):
            return answers.answer(desk(), asked, positional, named)


def _slice() -> Callable[[], bool]:
    """Whether a long work may go on: for SLICE, and until the process receives a stop signal."""
    until = elapsed() + SLICE
    return lambda: elapsed() < until and stop_signal.is_not_told()


def desk() -> verbs.Desk:
    """Where this process carries out what is asked for."""
    return verbs.Desk(services(), publish_charges)


for _asked in verbs.ASKED:
    _offer(_asked)


@cache
def allowed_on(queue: str) -> frozenset[str]:
    """The names of the tasks that may be sent to a queue: its own, and no built-in of Celery's."""
    tasks: dict[str, Any] = app.tasks
    own = {name for name, task in tasks.items() if name.startswith(OURS) and task.queue == queue}
    return frozenset(own | ({charge.name, charge_many.name} if queue in QUEUE_OF.values() else set()))


def publish_charges(queued: Sequence[tuple[int, ChargeKind]]) -> None:
    """One message for each charge, in batches; BrokerUnreachable when the broker does not take them."""
    _publish([(charge, (charge_id,), QUEUE_OF[kind]) for charge_id, kind in queued])


def publish_envelopes(envelopes: Sequence[enqueue.Envelope]) -> None:
    """One message for each envelope; otherwise as publish_charges."""
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
    """How many messages wait in these queues, as far as the broker says; an empty queue need not exist."""
    with app.connection_for_write() as connection:
        lost: tuple[type[BaseException], ...] = (OperationalError, *connection.connection_errors)
        found = 0
        try:
            connection.ensure_connection(max_retries=1, timeout=5, interval_start=0)
            for queue in queues:
                found += _messages_in(connection, queue)
        except lost:
            return 0  # whoever publishes next will say that the broker is away
    return found


def _messages_in(connection: Any, queue: str) -> int:
    with connection.channel() as channel:  # of its own: RabbitMQ closes it when there is no such queue
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0
