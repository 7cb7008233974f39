"""Triggers and events in the OpenAPI description."""

from __future__ import annotations

from contract.function import NAME
from contract.job import MAX_PRIORITY
from contract.trigger import Kind
from gateway.answer import JSON
from gateway.openapi_json import COUNT, FLAG, STRING, Schema, list_of, object_of
from gateway.openapi_parts import ANY, Record, header, operation, problems, query
from gateway.triggers.cloudevents import BATCHED, MAX_EVENTS, STRUCTURED
from gateway.triggers.cron import MAX_SCHEDULE_CHARS, MAX_ZONE_CHARS, MISSED
from gateway.triggers.definition import (
    BAD_INPUT,
    EXISTING,
    FIRST,
    MAX_BATCH,
    MAX_KEY_CHARS,
    MAX_PATTERN_CHARS,
)
from gateway.triggers.filters import DIALECTS, MAX_FILTERS, MAX_TEXT_CHARS
from gateway.triggers.management import MAX_COUNT
from gateway.triggers.mapping import MAX_EXPRESSION_CHARS

_TAG = "triggers"
_STORE = ("store_unavailable", "internal")
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_TEXT: Schema = {"type": ["string", "null"]}
_NAME_PARAMETER: Record = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
}


def _one_of(words: tuple[str, ...]) -> Schema:
    return {"type": "string", "enum": list(words), "default": words[0]}


def _options() -> dict[str, Schema]:
    """What a trigger of each kind is asked with."""
    conditions = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z0-9]+$"},
        "additionalProperties": STRING | {"minLength": 1, "maxLength": MAX_TEXT_CHARS},
    }
    each = {
        "type": "object",
        "minProperties": 1,
        "properties": dict.fromkeys(DIALECTS, conditions),
        "additionalProperties": False,
    }
    cron = {
        "schedule": STRING | {"maxLength": MAX_SCHEDULE_CHARS, "examples": ["*/5 * * * *"]},
        "timezone": STRING | {"maxLength": MAX_ZONE_CHARS, "default": "UTC"},
        "missed": _one_of(MISSED),
        "data": {"description": "The data of every tick, any JSON."},
    }
    stream = {
        "key": STRING | {"minLength": 1, "maxLength": MAX_KEY_CHARS},
        "from": _one_of(FIRST),
        "batch": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH, "default": 100},
    }
    watch = {
        "url": STRING | {"description": "A folder or URL in one that FUSEBOX_WATCH names."},
        "pattern": STRING | {"maxLength": MAX_PATTERN_CHARS, "default": "*"},
        "every_s": {"type": "number", "minimum": 0.1, "maximum": 86_400, "default": 2},
        "settle_s": {"type": "number", "minimum": 0, "maximum": 3_600, "default": 1},
        "existing": _one_of(EXISTING),
    }
    filters = list_of(each) | {"maxItems": MAX_FILTERS, "description": "All of them must hold."}
    return {
        "cron": _closed(cron, "schedule"),
        "stream": _closed(stream, "key"),
        "event": _closed({"filters": filters}),
        "watch": _closed(watch, "url"),
    }


def _closed(properties: Schema, *required: str) -> Schema:
    optional = tuple(name for name in properties if name not in required)
    return object_of(properties, optional) | {"additionalProperties": False}


def _wanted() -> Schema:
    common: Schema = {
        "name": STRING | {"pattern": f"^{NAME.pattern}$"},
        "function": STRING | {"description": "NAME or NAME@VERSION."},
        "input": STRING
        | {
            "maxLength": MAX_EXPRESSION_CHARS,
            "description": "JMESPath, from the event to the input; without it the event's data.",
        },
        "priority": {"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY, "default": 0},
        "on_bad_input": _one_of(BAD_INPUT),
    }
    options = _options()
    return _closed(common | options, "name", "function") | {
        "oneOf": [{"required": [str(kind)]} for kind in Kind]
    }


def _trigger() -> Schema:
    kinds: dict[str, Schema] = {str(kind): {"type": "object"} for kind in Kind}
    own: Schema = {
        "name": STRING,
        "kind": {"type": "string", "enum": [str(kind) for kind in Kind]},
        "function": STRING,
        "input": STRING,
        "priority": COUNT,
        "on_bad_input": _one_of(BAD_INPUT),
        "created_at": {"type": "string", "format": "date-time"},
        "state": {"type": "string", "enum": ["active", "paused", "failing"]},
        "fired": COUNT,
        "skipped": COUNT,
        "last_at": _TIME,
        "last_job": _TEXT,
        "error": {"type": ["object", "null"], "properties": {"code": STRING, "detail": STRING}},
        "retry_at": _TIME,
    }
    later: Schema = {"next_at": _TIME}
    return object_of(own | kinds | later, optional=(*kinds, *later))


def _event() -> Schema:
    own: Schema = {
        "specversion": {"const": "1.0"},
        "id": STRING | {"minLength": 1},
        "source": STRING | {"minLength": 1, "format": "uri-reference"},
        "type": STRING | {"minLength": 1},
        "datacontenttype": _TEXT,
        "subject": _TEXT,
        "time": _TIME,
        "data": {"description": "Any JSON."},
        "data_base64": STRING | {"contentEncoding": "base64"},
    }
    return object_of(own, tuple(own)[4:])


def _body(schema: Schema) -> Record:
    return {"required": True, "content": {JSON: {"schema": schema}}}


def _answer(about: str, schema: Schema, **more: Record) -> Record:
    return {"description": about, "content": {JSON: {"schema": schema}}, **more}


def _of_event(is_required: bool) -> Record:
    """A body in any of the three modes; binary mode takes all other types."""
    batch = list_of(_event()) | {"maxItems": MAX_EVENTS}
    content = {STRUCTURED: {"schema": _event()}, BATCHED: {"schema": batch}, "*/*": ANY}
    return {"required": is_required, "content": content}


def _in_binary_mode() -> list[Record]:
    about = "In binary mode; percent-encoded."
    return [header(f"ce-{name}", about) for name in ("specversion", "id", "source", "type")]


def _events() -> Record:
    job = {"event": STRING, "source": STRING, "trigger": STRING, "job": STRING}
    done = object_of(
        {
            "events": COUNT,
            "unmatched": COUNT | {"description": "For which there is no trigger."},
            "jobs": list_of(object_of(job | {"is_duplicate": FLAG})),
        }
    )
    post = operation(
        "send_events",
        _TAG,
        "Send CloudEvents to the triggers that they are for",
        {
            "202": _answer("All of them are jobs.", done),
            **problems(
                "malformed_body", "request_timeout", "payload_too_large", "unsupported_media_type",
                "invalid_input", "queue_full", "wait_too_long", "unavailable", *_STORE,
            ),
        },
        description="CloudEvents 1.0 in binary, structured or batched mode. An event that came "
        "before, by source and id, is the job that it was.",
        parameters=_in_binary_mode(),
        requestBody=_of_event(is_required=False),
    )  # fmt: skip
    return {"post": post}


def _list() -> Record:
    page = object_of({"triggers": list_of(_trigger()), "next": _TEXT})
    return operation(
        "triggers",
        _TAG,
        "Triggers, by name",
        {"200": _answer("A page.", page), **problems("invalid_input", *_STORE)},
        parameters=[
            query("count", "Triggers at most.", type="integer", minimum=1, maximum=MAX_COUNT),
            query("after", "From behind this name: `next` of the page before.", type="string"),
        ],
    )


def _create() -> Record:
    place = {"Location": {"description": "Where to find it.", "schema": {"type": "string"}}}
    return operation(
        "create_trigger",
        _TAG,
        "Make a trigger",
        {
            "201": _answer("It works from now on.", _trigger(), headers=place),
            **problems(
                "malformed_body", "request_timeout", "payload_too_large", "invalid_input",
                "unknown_function", "trigger_exists", *_STORE,
            ),
        },
        requestBody=_body(_wanted()),
    )  # fmt: skip


def _test() -> Record:
    tried = object_of(
        {
            "trigger": STRING,
            "function": STRING,
            "version": COUNT,
            "is_match": FLAG,
            "rows": COUNT,
            "content_type": STRING,
            "payload": {},
            "payload_base64": STRING,
        },
        optional=("payload", "payload_base64"),
    )
    return operation(
        "test_trigger",
        _TAG,
        "The input that an event would become; nothing runs",
        {
            "200": _answer("What the function would get.", tried),
            **problems(
                "malformed_body", "request_timeout", "payload_too_large", "unsupported_media_type",
                "invalid_input", "unknown_trigger", "unknown_function", *_STORE,
            ),
        },
        parameters=_in_binary_mode(),
        requestBody=_of_event(is_required=False),
    )  # fmt: skip


def describe() -> Record:
    """The operations on triggers and events."""

    def simple(identity: str, summary: str) -> Record:
        answers = {"200": _answer("The trigger.", _trigger())}
        return operation(identity, _TAG, summary, answers | problems("unknown_trigger", *_STORE))

    item = {"parameters": [_NAME_PARAMETER]}
    path = "/v1/triggers/{name}"
    return {
        "/v1/events": _events(),
        "/v1/triggers": {"get": _list(), "post": _create()},
        path: {
            "get": simple("trigger", "Show a trigger"),
            "delete": simple("remove_trigger", "Remove a trigger; its jobs run on"),
            **item,
        },
        f"{path}/pause": {"post": simple("pause_trigger", "Pause a trigger"), **item},
        f"{path}/resume": {
            "post": simple("resume_trigger", "Resume a trigger, or have it try at once"),
            **item,
        },
        f"{path}/test": {"post": _test(), **item},
    }
