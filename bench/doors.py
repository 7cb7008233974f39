"""What other protocols cost over the platform's own route: one function, one job path, six doors.

Four floats in and out, 32 clients of `wrk` on the same cores. Every round measures each door once,
in an order of its own; what a door costs is the time per request over that of the native route in
the same rounds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import requests
from _intervals import Interval, ratio_interval
from _platform import running_platform
from _report import Row, finish
from _wrk import Call, Load, require_wrk

VALUES = [1.0, 2.0, 3.0, 4.0]
NATIVE = "native"
CLIENTS = 32
OVERHEAD_BAR = 10.0
ROUNDS, ROUND_S = 15, 3
# wrk knows whole seconds alone
QUICK_ROUNDS, QUICK_ROUND_S = 3, 2
WARM_UP_S = 1
JSON_TYPE = {"Content-Type": "application/json"}


class Door(NamedTuple):
    """One way to call the function."""

    path: str
    call: Call
    # the values in its answer
    read: Callable[[requests.Response], Any]
    status: int = 200


def _native() -> Door:
    body = json.dumps({"inputs": {"x": [VALUES]}}).encode()
    return Door(
        "/v1/functions/echo/invoke",
        Call("POST", body, JSON_TYPE),
        lambda answer: answer.json()["outputs"]["output"][0],
    )


def _v2_json() -> Door:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": VALUES}
    return Door(
        "/v2/models/echo/infer",
        Call("POST", json.dumps({"inputs": [tensor]}).encode(), JSON_TYPE),
        lambda answer: answer.json()["outputs"][0]["data"],
    )


def _v2_binary() -> Door:
    data = struct.pack("<4f", *VALUES)
    size = {"binary_data_size": len(data)}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Door(
        "/v2/models/echo/infer",
        Call("POST", head + data, headers),
        lambda answer: list(struct.unpack("<4f", answer.content[-len(data) :])),
    )


def _lambda() -> Door:
    body = json.dumps({"inputs": {"x": [VALUES]}}).encode()
    return Door(
        "/2015-03-31/functions/echo/invocations",
        Call("POST", body, JSON_TYPE),
        lambda answer: answer.json()["output"][0],
    )


def _openfaas() -> Door:
    body = json.dumps({"inputs": {"x": [VALUES]}}).encode()
    return Door(
        "/function/echo",
        Call("POST", body, JSON_TYPE),
        lambda answer: answer.json()["output"][0],
    )


def _predictions() -> Door:
    body = json.dumps({"version": "echo", "input": {"x": [VALUES]}}).encode()
    return Door(
        "/v1/predictions",
        Call("POST", body, JSON_TYPE | {"Prefer": "wait"}),
        lambda answer: answer.json()["output"]["output"][0],
        # it is created, and has ended
        status=201,
    )


def doors() -> dict[str, Door]:
    """Every door by its name, the native one first."""
    return {
        NATIVE: _native(),
        "V2 JSON": _v2_json(),
        "V2 binary": _v2_binary(),
        "Lambda Invoke": _lambda(),
        "OpenFaaS": _openfaas(),
        "predictions, Prefer: wait": _predictions(),
    }


def check(url: str, name: str, door: Door) -> None:
    """One call, whose answer must be what was sent: what is measured is known to be computed."""
    answer = requests.post(
        url + door.path, data=door.call.body, headers=dict(door.call.headers), timeout=60
    )
    assert answer.status_code == door.status, f"{name}: {answer.status_code} {answer.text[:500]}"
    assert door.read(answer) == VALUES, f"{name}: {answer.text[:500]}"


def measure(rounds: int, seconds: int) -> dict[str, list[Load]]:
    """The runs of each door; run k of all belongs to one round."""
    chosen = doors()
    found: dict[str, list[Load]] = {name: [] for name in chosen}
    order, shuffle = list(chosen), random.Random(0).shuffle
    with running_platform() as platform:
        platform.deploy(str(Path(__file__).parent / "functions" / "echo.py"))
        platform.wait_ready()
        for name, door in chosen.items():
            check(platform.url, name, door)
            Load(platform.url + door.path, door.call, CLIENTS, WARM_UP_S)
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                door = chosen[name]
                run = Load(platform.url + door.path, door.call, CLIENTS, seconds)
                found[name].append(run)
        for name, door in chosen.items():
            check(platform.url, name, door)
    return found


def rows_of(found: dict[str, list[Load]]) -> list[Row]:
    """Rate and latency of each door, and what those that are not native cost."""
    rows = []
    for name, runs in found.items():
        rates = [run.rate for run in runs]
        rows += [
            Row(f"{name}: requests per second", statistics.median(rates), "1/s",
                interval=Interval(min(rates), max(rates), len(rates))),
            Row(f"{name}: median latency", statistics.median(run.p50_ms for run in runs), "ms"),
            Row(f"{name}: p99 latency", statistics.median(run.p99_ms for run in runs), "ms"),
        ]  # fmt: skip
    native_s = [1 / run.rate for run in found[NATIVE]]
    for name, runs in found.items():
        if name != NATIVE:
            rows.append(_overhead(name, [1 / run.rate for run in runs], native_s))
    errors = sum(run.errors for runs in found.values() for run in runs)
    return [*rows, Row("failed calls", float(errors), "", 0.0, False)]


def _overhead(name: str, door_s: Sequence[float], native_s: Sequence[float]) -> Row:
    """Time per request over that of the native route, in percent more."""
    ratio = statistics.median(door_s) / statistics.median(native_s)
    low, high, runs = ratio_interval(door_s, native_s)
    interval = Interval((low - 1) * 100, (high - 1) * 100, runs)
    return Row(f"{name}: over native", (ratio - 1) * 100, "%", OVERHEAD_BAR, False, interval)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too")
    options = parser.parse_args(words)
    require_wrk()
    rounds, seconds = (QUICK_ROUNDS, QUICK_ROUND_S) if options.quick else (ROUNDS, ROUND_S)
    return finish(rows_of(measure(rounds, seconds)), "Doors over the native route", options.json)


if __name__ == "__main__":
    sys.exit(main())
