"""The platform for programs: `Client` with threads, `AsyncClient` with an event loop.

Importing this costs no library: those that speak HTTP, and NumPy, come with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.errors import FuseboxError
from deploy.client.answers import Answer, Record
from deploy.client.bodies import Body
from deploy.client.job import AsyncJob, Job
from deploy.client.retries import NEVER, Retries
from deploy.client.routes import Told
from deploy.client.sync import Client
from deploy.errors import Unreachable, WaitTimeout

if TYPE_CHECKING:
    from deploy.client.aio import AsyncClient
    from deploy.client.events import Event

__all__ = [
    "Client",
    "AsyncClient",
    "Answer",
    "Job",
    "AsyncJob",
    "Event",
    "Body",
    "Told",
    "Retries",
    "NEVER",
    "Record",
    "FuseboxError",
    "Unreachable",
    "WaitTimeout",
]

_LATE = {"AsyncClient": "deploy.client.aio", "Event": "deploy.client.events"}


def __getattr__(name: str) -> object:
    """What costs an event loop, when it is asked for."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)
