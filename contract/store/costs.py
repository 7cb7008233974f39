"""What schedulers have learned of costs: fields of one hash, written by the active one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract import keys
from contract.store.link import Argument
from contract.store.server import Server, store_errors


class LearnedCosts:
    """The costs in the store; `workers/scheduling/costs/records.py` says what fields hold."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def load(self) -> dict[str, bytes]:
        """Every field."""
        with store_errors():
            found: Any = self._server.redis.hgetall(keys.COSTS)
        return {field.decode(): value for field, value in found.items()}

    def save(self, token: str, changes: Mapping[str, bytes | None]) -> bool:
        """Write these fields in one move, and drop those that are None.

        False when another scheduler is the active one: nothing is written.
        """
        changed = {field: value for field, value in changes.items() if value is not None}
        args: list[Argument] = [token, len(changed)]
        for field, value in changed.items():
            args += [field, value]
        args += [field for field, value in changes.items() if value is None]
        return bool(self._server.run("learn", args))
