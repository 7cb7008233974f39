"""The routes that clients use: what is sent for each; docs/http.md describes them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contract.errors import InvalidInput
from contract.probe import HEADER, format_probe
from deploy.client.answers import JSON
from deploy.client.bodies import Body
from deploy.client.request import ANSWER_S, PATIENCE_S, Request, function_path, job_path


class Told(NamedTuple):
    """Destinations that hear of a job's result, and of any other end of it."""

    on_success: Sequence[str] = ()
    on_failure: Sequence[str] = ()


NOBODY = Told()
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")


def get(path: str, **params: str) -> Request:
    """A question."""
    return Request("GET", path, params, {"Accept": JSON}, is_repeatable=True)


def show_job(job_id: str, wait_s: float | None, accept: str) -> Request:
    """A job as it is, or as it is when it settles or `wait_s` have passed."""
    patience_s = (wait_s or 0.0) + ANSWER_S
    headers = {"Accept": accept}
    path = job_path(job_id)
    return Request(
        "GET", path, headers=headers, patience_s=patience_s, wait_s=wait_s, is_repeatable=True
    )


def cancel_job(job_id: str) -> Request:
    """Cancelling twice is as good as once."""
    return Request("DELETE", job_path(job_id), headers={"Accept": JSON}, is_repeatable=True)


def call(
    name: str,
    body: Body,
    accept: str = JSON,
    wait_s: float | None = None,
    idempotency_key: str | None = None,
    priority: int | None = None,
    sticky: str | None = None,
    told: Told = NOBODY,
) -> Request:
    """A call of a function; with an idempotency key it may be sent again.

    Without `wait_s` the gateway waits as long as it likes; 0 is not at all. Raises InvalidInput.
    """
    if not (body.content_type.isascii() and body.content_type.isprintable()):
        raise InvalidInput.of("Content-Type", "printable ASCII", repr(body.content_type[:100]))
    headers = {"Content-Type": body.content_type, "Accept": accept}
    headers |= _idempotency(idempotency_key) | _sticky(sticky) | _destinations(told)
    if priority is not None:
        headers["Fusebox-Priority"] = str(priority)
    return Request(
        "POST",
        f"{function_path(name)}/invoke",
        headers=headers,
        body=body.data,
        patience_s=PATIENCE_S,
        wait_s=wait_s,
        is_repeatable=idempotency_key is not None,
    )


def deploy(name: str, artifact: Path, digest: str, compute_ms: Mapping[int, float]) -> Request:
    """An upload; `compute_ms` is what a run took where the artifact was made, by rows."""
    field = base64.b64encode(bytes.fromhex(digest)).decode()
    headers = {
        "Accept": JSON,
        "Content-Digest": f"sha-256=:{field}:",
        "Content-Type": "application/x-tar",
    }
    if compute_ms:
        headers[HEADER] = format_probe(compute_ms)
    return Request(
        "PUT", function_path(name), headers=headers, body=artifact, patience_s=PATIENCE_S
    )


def remove(name: str) -> Request:
    """A second removal would find nothing, so it is not sent again."""
    return Request("DELETE", function_path(name), headers={"Accept": JSON})


def logs(name: str, count: int, since_s: float) -> Request:
    """What a function's own code printed and raised."""
    params = {"count": str(count)} | ({"since": f"{since_s:.3f}"} if since_s else {})
    return get(f"{function_path(name)}/logs", **params)


def any_route(
    method: str,
    path: str,
    params: Mapping[str, str] | None,
    body: Any,
    content_type: str,
    patience_s: float,
) -> Request:
    """A route that has no method; `body`, if any, is sent as JSON of that type."""
    headers = {"Accept": JSON}
    data = b""
    if body is not None:
        headers["Content-Type"] = content_type
        data = json.dumps(body).encode()
    return Request(
        method,
        path,
        params or {},
        headers,
        data,
        patience_s=patience_s,
        is_repeatable=method in ("GET", "HEAD"),
    )


def _destinations(told: Told) -> dict[str, str]:
    named = {"Fusebox-On-Success": told.on_success, "Fusebox-On-Failure": told.on_failure}
    found = {name: ", ".join(texts) for name, texts in named.items() if texts}
    for name, text in found.items():
        if not (text.isascii() and text.isprintable()):
            raise InvalidInput.of(name, "printable ASCII", repr(text[:100]))
    return found


def _sticky(key: str | None) -> dict[str, str]:
    """The header of a key under which an alias means the same version."""
    if key is None:
        return {}
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInput.of("sticky", "1 to 255 printable ASCII characters", repr(key[:100]))
    return {"Fusebox-Sticky": key}


def _idempotency(key: str | None) -> dict[str, str]:
    """The header of an idempotency key, a string as RFC 9651 writes it."""
    if key is None:
        return {}
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        expected = "1 to 255 printable ASCII characters"
        raise InvalidInput.of("idempotency key", expected, repr(key[:100]))
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    return {"Idempotency-Key": f'"{escaped}"'}
