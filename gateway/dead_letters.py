"""Dead letters over HTTP, for who deploys: listed, shown, tried again, removed; webhook secrets."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack

from contract.delivery import Delivery, State
from contract.destinations import parse
from contract.errors import RequestError, UnknownLetter
from contract.function import Function, FunctionRef
from contract.job import JOB_ID_CHARS, TENSORS
from contract.log import Log
from contract.store.dead_letters import Letter
from contract.store.jobs import AlreadyAccepted
from gateway.answer import JSON, Answer, json_answer, rfc3339
from gateway.bodies import Payload, read_payload
from gateway.calls import Call, submit
from gateway.context import Gateway
from gateway.delivery.claims import own_claim
from gateway.delivery.signing import rotate, valid_secrets
from gateway.job_answers import delivery_record, record_of
from gateway.preferences import MSGPACK
from gateway.query import query_number

if TYPE_CHECKING:
    from flask import Flask, Response

log = Log("delivery")
# of one listing
MOST = 1_000
# A payload that is larger is kept, and not shown.
SHOWN_BYTES = 2**20
_NO_STORE = [("Cache-Control", "no-store")]
LETTER_ID = re.compile(rf"[0-9a-f]{{{JOB_ID_CHARS}}}(?:-[0-9]{{1,2}})?")


def route(app: Flask, gateway: Gateway) -> None:
    """Add the routes of dead letters and of webhooks."""
    from flask import Response, request

    def respond(answer: Answer) -> Response:
        return Response(answer.body, answer.status, answer.wsgi_headers)

    def listing() -> Response:
        count, before = request.args.get("count", "100"), request.args.get("before")
        return respond(show_all(gateway, count, before))

    add, item = app.add_url_rule, "/v1/dead-letters/<letter_id>"
    rules: dict[str, tuple[str, str, Any]] = {
        "dead_letter": (item, "GET", lambda letter_id: show(gateway, letter_id)),
        "purge_dead_letter": (item, "DELETE", lambda letter_id: purge(gateway, letter_id)),
        "purge_dead_letters": ("/v1/dead-letters", "DELETE", lambda: purge_all(gateway)),
        "redrive": (f"{item}/redrive", "POST", lambda letter_id: redrive(gateway, letter_id)),
        "webhook_secret": ("/v1/webhooks/secret", "GET", lambda: show_secret(gateway)),
        "rotate_webhook_secret": (
            "/v1/webhooks/secret/rotate", "POST", lambda: rotate_secret(gateway),
        ),
    }  # fmt: skip
    add("/v1/dead-letters", "dead_letters", listing)
    for name, (path, method, answer) in rules.items():
        add(path, name, lambda answer=answer, **parts: respond(answer(**parts)), methods=[method])


def show_all(gateway: Gateway, count: str, before: str | None) -> Answer:
    """GET /v1/dead-letters: the newest first, without their payloads."""
    number = int(query_number("count", count, 1, MOST))
    before_s = None if before is None else query_number("before", before, 0, 1e11)
    letters = gateway.store.dead_letters.last(number, before_s)
    record = {
        "dead_letters": [letter_record(letter) for letter in letters],
        "count": gateway.store.dead_letters.count(),
    }
    return json_answer(record)


def show(gateway: Gateway, letter_id: str) -> Answer:
    """GET /v1/dead-letters/<id>: one, with its payload where that is not large."""
    letter = _get(gateway, letter_id)
    record = letter_record(letter) | {"job_record": record_of(letter.job, JSON)}
    if letter.payload is not None and letter.payload_bytes <= SHOWN_BYTES:
        record["payload"] = base64.b64encode(letter.payload).decode()
    return json_answer(record)


def redrive(gateway: Gateway, letter_id: str) -> Answer:
    """POST /v1/dead-letters/<id>/redrive: run the job, or try the delivery, once more.

    Raises what accepting a call raises; the letter stays then.
    """
    letter = _get(gateway, letter_id)
    if letter.delivery is None:
        job_id = _run_again(gateway, letter)
        gateway.store.dead_letters.purge([letter.id])
    else:
        job_id = letter.job.spec.id
        _deliver_again(gateway, letter, letter.delivery)
    log.info("redriven", letter=letter.id, job=job_id)
    record = {"id": letter.id, "job": job_id}
    return json_answer(record, 202, [("Location", f"/v1/jobs/{job_id}")])


def _run_again(gateway: Gateway, letter: Letter) -> str:
    """A new job of the same input, by the latest version or its alias: one, however often.

    What made it fail is mended by deploying the function again, if it is mended at all.
    """
    spec = letter.job.spec
    content_type, body = _input(letter)

    def read(function: Function) -> Payload:
        max_bytes = gateway.settings.max_body_bytes
        return read_payload(function.manifest, content_type, body, max_bytes)

    origin = replace(letter.job.origin, cause=f"dlq:{letter.id}", is_kept=True)
    claim = own_claim("dlq", letter.id).text
    ref = FunctionRef(spec.function, 0, letter.job.origin.alias)
    call = Call(ref, read, spec.priority, claim, origin=origin)
    try:
        return submit(gateway, call).spec.id
    except AlreadyAccepted as error:
        return error.job


def _input(letter: Letter) -> tuple[str, bytes]:
    """What the job was called with, as a caller would send it; raises RequestError."""
    if letter.payload is None:
        raise RequestError("The payload was too large to be kept, so it cannot run again.")
    if letter.job.spec.payload_type != TENSORS:
        return letter.job.spec.payload_type, letter.payload
    packed = msgpack.packb({"inputs": msgpack.unpackb(letter.payload)})
    assert isinstance(packed, bytes)
    return MSGPACK, packed


def _deliver_again(gateway: Gateway, letter: Letter, delivery: Delivery) -> None:
    now_s = time.time()
    fresh = Delivery(delivery.destination, State.WAITING, delivery.created_at_s, now_s)
    lane = parse(delivery.destination).lane
    gateway.store.dead_letters.redeliver(letter, fresh, lane, now_s)


def purge(gateway: Gateway, letter_id: str) -> Answer:
    """DELETE /v1/dead-letters/<id>."""
    _check(letter_id)
    if not gateway.store.dead_letters.purge([letter_id]):
        raise UnknownLetter(letter=letter_id)
    return json_answer({"purged": 1})


def purge_all(gateway: Gateway) -> Answer:
    """DELETE /v1/dead-letters: all that there are now."""
    return json_answer({"purged": gateway.store.dead_letters.purge_until(time.time())})


def show_secret(gateway: Gateway) -> Answer:
    """GET /v1/webhooks/secret: what receivers check signatures with, the newest first."""
    secrets = valid_secrets(gateway.settings, gateway.store, time.time())
    return json_answer({"secrets": secrets}, headers=_NO_STORE)


def rotate_secret(gateway: Gateway) -> Answer:
    """POST /v1/webhooks/secret/rotate: a new one; both are valid for a day."""
    rotate(gateway.settings, gateway.store, time.time())
    return show_secret(gateway)


def letter_record(letter: Letter) -> dict[str, Any]:
    """A dead letter as it is listed."""
    spec = letter.job.spec
    error = letter.job.outcome.error if letter.job.outcome is not None else None
    return {
        "id": letter.id,
        "kind": "job" if letter.delivery is None else "delivery",
        "reason": letter.reason,
        "at": rfc3339(letter.at_s),
        "job": spec.id,
        "function": spec.function,
        "version": spec.version,
        "status": str(letter.job.status),
        "attempts": letter.job.attempts,
        "error": error,
        "cause": letter.job.origin.cause or None,
        "payload_type": spec.payload_type,
        "payload_bytes": letter.payload_bytes,
        "delivery": None if letter.delivery is None else delivery_record(letter.delivery),
    }


def _check(letter_id: str) -> None:
    if not LETTER_ID.fullmatch(letter_id):
        raise UnknownLetter()


def _get(gateway: Gateway, letter_id: str) -> Letter:
    _check(letter_id)
    return gateway.store.dead_letters.get(letter_id)
