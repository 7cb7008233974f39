"""`Idempotency-Key`: however often a request is sent under one key, it is one job and one answer.

draft-ietf-httpapi-idempotency-key-header, whose 409 for a duplicate of a request under way is not
needed: the duplicate waits for the same job. The key is taken in the move that accepts the job, so
one that was refused may be sent again, and it is kept as long as the job's record.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from typing import Any

from contract.errors import RequestError, Unavailable, UnknownJob
from contract.function import FunctionRef
from contract.job import IdempotencyClaim, JobId, Outcome
from contract.store.jobs import AlreadyAccepted
from gateway import job_answers as answers
from gateway.access import caller_of
from gateway.answer import JSON, Answer
from gateway.calls import GRACE_S
from gateway.context import Gateway
from gateway.invoke import invoke, unanswered
from gateway.preferences import NPY, negotiate, parse_prefer

MAX_KEY_CHARS = 255
# a string of RFC 9651; the draft defines no parameters
PATTERN = r'^"((?:[ !#-\[\]-~]|\\["\\])+)"$'
_STRING = re.compile(PATTERN)
_ESCAPED = re.compile(r"\\(.)")
# a key whose job's record ends between two looks is free again
MAX_LOOKS = 3


def invoke_once(gateway: Gateway, name: str, environ: Mapping[str, Any], body: bytes) -> Answer:
    """POST /v1/functions/<name>/invoke with an Idempotency-Key."""
    key = parse_key(environ["HTTP_IDEMPOTENCY_KEY"])
    ref = FunctionRef.parse(name)
    claim = claim_of(caller_of(environ), key, ref, environ.get("CONTENT_TYPE", ""), body)
    for _ in range(MAX_LOOKS):
        # first, so that a function that was deployed again does not judge an old request
        job_id = gateway.store.jobs.accepted_as(claim)
        if job_id is None:
            try:
                return invoke(gateway, name, environ, body, claim.text)
            except AlreadyAccepted as error:
                # a duplicate was quicker
                job_id = error.job
        try:
            return _join(gateway, job_id, environ)
        except UnknownJob:
            continue
    raise Unavailable("The job of this Idempotency-Key has just expired; try again.")


def parse_key(header: str) -> str:
    """The key in its header, a quoted string; raises RequestError."""
    match = _STRING.fullmatch(header.strip(" "))
    key = _ESCAPED.sub(r"\1", match[1]) if match else ""
    if not 0 < len(key) <= MAX_KEY_CHARS:
        raise RequestError(
            "Idempotency-Key: expected a quoted string of 1 to "
            f"{MAX_KEY_CHARS} ASCII characters, got {header[:100]!r}"
        )
    return key


def claim_of(
    caller: str, key: str, ref: FunctionRef, content_type: str, body: bytes
) -> IdempotencyClaim:
    """Whose key it is, for which function; and what makes another request another one.

    `Accept` and `Prefer` say how to be answered and may differ.
    """
    body_digest = hashlib.sha256(body).hexdigest()
    return IdempotencyClaim(
        _digest(caller, ref.name, key), _digest(str(ref), content_type, body_digest)
    )


def _digest(*parts: str) -> str:
    # none of the parts but the last may hold a NUL
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _join(gateway: Gateway, job_id: JobId, environ: Mapping[str, Any]) -> Answer:
    """Wait for a job that was accepted before, as its first caller does; raises UnknownJob."""
    accept = environ.get("HTTP_ACCEPT", "")
    prefer = parse_prefer(environ.get("HTTP_PREFER", ""), gateway.settings.max_wait_s)
    if prefer.is_async and prefer.wait_s is None:
        return answers.accepted(gateway.store.jobs.get(job_id), _media(accept), prefer)
    with gateway.replies.expect(job_id, prefer.is_given) as waiter:
        job = gateway.store.jobs.watch(job_id, gateway.replies.gateway_id)
        outcome = job.outcome
        if outcome is None:
            until_deadline_s = job.spec.deadline_s + GRACE_S - time.time()
            wait_s = gateway.settings.max_wait_s if prefer.wait_s is None else prefer.wait_s
            outcome = waiter.wait(min(wait_s, until_deadline_s))
    media = _media(accept, outcome)
    if outcome is not None:
        return answers.settled(job.spec, outcome, media, prefer)
    return unanswered(gateway, job.spec, media, prefer)


def _media(accept: str, outcome: Outcome | None = None) -> str:
    """The type that the answer to a duplicate is in; raises NotAcceptable.

    The version may be gone, so that the outcome alone tells which types there are.
    """
    offered: tuple[str, ...] = answers.RESULT_TYPES
    if outcome is not None:
        if outcome.error is not None:
            return JSON
        if outcome.outputs is None:
            offered = answers.RECORD_TYPES
        elif len(outcome.outputs) != 1:
            offered = tuple(media for media in offered if media != NPY)
    return negotiate(accept, offered)
