"""Commands on kept connections: redis-py's connections, parser and retries without its clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Semaphore
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ResponseError
from redis.retry import Retry

# Commands under way at once; further callers wait their turn.
PLACES = 64
Argument = str | bytes | int | float
Command = Sequence[Argument]
# redis-py leaves its connections untyped
Connection = Any


class Link:
    """Sends commands, each caller on a connection of its own; replies come as RESP3 has them.

    A client polls its connection before every command, feeds its observers and looks up callbacks:
    three quarters of a command's processor time, which every job pays several times.
    """

    def __init__(self, pool: ConnectionPool, retry: Retry) -> None:
        self._pool = pool
        self._retry = retry
        self._idle: deque[Connection] = deque()
        self._places = Semaphore(PLACES)
        self._is_closed = False

    def call(self, *command: Argument) -> Any:
        """The reply to one command; raises redis-py's errors."""
        [reply] = self.call_all([command])
        return reply

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands sent together; raises the first error among them.

        They are sent again, all of them, when the connection breaks: they must bear that.
        """
        with self._places:
            connection = self._take()
            try:
                replies = self._retry.call_with_retry(
                    lambda: _exchange(connection, commands), connection.disconnect
                )
            except BaseException:
                # whoever uses it next must not read what this caller left unread
                connection.disconnect()
                raise
            finally:
                self._idle.append(connection)
                if self._is_closed:
                    self.close()
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def close(self) -> None:
        """Close every connection, those in use as their callers give them back."""
        self._is_closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._pool.make_connection()


def _exchange(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    return [_reply(connection) for _ in commands]


def _reply(connection: Connection) -> Any:
    """A reply, its error not raised: the replies behind it have to be read as well."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
