"""Functions that will not fit as a whole are planned in blocks before their first job comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from contract.errors import FuseboxError
from contract.function import Function, FunctionRef
from contract.log import Log
from contract.store.functions import Functions
from fusion.errors import FusionError

log = Log("foresight")


@dataclass
class Foresight:
    """Looks for new functions every `interval_s`; plans on a thread of its own."""

    functions: Functions
    # of the device: what takes more is planned
    budget_bytes: int
    # whoever asks later finds the plan
    plan: Callable[[Function], object]
    interval_s: float
    clock: Callable[[], float] = time.monotonic
    _due_at_s: float = 0.0
    _seen: set[FunctionRef] = field(default_factory=set)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "foresight"))
    _latest: Future[None] | None = None

    def look(self) -> None:
        """Begin with what is new, when it is due."""
        if self.clock() < self._due_at_s:
            return
        self._due_at_s = self.clock() + self.interval_s
        try:
            latest = set(self.functions.latest())
            new = [self.functions.get(ref) for ref in sorted(latest - self._seen)]
        except FuseboxError as error:  # away, or removed meanwhile: the next look tells
            log.debug("not_looked", reason=error)
            return
        self._seen = latest
        for function in new:
            manifest = function.manifest
            needed_bytes = manifest.weight_bytes + manifest.activation_bytes_at(1)
            if needed_bytes > self.budget_bytes and not manifest.is_eager:
                self._latest = self._pool.submit(self._plan, function)

    def wait(self) -> None:
        """Until what has begun is planned."""
        if self._latest is not None:
            self._latest.result()

    def _plan(self, function: Function) -> None:
        try:
            self.plan(function)
        except (FuseboxError, FusionError, OSError) as error:
            # its jobs will end with the reason
            log.info("not_planned", function=function.ref, reason=error)
        except Exception:  # whatever an artifact breaks is its own
            log.exception("not_planned", function=function.ref)
