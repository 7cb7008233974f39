"""The Celery application: it carries group ids to workers and stores nothing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.serialization import dumps
from kombu.transport import TRANSPORT_ALIASES

from contract import keys
from contract.job import JobId
from contract.settings import Settings
from workers.transport import Connection, Sealing

RUN_GROUP = "fusebox.run_group"


def broker_url(redis_url: str) -> str:
    """The store's URL as kombu takes it."""
    if redis_url.startswith("unix://"):
        return f"redis+socket://{redis_url.removeprefix('unix://')}"
    return redis_url


def make_app(settings: Settings) -> Celery:
    """An application whose messages are msgpack and carry ids only."""
    TRANSPORT_ALIASES["redis"] = "workers.transport:Transport"
    app = Celery("fusebox", broker=broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        task_serializer="msgpack",
        accept_content=["msgpack"],
        result_backend=None,
        task_ignore_result=True,
        # The job record is the truth: a lost message is found by its lease, not by Celery.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        # for ever: a worker that gave up would only be started again, to wait without its weights
        broker_connection_max_retries=None,
        # Copies of unacknowledged messages would cost round trips per group and protect nothing.
        broker_transport_options={"ack_emulation": False},
        enable_utc=True,
    )
    app.amqp.Connection = Connection
    return app


class Envelopes:
    """Messages to workers as their queues hold them; for one thread.

    Who claims a group puts its message into the queue in the same move, so there is no group
    without a message, and no way for it but the store's.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        connection: Any = Connection(transport=Sealing)  # type: ignore[no-untyped-call]  # kombu
        self._connection, self._channel = connection, connection.channel()

    def seal(self, worker: str, group: str, jobs: Sequence[JobId]) -> bytes:
        """The message by which a worker runs a group."""
        task = self._app.amqp.as_task_v2(
            secrets.token_hex(8), RUN_GROUP, args=(group, jobs), argsrepr=group, kwargsrepr=""
        )
        content_type, encoding, body = dumps(task.body, "msgpack")  # type: ignore[no-untyped-call]  # kombu
        message = self._channel.prepare_message(
            body, 0, content_type, encoding, task.headers, task.properties
        )
        self._channel.basic_publish(message, "", keys.queue(worker))
        sealed: bytes = self._channel.take()
        return sealed

    def close(self) -> None:
        """Close the channel."""
        self._connection.close()
