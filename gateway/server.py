"""The gateway process: `python -m gateway.server` runs gunicorn over `create_app`.

Settings come from the environment. The application is made in each worker process, after the fork
and after gevent has patched the standard library, so that no connection is ever shared.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from types import FrameType
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.workers.ggevent import GeventPyWSGIWorker

from contract.heap import settle_heap
from contract.log import Log, configure
from contract.settings import SettingError, Settings, read_settings
from gateway.connection import Connection

log = Log("gateway")
# Longer than clients keep an idle connection, so that they close it and never we under them.
KEEPALIVE_S = 75
CONNECTIONS = 10_000


class DrainingWorker(GeventPyWSGIWorker):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's gevent worker, which at SIGTERM does not wait for idle connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle: set[Connection] = set()
        self.client_timeout_s: float = self.app.settings.client_timeout_s
        self.wsgi_handler = partial(Connection, worker=self)

    def notify(self) -> None:
        """Once a second: a sign of life to the parent, and the end of what was idle too long."""
        super().notify()
        since_s = time.time() - (KEEPALIVE_S if self.alive else 0)
        self._end_idle([waiting for waiting in self.idle if waiting.time_start < since_s])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: accept nothing more, finish what is here."""
        super().handle_exit(sig, frame)
        # a signal handler may interrupt code that holds a lock
        gevent.spawn(self._drain)

    def _drain(self) -> None:
        from gateway.app import gateway_of

        gateway_of(self.wsgi).drain()
        self._end_idle(list(self.idle))

    def _end_idle(self, connections: list[Connection]) -> None:
        for connection in connections:
            gevent.get_hub().loop.run_callback(connection.end_idle)


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn, configured from our settings and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings from ours."""
        settings = self.settings
        ours = {
            "bind": f"{settings.host}:{settings.port}",
            "workers": settings.gateways,
            "worker_class": DrainingWorker,
            "worker_connections": CONNECTIONS,
            "graceful_timeout": max(1, int(settings.drain_s)),
            "accesslog": None,
            "loglevel": settings.log_level,
            "proc_name": "fusebox-gateway",
            "control_socket_disable": True,
            "preload_app": False,
            "worker_exit": _close,
        }
        for name, value in ours.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application of one worker process."""
        from contract.store import open_store
        from gateway.app import create_app

        settings = self.settings
        app = create_app(settings, open_store(settings.redis_url, settings.result_ttl_s))
        settle_heap()
        return app


def _close(_server: Any, worker: Any) -> None:
    """A worker process ends: send the spans that wait."""
    from gateway.app import gateway_of

    # one that never came so far as to load the application has none
    if isinstance(worker, DrainingWorker) and getattr(worker, "wsgi", None) is not None:
        tracing = gateway_of(worker.wsgi).tracing
        if tracing is not None:
            tracing.close()


def main() -> None:
    """Serve until SIGTERM."""
    try:
        settings = read_settings(os.environ)
    except SettingError as error:
        sys.exit(str(error))
    configure(settings.log_level)
    if not settings.is_guarded and not settings.is_loopback:
        log.warning("open_to_everybody", host=settings.host, setting="FUSEBOX_AUTH=off")
    Server(settings).run()


if __name__ == "__main__":
    main()
