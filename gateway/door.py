"""What a door is: another protocol's routes onto the same functions and jobs.

A door translates requests into `gateway.calls.Call` and outcomes into its clients' answers. It has
no queue, no store and no errors of its own. `gateway/doors.py` lists those there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flask import Flask, Response

from contract.access import ApiKey, Scope
from gateway.answer import Answer
from gateway.context import Gateway
from gateway.openapi_parts import Record, problems


def bearer(environ: Mapping[str, Any]) -> str:
    """The API key of `Authorization: Bearer`, or ""."""
    scheme, _, text = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


class Proof(NamedTuple):
    """What a request shows of an API key where it does not hold the key itself: a signature."""

    # of the key
    id: str
    # whether the key of this id made it; may raise Unauthorized saying why not
    is_of: Callable[[ApiKey], bool]


def respond(answer: Answer) -> Response:
    """An answer as Flask wants it; one without content has nothing that describes content."""
    if answer.status != 204:
        return Response(answer.body, answer.status, answer.wsgi_headers)
    response = Response(status=204, headers=answer.headers)
    del response.headers["Content-Type"]
    return response


class HotPath(NamedTuple):
    """POSTs that are answered without Flask's contexts; Flask knows their route as well."""

    # their paths, whole
    paths: re.Pattern[str]
    # from the gateway, the request's environment and the groups of its path
    answer: Callable[..., Answer]


class Door(NamedTuple):
    """One protocol of the gateway, as the application and its guard know it."""

    # its tag in the API's description, and what that says of it
    name: str
    summary: str
    # paths that begin with one of these are its own
    prefixes: tuple[str, ...]
    route: Callable[[Flask, Gateway], None]
    # any exception (of our tree or of werkzeug's) as its clients read errors; the text is the path
    translate: Callable[[Exception, str], Answer]
    # the scope that a key needs for a method and a path; None where any key does
    scope: Callable[[str, str], Scope | None]
    # its OpenAPI paths
    describe: Callable[[], Record]
    # from the request's environment to the text of its API key, or "", or to a proof of it
    credential: Callable[[dict[str, Any]], str | Proof] = bearer
    # how the API's description has refusals of these codes; problem documents unless it says else
    problems: Callable[..., Record] = problems
    # its calls, where they are many
    hot: HotPath | None = None


def door_at(path: str, doors: Sequence[Door]) -> Door | None:
    """The door that a path belongs to; None for the platform's own API."""
    return next((door for door in doors if path.startswith(door.prefixes)), None)
