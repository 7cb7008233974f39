"""The doors of the gateway, beside its own API under `/v1`."""

from __future__ import annotations

from gateway.door import Door
from gateway.v2.door import V2

DOORS: tuple[Door, ...] = (V2,)
