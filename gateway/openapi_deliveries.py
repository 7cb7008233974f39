"""Deliveries in the OpenAPI description: headers of invocations, dead letters, webhook secrets."""

from __future__ import annotations

from contract.delivery import State
from contract.job import JOB_ID_CHARS
from gateway.openapi_json import COUNT, NUMBER, STRING, Schema, list_of, object_of
from gateway.openapi_parts import Record, header, operation, problems, query, shown

_STORE = ("store_unavailable", "internal")
_ABOUT = "`https://...`, `function:NAME` or `stream:events:KEY`, several separated by commas: told "
ON_SUCCESS = header("Fusebox-On-Success", _ABOUT + "when the job has a result.")
ON_FAILURE = header("Fusebox-On-Failure", _ABOUT + "when it has ended without one.")
_LETTER_PARAMETER: Record = {
    "name": "letter_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^[0-9a-f]{{{JOB_ID_CHARS}}}(-[0-9]{{1,2}})?$"},
}
_LOCATION: Record = {"Location": {"description": "The job.", "schema": {"type": "string"}}}
_TIME: Schema = {"type": "string", "format": "date-time"}
_OPTIONAL_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_OPTIONAL_TEXT: Schema = {"type": ["string", "null"]}

DELIVERY: Schema = object_of(
    {
        "destination": STRING,
        "state": {"type": "string", "enum": [str(state) for state in State]},
        "attempts": COUNT,
        "at": _OPTIONAL_TIME,
        "next_at": _OPTIONAL_TIME,
        "status": {"type": ["integer", "null"]},
        "error": _OPTIONAL_TEXT,
        "job": _OPTIONAL_TEXT,
    }
)
_LETTER: Schema = {
    "id": STRING,
    "kind": {"type": "string", "enum": ["job", "delivery"]},
    "reason": STRING,
    "at": _TIME,
    "job": STRING,
    "function": STRING,
    "version": COUNT,
    "status": STRING,
    "attempts": COUNT,
    "error": {"type": ["object", "null"]},
    "cause": _OPTIONAL_TEXT,
    "payload_type": STRING,
    "payload_bytes": COUNT,
    "delivery": DELIVERY | {"type": ["object", "null"]},
}
DEAD_LETTERS: Schema = {
    "DeadLetter": object_of(
        _LETTER
        | {
            "job_record": {"$ref": "#/components/schemas/Job"},
            "payload": STRING | {"description": "Base64; not of one that is large."},
        },
        optional=("job_record", "payload"),
    ),
    "DeadLetters": object_of({"dead_letters": list_of(object_of(_LETTER)), "count": COUNT}),
    "Redriven": object_of({"id": STRING, "job": STRING}),
    "Purged": object_of({"purged": COUNT}),
    "WebhookSecrets": object_of({"secrets": list_of(STRING)}),
}


def dead_letters() -> Record:
    """The operations on dead letters and on secrets of webhooks."""
    listing = operation(
        "dead_letters",
        "deliveries",
        "Jobs that failed for good while nobody waited, and deliveries that were given up",
        {
            "200": shown("The newest first.", "DeadLetters"),
            **problems("invalid_input", *_STORE),
        },
        parameters=[
            query("count", "At most.", type="integer", minimum=1, maximum=1000, default=100),
            query("before", "Older than this, Unix seconds.", **NUMBER, minimum=0),
        ],
    )
    show = operation(
        "dead_letter",
        "deliveries",
        "A dead letter, with its payload",
        {"200": shown("The letter.", "DeadLetter"), **problems("unknown_letter", *_STORE)},
    )
    redrive = operation(
        "redrive",
        "deliveries",
        "Run the job again by the latest version, or try the delivery anew",
        {
            "202": shown("Accepted; the letter is gone.", "Redriven", headers=_LOCATION),
            **problems(
                "bad_request", "malformed_body", "payload_too_large", "unsupported_media_type",
                "invalid_input", "unknown_letter", "unknown_function", "unknown_alias",
                "queue_full",
                "wait_too_long", "unavailable", *_STORE,
            ),
        },
    )  # fmt: skip
    purge = operation(
        "purge_dead_letter",
        "deliveries",
        "Remove a dead letter",
        {"200": shown("How many.", "Purged"), **problems("unknown_letter", *_STORE)},
    )
    purge_all = operation(
        "purge_dead_letters",
        "deliveries",
        "Remove all dead letters",
        {"200": shown("How many.", "Purged"), **problems(*_STORE)},
    )
    secret = operation(
        "webhook_secret",
        "deliveries",
        "What receivers of webhooks check signatures with",
        {"200": shown("The newest first.", "WebhookSecrets"), **problems(*_STORE)},
    )
    rotate = operation(
        "rotate_webhook_secret",
        "deliveries",
        "Make a new secret; the one before is valid for a day",
        {
            "200": shown("The newest first.", "WebhookSecrets"),
            **problems("bad_request", *_STORE),
        },
    )
    item = {"parameters": [_LETTER_PARAMETER]}
    return {
        "/v1/dead-letters": {"get": listing, "delete": purge_all},
        "/v1/dead-letters/{letter_id}": {"get": show, "delete": purge, **item},
        "/v1/dead-letters/{letter_id}/redrive": {"post": redrive, **item},
        "/v1/webhooks/secret": {"get": secret},
        "/v1/webhooks/secret/rotate": {"post": rotate},
    }
