"""What people build first: Flask, and one Celery task per request with a result backend.

`python bench/_naive.py web|worker` with REDIS_URL and PORT; measured beside the platform by
`overhead.py`.
"""

from __future__ import annotations

import os
import sys

from celery import Celery

URL = os.environ.get("REDIS_URL", "redis://localhost")
app = Celery("naive", broker=URL, backend=URL)


@app.task(name="naive.echo")
def echo(x: list[list[float]]) -> list[list[float]]:
    """The same function as the platform's."""
    return x


def serve() -> None:
    """gunicorn with one gevent worker, as the platform's gateway."""
    from flask import Flask, request
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
        def load_config(self) -> None:
            self.cfg.set("bind", f"127.0.0.1:{os.environ['PORT']}")
            self.cfg.set("worker_class", "gevent")
            self.cfg.set("loglevel", "error")
            self.cfg.set("control_socket_disable", True)

        def load(self) -> Flask:
            web = Flask("naive")

            @web.post("/invoke")
            def invoke() -> dict[str, object]:
                return {"outputs": echo.delay(request.get_json()["inputs"]["x"]).get(timeout=30)}

            return web

    Server().run()


if __name__ == "__main__":
    if sys.argv[1] == "web":
        serve()
    else:
        app.worker_main(["worker", "--pool=threads", "--concurrency=2", "--loglevel=error"])
