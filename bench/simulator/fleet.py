"""What a simulated platform consists of."""

from __future__ import annotations

from dataclasses import dataclass

from workers.scheduling.records import Limits

# as FUSEBOX_GROUP_FUNCTIONS and FUSEBOX_GROUP_JOBS are unless they are set
LIMITS = Limits(functions=8, jobs=128)


@dataclass(frozen=True)
class Device:
    """One worker and its device."""

    id: str
    places: int = 2
    budget_bytes: int = 8 << 30
    # compute time is divided by it
    speed: float = 1.0
    # fused DAGs it keeps, least recently used first out
    dags: int = 256


@dataclass(frozen=True)
class Fleet:
    """Devices under one scheduler, and the settings they share."""

    devices: tuple[Device, ...]
    limits: Limits = LIMITS
    queue_limit: int = 10_000
    function_queue_limit: int = 2_000
    # functions are in memory from the start, as far as they fit
    is_warm: bool = True

    @classmethod
    def of(cls, count: int, **settings: object) -> Fleet:
        """So many devices alike; settings of `Device`."""
        width = len(str(count - 1))
        devices = (Device(f"w{n:0{width}}", **settings) for n in range(count))  # type: ignore[arg-type]
        return cls(tuple(devices))
