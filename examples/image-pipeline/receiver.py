"""Hears of results by webhook; believes what is signed, and nothing else.

`python receiver.py --port 9000` with the secret in WEBHOOK_SECRET prints a line for each event.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# an event has 1 MiB at most
MAX_BYTES = 2 * 2**20
# of a connection that sends nothing
IDLE_S = 60.0


class Event(NamedTuple):
    """One message that was signed."""

    # the same when it comes again
    id: str
    record: dict[str, Any]

    @property
    def function(self) -> str:
        """The function whose job ended."""
        return str(self.record["data"]["function"])

    @property
    def file(self) -> str:
        """The image that it was called with."""
        return str(self.record["data"]["result"]["file"])


class Receiver:
    """A server on 127.0.0.1 that keeps what came, in order; for use in a `with`."""

    def __init__(self, secret: str, port: int = 0) -> None:
        """`port`: 0 takes one that is free."""
        self.events: list[Event] = []
        # messages whose signature is not by the secret
        self.refused = 0
        self._webhook = Webhook(secret)
        self._news = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler_of(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/images"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Receiver:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Keep a message; False if its signature is none of ours, or too old."""
        plain = {name.lower(): value for name, value in headers.items()}
        try:
            record = self._webhook.verify(body, plain)
        except (WebhookVerificationError, ValueError):
            with self._news:
                self.refused += 1
            return False
        with self._news:
            self.events.append(Event(plain["webhook-id"], record))
            self._news.notify_all()
        return True

    def seen(self) -> list[Event]:
        """What has come so far."""
        with self._news:
            return list(self.events)

    def wait_for(self, ids: int, timeout_s: float) -> bool:
        """Wait until so many different events have come; False if they have not by then."""
        with self._news:
            return self._news.wait_for(lambda: len({e.id for e in self.events}) >= ids, timeout_s)


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = IDLE_S

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdigit() or int(length) > MAX_BYTES:
                self._answer(413 if length.isdigit() else 411, is_last=True)
                return
            body = self.rfile.read(int(length))
            # 204 takes the event; 401 ends its delivery, anything else is tried again
            self._answer(204 if receiver.receive(body, dict(self.headers)) else 401)

        def _answer(self, status: int, is_last: bool = False) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", "0")
            if is_last:
                self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing: what came is shown by whoever asked for it."""

    return Handler


def main() -> None:
    """Print events until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    secret = os.environ.get("WEBHOOK_SECRET")
    if not secret:
        sys.exit("WEBHOOK_SECRET: expected what `fusebox webhooks secret` prints, got nothing")
    shown = 0
    with Receiver(secret, options.port) as receiver:
        print(f"listening at {receiver.url}")
        try:
            while True:
                receiver.wait_for(shown + 1, timeout_s=1.0)
                for event in receiver.seen()[shown:]:
                    shown += 1
                    clock = time.strftime("%H:%M:%S")
                    print(
                        clock, event.id, event.function, json.dumps(event.record["data"]["result"])
                    )
        except KeyboardInterrupt:
            print(f"{shown} events, {receiver.refused} refused")


if __name__ == "__main__":
    main()
