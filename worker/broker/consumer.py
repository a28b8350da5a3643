"""Celery's consumer, with every message checked before Celery reads it.

What cannot be a message of ours is acknowledged and recorded as a dead letter. Nothing restarts for it: Celery
would raise inside its loop and end, and the broker would deliver the message to the next worker.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery.worker import consumer
from kombu import compression
from kombu.exceptions import ContentDisallowed, DecodeError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from schedules.operations.queues import BULK, CHARGES, OPS, QUEUES
from worker import tasks
from worker.broker import messages, redis_broker
from worker.broker.messages import DeadLetter, MessageRefused, Reason, Received
from worker.clock import Clock, SystemClock
from worker.logs import lost_broker
from worker.runtime import alive, background, stop_signal
from worker.runtime.background import Part
from worker.store.operations import dead_letters
from worker.wiring import services

log = logging.getLogger("again.consumer")
MOST_PENDING = 1000  # dead letters of a process that wait for the database; the log alone has those beyond it
PAUSE = 1.0  # seconds between two writes: one line in the log and one transaction for all that came meanwhile
LOOK_EVERY = 1.0  # seconds
LAST_WRITE = 3.0  # seconds that a stop waits for those that are not written yet
# What a message can raise in Celery that the checks did not foresee; no errors of the broker or the pool.
BAD_MESSAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Recorder:
    """Writes dead letters from a thread of its own: the consumer's loop never waits for the database."""

    def __init__(self) -> None:
        self._pending: queue.Queue[DeadLetter] = queue.Queue(MOST_PENDING)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._clock: Clock = SystemClock()

    def add(self, letter: DeadLetter) -> None:
        """Record one, soon."""
        try:
            self._pending.put_nowait(letter)
        except queue.Full:
            log.error("a message on %s was refused and is not recorded: %s", letter.queue, letter.reason)
        if self._thread is None:
            self._thread = background.start(Part.DEAD_LETTERS, self._run)

    def close(self) -> None:
        """Write what is pending, if the database answers in time."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(LAST_WRITE)

    def _run(self) -> None:
        unwritten: list[DeadLetter] = []
        while not (self._closing.is_set() and self._pending.empty() and not unwritten):
            unwritten += self._taken(MOST_PENDING - len(unwritten))
            if unwritten and self._write(unwritten):
                unwritten = []
            if self._closing.wait(PAUSE) and unwritten:
                return  # the database is away, and nothing waits for it

    def _taken(self, most: int) -> list[DeadLetter]:
        taken: list[DeadLetter] = []
        while len(taken) < most:
            try:
                taken.append(self._pending.get_nowait())
            except queue.Empty:
                break
        for (name, reason), count in Counter((letter.queue, letter.reason) for letter in taken).items():
            log.error("%d messages on queue %s were refused: %s; see `again dead-letters`", count, name, reason)
        return taken

    def _write(self, letters: list[DeadLetter]) -> bool:
        try:
            with services().engine.begin() as db:
                dead_letters.add(db, letters, self._clock.now())
        except (DBAPIError, NoConnection) as error:
            log.error("%d refused messages are not recorded yet: %s", len(letters), getattr(error, "orig", error))
            return False
        return True


class Consumer(consumer.Consumer):
    """Takes messages from the queues, and hands those that pass the checks to Celery."""

    task_consumer: Any
    connection_errors: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _refuse_compression()
        self._recorder = Recorder()
        self._popped = redis_broker.LastPopped()
        self._is_unacknowledged = False  # a message whose acknowledgement failed
        self._clock: Clock = SystemClock()
        self._queue_of_tag: dict[str, str] = {}  # RabbitMQ's, those of queues that are not read any more too
        chosen: Any = self.app.amqp.queues.consume_from
        self._of_charges = [name for name in (CHARGES, BULK) if name in chosen]
        self._ops = [OPS] if OPS in chosen else []
        self._timers: tuple[Any, ...] = ()
        self._readiness = tasks.executor().readiness

    def connect(self) -> Any:
        """Connect to the broker, however long it is away."""
        with alive.waiting_for("the broker"):
            connection = super().connect()
        lost_broker.connected()
        return connection

    def connection_for_read(self, *args: Any, **kwargs: Any) -> Any:
        """A connection to a broker whose contents kombu can read."""
        connection = super().connection_for_read(*args, **kwargs)
        if _is_redis(connection):
            redis_broker.prepare(connection, self._popped, QUEUES, self._clock.now())
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """What is called with each message."""
        carry_out = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            self._popped.settle()
            message.ack_log_error = partial(self._acknowledge, message)
            try:
                message.headers = self._checked(message)
                carry_out(message)
            except MessageRefused as refused:
                self._refuse(message, refused.reason)
            except BAD_MESSAGE:
                log.exception("a message raised inside the consumer")
                self._refuse(message, Reason.NOT_READ)

        return on_message

    def register_with_event_loop(self, hub: Any) -> None:
        """Be driven by a loop, and look in each second whether messages of charges may be taken."""
        super().register_with_event_loop(hub)
        for timer in self._timers:
            timer.cancel()
        self._choose_queues()
        self._timers = (
            hub.call_repeatedly(LOOK_EVERY, self._choose_queues),
            hub.call_repeatedly(redis_broker.REPAIR_EVERY, self._repair),
        )

    def _acknowledge(self, message: Any, logger: Any, errors: Any, multiple: bool = False) -> None:  # kombu's
        """Acknowledge a message; one that could not be acknowledged costs the connection, at the next look.

        kombu logs the failure, and counts the message against the prefetch limit for ever. With as many of them as
        threads, it would read no queue again, and would not see that the broker came back.
        """
        type(message).ack_log_error(message, logger, errors, multiple)
        if not message.acknowledged:
            self._is_unacknowledged = True

    def _repair(self) -> None:
        if self.connection is not None and _is_redis(self.connection):
            redis_broker.repair_or_log(self.connection, QUEUES, self._clock.now())

    def _choose_queues(self) -> None:
        """Read the queues of charges only while this process may and can send them, and OPS with a right clock.

        Of two workers that take messages in turn, one with a wrong clock could take each task that opens charges,
        and opens nothing.
        """
        alive.round_begins()
        if self._is_unacknowledged:
            self._is_unacknowledged = False
            raise ConnectionResetError("a message could not be acknowledged; the worker connects anew")
        self._popped.settle()  # what came on this connection is stored: the loop goes on
        if stop_signal.is_told() or self.task_consumer is None:
            return
        self._queue_of_tag |= {tag: name for name, tag in self.task_consumer._active_tags.items()}
        takes = self._readiness.obstacle is None
        takes_ops = not services().clock_check.is_wrong
        for name in (*self._of_charges, *self._ops):
            is_read = name in self.app.amqp.queues.consume_from
            is_wanted = takes_ops if name == OPS else takes
            if is_wanted and not is_read:
                self.add_task_queue(name)
            elif is_read and not is_wanted:
                self.cancel_task_queue(name)

    def shutdown(self) -> None:
        """Stop, and write what was refused last."""
        super().shutdown()
        self._recorder.close()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a body that cannot be decoded."""
        del exc
        self._popped.settle()
        self._refuse(message, Reason.COMPRESSED if message.headers.get("compression") else Reason.BAD_BODY)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Refuse what has no task."""
        del body
        self._refuse(message, Reason.BAD_HEADERS)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a task that is not registered."""
        del body, exc
        self._refuse(message, Reason.TASK_NOT_ALLOWED)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse what Celery does not take for a task."""
        del body, exc
        self._refuse(message, Reason.BAD_BODY)

    def _checked(self, message: Any) -> dict[str, Any]:
        name = self._queue_of(message)
        letter = messages.refused_letter(name, message.properties)
        if letter is not None:
            raise MessageRefused(letter.reason)
        received = _received(message, name)
        now = self._clock.now()
        ahead = services().clock_check.ahead_at(now)
        headers = messages.accepted_headers(received, tasks.allowed_on(received.queue), QUEUES, now, ahead)
        messages.check_body(self._decoded(message))
        return headers

    def _decoded(self, message: Any) -> object:
        try:
            return message.payload
        except (*BAD_MESSAGE, DecodeError, ContentDisallowed):
            raise MessageRefused(Reason.BAD_BODY) from None

    def _queue_of(self, message: Any) -> str:
        """The queue that the message was taken from, which its sender cannot choose."""
        tag = message.delivery_info.get("consumer_tag")
        if tag is None:  # Redis: `redis_broker` has put the list's name there
            return str(message.delivery_info["routing_key"])
        # RabbitMQ: a message may have any routing key, and comes to the consumer of the queue that it was in.
        active = {known: name for name, known in self.task_consumer._active_tags.items()}
        # A queue that has just been given up may have sent it before.
        return active.get(tag) or self._queue_of_tag.get(tag, "")

    def _refuse(self, message: Any, reason: Reason) -> None:
        name, raw = self._queue_of(message), messages.body_bytes(message.body)
        headers: Mapping[str, object] = message.headers
        self._recorder.add(
            messages.refused_letter(name, message.properties) or messages.dead_letter(name, raw, headers, reason)
        )
        if not message.acknowledged:
            self._acknowledge(message, log, self.connection_errors)


def _is_redis(connection: Any) -> bool:
    return bool(connection.transport.driver_type == "redis")


def _refuse_compression() -> None:
    """Have kombu decompress nothing in this process: a small body could take all of its memory."""

    def refuse(_body: bytes) -> bytes:
        raise MessageRefused(Reason.COMPRESSED)

    for content_type in compression.encoders():
        compression.register(refuse, refuse, content_type)


def _received(message: Any, name: str) -> Received:
    properties = message.properties
    return Received(
        name, messages.body_bytes(message.body), message.content_type, message.content_encoding, message.headers,
        properties.get("reply_to"), properties.get("correlation_id"),
    )  # fmt: skip
