"""The Celery application: every setting is there on purpose, with its reason."""

from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu import Queue

from schedules.operations.queues import OPS, QUEUES
from worker import wiring
from worker.broker import rabbitmq
from worker.config import Settings

ANSWER_LIVES = 3600  # seconds; the caller has stopped waiting long before, and may ask again

app = Celery("again", set_as_current=True)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Celery's settings from ours."""
    return {
        "broker_url": _broker_url(settings),
        "broker_use_ssl": _broker_tls(settings),
        "broker_transport_options": _transport_options(settings),
        # A broker that is away comes back; a worker that gave up would need a person.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A replica, a full memory and a key of a wrong type are channel errors: the worker connects again.
        "broker_channel_error_retry": True,
        # JSON only: a pickle from a broker is somebody else's code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        # The rows hold what came of a charge; an answer in the broker would be a second, worse truth. Only who
        # asks for something by a task is answered there.
        "result_backend": _result_backend(settings),
        "task_ignore_result": True,
        "result_expires": ANSWER_LIVES,
        "redis_max_connections": settings.concurrency + 20,
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        # A message is acknowledged after its work, so that a killed worker's message comes back. What failed is
        # acknowledged too: the row, not the message, decides about another try.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        # A mistyped queue is an error, not a new queue that nobody reads.
        "task_create_missing_queues": False,
        "task_queues": [
            Queue(name, routing_key=name, queue_arguments=_queue_arguments(settings)) for name in QUEUES
        ],
        "task_default_queue": OPS,
        # Threads: a call waits, so they are as fast as gevent, without patching, and are never killed in mid-call.
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        # One message a thread: what a worker holds and has not begun would wait for the visibility time-out
        # if it died.
        "worker_prefetch_multiplier": 1,
        # Checks each message before Celery reads it.
        "worker_consumer": "worker.broker.consumer:Consumer",
        # SIGTERM lets the calls under way end; a cold shutdown waits this long for them to be handed back.
        "worker_soft_shutdown_timeout": 20.0,
        "worker_enable_soft_shutdown_on_idle": True,
        # A lost broker connection must not end a call that moves money.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        # Everyone who can write to the broker could use it to stop consumers and set rate limits.
        "worker_enable_remote_control": False,
        # Publishing fails at once and is tried by the next tick: the rows are still due.
        "task_publish_retry": False,
        "beat_scheduler": "worker.beat:PlanScheduler",
        "beat_max_loop_interval": settings.beat_interval,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _is_redis(settings: Settings) -> bool:
    return settings.broker_url.get_secret_value().startswith("redis")


def _broker_url(settings: Settings) -> str:
    """The broker's address; over TLS, Redis's certificate is checked unless the address says otherwise.

    Without a word about it kombu would check none, and Celery's answers would not be sent at all.
    """
    url = settings.broker_url.get_secret_value()
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url.lower():
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def _broker_tls(settings: Settings) -> dict[str, Any] | None:
    """With RabbitMQ over TLS, the name that its certificate must have; py-amqp would take any name."""
    address = urlsplit(settings.broker_url.get_secret_value())
    return {"server_hostname": address.hostname} if address.scheme == "amqps" else None


def _queue_arguments(settings: Settings) -> dict[str, Any]:
    """With RabbitMQ, quorum queues: they outlive a node, and count how often a message was handed out."""
    return {} if _is_redis(settings) else {"x-queue-type": "quorum"}


def _result_backend(settings: Settings) -> str:
    """The result backend: Redis itself, where results expire; with RabbitMQ, a reply queue of the caller."""
    return _broker_url(settings) if _is_redis(settings) else "rpc://"


def _transport_options(settings: Settings) -> dict[str, Any]:
    if not _is_redis(settings):
        # RabbitMQ says when it has a message; without that, one that it loses is thought to be sent. A queue
        # without a leader does not answer, so reads and writes need a time-out.
        return {
            "confirm_publish": True, "read_timeout": 30, "write_timeout": 30,
            "frame_handler": rabbitmq.read_frames, "frame_writer": rabbitmq.write_frames,
        }  # fmt: skip
    return {
        # Above the lease, which is above the calls: no message of a charge is handed out while it is at work. One
        # of an envelope may be, where a gateway takes a minute for each call: its charges are claimed once all the
        # same.
        "visibility_timeout": settings.visibility_timeout,
        # Looks for what must be handed out again about every ten seconds, not every hundred.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # Each thread acknowledges over a connection of its own; with the default of ten, acks fail.
        "max_connections": settings.concurrency + 20,
        # Each queue is one list: the rows decide what goes first, and four lists would be looked at for each.
        "priority_steps": [0],
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        # `retry_on_timeout` stays unset: it switches batch publishing off.
    }


app.add_defaults(lambda: celery_settings(wiring.settings()))
