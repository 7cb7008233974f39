"""`X-Callback-Url`: who hears of the end of an asynchronous call, and what is posted there."""

from __future__ import annotations

from contract.destinations import parse
from contract.errors import InvalidInput, RequestError
from contract.job import Job
from gateway.delivery.formats import End, Format, Message
from gateway.openfaas.calls import CAUSE, answered

FORMAT = "openfaas"


def callback_of(url: str) -> tuple[str, ...]:
    """The destination of a callback URL, none for ""; raises RequestError."""
    if not url:
        return ()
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"X-Callback-Url: expected an http or https URL, got {url[:100]!r}")
    try:
        return (parse(f"{FORMAT}+{url}", "X-Callback-Url").text,)
    except InvalidInput as error:
        raise RequestError(error.detail) from error


def told(end: End) -> Message:
    """The function's answer with OpenFaaS's headers, as its queue worker posts it."""
    job = end.job
    assert job.outcome is not None
    answer = answered(job.outcome)
    headers = (
        ("X-Call-Id", _call_id(job)),
        ("X-Function-Name", job.spec.function),
        ("X-Function-Status", str(answer.status)),
        ("X-Duration-Seconds", f"{max(0.0, end.at_s - job.spec.accepted_at_s):.6f}"),
    )
    return Message(answer.body, answer.content_type, answer.headers + headers)


def _call_id(job: Job) -> str:
    cause = job.origin.cause
    return cause.removeprefix(CAUSE) if cause.startswith(CAUSE) else job.spec.id


OPENFAAS_FORMAT = Format(told)
