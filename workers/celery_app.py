"""The Celery application: it carries group ids to workers and stores nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from contract import keys
from contract.errors import StoreUnavailable
from contract.job import Claim
from contract.settings import Settings
from contract.store.server import store_errors
from workers.transport import Connection

RUN_GROUP = "fusebox.run_group"
# A scheduler that waited longer for one message would keep all others waiting, and its own end;
# the group comes back with its lease.
RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}


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


@contextmanager
def _store_errors() -> Iterator[None]:
    """What the store and kombu raise while the store is away, as StoreUnavailable."""
    with store_errors():
        try:
            yield
        except OperationalError as error:
            raise StoreUnavailable() from error


class Sender:
    """Hands claimed groups to the workers' queues; for one thread.

    Celery's `send_task` looks up routes, declares queues and renders the arguments for logs, each
    time anew: three times the cost of the message itself, paid for every group.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection = app.connection_for_write()
        self._producer = app.amqp.Producer(self._connection, auto_declare=False)

    def send(self, worker: str, group: str, claims: Sequence[Claim]) -> None:
        """Queue a group at a worker; raises StoreUnavailable."""
        message = self._app.amqp.as_task_v2(
            secrets.token_hex(8), RUN_GROUP, args=(group, claims), argsrepr=group, kwargsrepr=""
        )
        with _store_errors():
            self._producer.publish(
                message.body,
                exchange="",
                routing_key=keys.queue(worker),
                serializer="msgpack",
                headers=message.headers,
                retry=True,
                retry_policy=RETRY,
                **message.properties,
            )

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()
