"""The doors of the gateway, beside its own API under `/v1`."""

from __future__ import annotations

from gateway.door import Door
from gateway.triggers.door import TRIGGERS

DOORS: tuple[Door, ...] = (TRIGGERS,)
