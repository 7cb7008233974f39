"""Pages for people: the status page at `/` and the API at `/docs`. Nothing comes from outside."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask, Response, make_response, render_template, request
from markupsafe import Markup, escape

from contract.errors import BY_CODE, StoreUnavailable
from gateway.context import Gateway
from gateway.explanations import group_record
from gateway.openapi import document
from gateway.overview import Overview, newest_groups
from gateway.timeline import timelines

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:"
)
# of each worker, on the status page
GROUPS, FUNCTIONS = 8, 24
# looked at for the last second of each device, and listed
LAST_GROUPS, SHOWN_GROUPS = 1000, 8
_UNITS = ("B", "kB", "MB", "GB", "TB")


def route(app: Flask, gateway: Gateway) -> None:
    """Add the pages and what their templates need."""
    app.jinja_env.filters |= {
        filter_.__name__: filter_ for filter_ in (in_bytes, in_ms, in_s, number, decimal, marked)
    }
    app.add_url_rule("/", "status", lambda: _status(gateway))
    app.add_url_rule("/docs", "docs", lambda: _docs(gateway))


def _status(gateway: Gateway) -> Response:
    """The page; with `?part` only what changes, which the page's script asks for."""
    is_part = "part" in request.args
    if gateway.settings.is_guarded and not is_part:
        # the page itself is for everybody; its script asks for a key and, with it, for the figures
        return _page("status.html", is_guarded=True)
    template = "status_part.html" if is_part else "status.html"
    try:
        overview = Overview.read(gateway.store)
    except StoreUnavailable:
        return _page(template, 503, stats=None)
    groups = {worker.id: newest_groups(worker, GROUPS) for worker in overview.workers}
    last = gateway.store.scheduling.last_groups(LAST_GROUPS)
    # the last asked for is the last in a report
    newest = {w.id: [*w.memory.items()][: -FUNCTIONS - 1 : -1] for w in overview.workers}
    return _page(
        template,
        stats=overview.as_json(),
        workers=overview.workers,
        groups=groups,
        newest=newest,
        timelines=timelines(last),
        last=[group_record(group) for group in last[:SHOWN_GROUPS]],
    )


def _docs(gateway: Gateway) -> Response:
    errors = [(error.code, error.http_status, error.__doc__) for error in BY_CODE.values()]
    return _page("docs.html", api=document(gateway.settings.is_guarded), errors=errors)


def _page(template: str, status: int = 200, **values: Any) -> Response:
    response = make_response(render_template(template, **values), status)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-store"
    return response


def in_bytes(count: float) -> str:
    """Bytes for people, powers of ten: 45.2 MB."""
    for unit in _UNITS:
        if abs(count) < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"


def in_ms(latency_ms: float | None) -> str:
    """Milliseconds for people; a dash where nothing was measured."""
    if latency_ms is None:
        return "\u2013"
    if latency_ms >= 9999.5:
        return f"{latency_ms / 1000:.1f} s"
    return f"{latency_ms:.0f} ms" if latency_ms >= 99.5 else f"{latency_ms:.1f} ms"


def in_s(seconds: float | None) -> str:
    """A time for people: 0.4 s, 12 s, 5 min, 3 h; a dash where there is none."""
    if seconds is None:
        return "\u2013"
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.0f} h"


def number(count: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")


def decimal(value: float | None, form: str = ".1f") -> str:
    """A number with its decimals; a dash where there is none."""
    return "\u2013" if value is None else format(value, form)


def marked(text: str) -> Markup:
    """Text whose `words` in backticks are code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped
