"""Records come back from their encodings; bad ones are refused with the key's name."""

from __future__ import annotations

import json
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import (
    BY_CODE,
    FuseboxError,
    InvalidArtifact,
    QueueFull,
    UnknownFunction,
    decode_error,
)
from contract.function import Function, FunctionRef, Manifest
from contract.job import JOB_ID_CHARS, TENSORS, JobSpec, Outcome, Status, new_job_id
from contract.store.queue import GroupReport
from contract.store.telemetry import LATENCY_BOUNDS_S, latency_bucket, quantile_s
from contract.store.workers import DagCacheReport, FunctionMemory, WorkerReport
from tests.integration.store.builders import a_manifest

TIMES = st.floats(0, 2e9)


@given(st.integers(1, 10**6), TIMES, TIMES, TIMES)
def test_a_job_spec_survives_its_encoding(
    rows: int, accepted_s: float, due_s: float, deadline_s: float
) -> None:
    """To the last bit of its times."""
    spec = JobSpec(new_job_id(), "echo", 3, rows, accepted_s, due_s, deadline_s, TENSORS, 7)
    assert JobSpec.decode(spec.encode()) == spec


def test_a_job_spec_without_a_priority_has_none() -> None:
    """Entries of an older version are in the stream while the platform is replaced."""
    spec = JobSpec(new_job_id(), "echo", 3, 1, 0.0, 1.0, 2.0, TENSORS)
    old = msgpack.packb(msgpack.unpackb(spec.encode())[:-1])
    assert JobSpec.decode(old) == spec


@given(
    st.sampled_from(Status),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False)),
    st.none() | st.dictionaries(st.text(max_size=5), st.binary(max_size=9)),
    st.recursive(st.none() | st.integers(0, 2**63) | st.text(), st.lists, max_leaves=5),
)
def test_an_outcome_survives_its_encoding(
    status: Status, timings: dict[str, float], outputs: object, result: object
) -> None:
    """Whatever a function answers."""
    outcome = Outcome(status, timings, outputs, result, None, 3, 2)  # type: ignore[arg-type]
    assert Outcome.decode(outcome.encode()) == outcome


def test_job_ids_have_a_fixed_length_and_sort_by_time() -> None:
    """The replies rely on the length, the policy on the order."""
    early, late = new_job_id(1_000.0), new_job_id(1_000.001)
    assert len(early) == len(late) == JOB_ID_CHARS
    assert early < late


def test_a_manifest_and_a_function_survive_their_encodings() -> None:
    """As deploy writes them and the registry holds them."""
    manifest = a_manifest(slo_ms=50.0, keep_alive_s=-1.0)
    assert Manifest.decode(manifest.encode()) == manifest
    function = Function("echo", 3, "d" * 64, 1.5, manifest)
    assert Function.decode(function.encode()) == function


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "zz"),
        ("inputs", []),
        ("inputs", [{"name": "", "dtype": "float32", "shape": []}]),
        ("inputs", [{"name": "x", "dtype": "float99", "shape": []}]),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": [-1]}]),
        ("inputs", [{"name": "x", "dtype": "float32", "shape": []}] * 2),
        ("max_batch", 0),
        ("max_batch", True),
        ("is_batchable", "yes"),
        ("timeout_ms", float("nan")),
        ("timeout_ms", 0),
        ("slo_ms", "fast"),
        ("weight_bytes", -1),
        ("activation_bytes", {"one": 1}),
        ("activation_bytes", [1]),
        ("is_eager", 1),
        ("row_buckets", 4),
        ("row_buckets", [0, 4]),
        ("row_buckets", [4, 2]),
        ("row_buckets", [2, 2]),
        ("row_buckets", [True]),
        ("row_buckets", [*range(1, 30)]),
    ],
)
def test_a_manifest_with_a_bad_value_names_the_key(key: str, value: object) -> None:
    """So that whoever packed it can mend it."""
    record = a_manifest().as_json() | {key: value}
    with pytest.raises(InvalidArtifact, match=rf"manifest\.json: {key}"):
        Manifest.decode(json.dumps(record).encode())


def test_an_artifact_of_before_row_buckets_is_read() -> None:
    """It has one graph."""
    record = a_manifest().as_json()
    del record["row_buckets"], record["is_eager"]
    manifest = Manifest.from_json(record)
    assert (manifest.is_eager, manifest.graph_files) == (False, ("graph.json",))


def test_an_eager_function_has_no_graphs() -> None:
    """Nor numbers of rows for them."""
    manifest = a_manifest(is_eager=True)
    assert Manifest.decode(manifest.encode()).graph_files == ()
    with pytest.raises(InvalidArtifact, match="row_buckets: expected none where is_eager"):
        Manifest.from_json(manifest.as_json() | {"row_buckets": [manifest.max_batch]})


def test_row_buckets_say_which_graphs_there_are_and_which_rows_a_job_may_have() -> None:
    """Any number that a bucket holds where rows are independent, else a bucket's own."""
    manifest = a_manifest(row_buckets=(2, 4), max_batch=4, activation_bytes={2: 10, 4: 30})
    assert Manifest.decode(manifest.encode()) == manifest
    assert manifest.graph_files == ("graph.json", "graph.4.json")
    assert (manifest.is_batchable, manifest.rows_allowed) == (True, ())
    assert replace(manifest, is_batchable=False).rows_allowed == (2, 4)
    assert [manifest.activation_bytes_at(rows) for rows in (1, 2, 3, 4)] == [10, 10, 30, 30]


def test_the_largest_row_bucket_is_the_largest_batch() -> None:
    """Nothing could run the rows between."""
    record = a_manifest().as_json() | {"row_buckets": [1, 2], "max_batch": 8}
    with pytest.raises(InvalidArtifact, match="max_batch: expected 2"):
        Manifest.from_json(record)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_invalid(data: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    with pytest.raises(InvalidArtifact):
        Manifest.decode(data)


def test_activations_lie_on_a_line_through_what_was_measured() -> None:
    """Below, between and above the measured rows."""
    at = a_manifest(activation_bytes={2: 100, 10: 500}).activation_bytes_at
    assert [at(rows) for rows in (1, 2, 6, 10, 20)] == [50, 100, 300, 500, 1000]
    assert a_manifest(activation_bytes={}).activation_bytes_at(3) == 0


def test_function_references_are_names_with_an_optional_version() -> None:
    """Anything else cannot be the name of a function."""
    assert FunctionRef.parse("echo") == FunctionRef("echo", 0)
    assert FunctionRef.parse("echo@3") == FunctionRef("echo", 3)
    assert str(FunctionRef("echo", 3)) == "echo@3"
    assert FunctionRef.parse("echo@canary-1") == FunctionRef("echo", 0, "canary-1")
    assert str(FunctionRef("echo", 0, "canary-1")) == "echo@canary-1"
    assert [FunctionRef.parse(f"echo{at}").is_latest for at in ("", "@1", "@x")] == [
        True,
        False,
        False,
    ]
    for text in (
        "",
        "Echo",
        "echo@",
        "echo@0",
        "echo@-1",
        "echo@x y",
        "echo@1x",
        "echo@_x",
        "echo@" + "x" * 64,
        "a/b",
        "-a",
        "a" * 64,
        "a@²",
    ):
        with pytest.raises(UnknownFunction):
            FunctionRef.parse(text)


def test_every_error_has_its_own_code_and_comes_back_from_an_outcome() -> None:
    """Clients tell errors apart by the code."""
    classes = set(BY_CODE.values())
    assert len({error.code for error in classes}) == len(classes)
    for error in classes:
        assert type(decode_error(error().encode())) is error
    again = decode_error(QueueFull("full", retry_after_s=2).encode())
    assert (again.detail, again.extensions) == ("full", {"retry_after_s": 2})
    assert type(decode_error({"code": "of_the_future", "detail": "?"})) is FuseboxError


def test_reports_survive_their_encodings() -> None:
    """Of groups, and of workers."""
    group = GroupReport("g", "w", (("f", 1, 3),), 0.1, 0.2, 0.3, 4)
    assert GroupReport.decode(group.encode()) == group
    cache = DagCacheReport(1)
    worker = WorkerReport(
        "w", "cpu", "a cpu", 1, 2, 3, 4, 5, 6, {"f@1": 7}, [], cache, 8, 9, False, 1.0, 2.0
    )
    assert WorkerReport.decode(worker.encode().encode()) == worker
    memory = FunctionMemory("host", 0, 7, 2, 0.5, 1, 0.4, 2, 1, 3.0, 4.0, 1.0, None, 5.0)
    fuller = replace(worker, memory={"f@1": memory}, thrash=1, eviction="cost")
    assert WorkerReport.decode(fuller.encode().encode()) == fuller


def test_a_report_of_an_earlier_version_is_read() -> None:
    """While a platform is updated, its old workers still report."""
    worker = WorkerReport(
        "w", "cpu", "a cpu", 1, 2, 3, 4, 5, 6, {}, [], DagCacheReport(), 8, 9, False, 1.0, 2.0
    )
    record = json.loads(worker.encode())
    for name in ("memory", "thrash", "eviction"):
        del record[name]
    assert WorkerReport.decode(json.dumps(record).encode()) == worker


@given(st.lists(st.floats(1e-4, 60), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(
    latencies: list[float], share: float
) -> None:
    """The histogram loses no more than a bucket's width."""
    stats: dict[str, int] = {}
    for latency in latencies:
        field = f"latency:{latency_bucket(latency)}"
        stats[field] = stats.get(field, 0) + 1
    found = quantile_s(stats, share)
    assert found is not None
    rank = max(0, -int(-share * len(latencies) // 1) - 1)
    bucket = latency_bucket(sorted(latencies)[rank])
    low = LATENCY_BOUNDS_S[bucket - 1] if bucket else 0.0
    high = LATENCY_BOUNDS_S[min(bucket, len(LATENCY_BOUNDS_S) - 1)]
    assert low <= found <= high or found == pytest.approx(low) or found == pytest.approx(high)
