"""A function version: what deploy says of it, and what every process knows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from contract.aliases import ALIAS_NAME
from contract.errors import InvalidArtifact, InvalidInput, UnknownFunction
from contract.tensors import TensorSpec

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# what stands behind the @ of a reference
QUALIFIER = re.compile(rf"[1-9][0-9]{{0,8}}|{ALIAS_NAME.pattern}")
_REF = re.compile(rf"({NAME.pattern})(?:@({QUALIFIER.pattern}))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# A member of an artifact is one of these, `graph.ROWS.json` or a file under `files/`.
MANIFEST, GRAPH, WEIGHTS, HANDLER = (
    "manifest.json",
    "graph.json",
    "weights.safetensors",
    "handler.py",
)
INCLUDED = "files/"
# powers of two up to the largest max_batch
MAX_ROW_BUCKETS = 17


def graph_files(row_buckets: Sequence[int]) -> tuple[str, ...]:
    """Members of an artifact that are its graphs: one, or one per row bucket."""
    return (GRAPH, *(f"graph.{rows}.json" for rows in row_buckets[1:]))


class FunctionRef(NamedTuple):
    """A function's name and version, or one of its aliases; version 0 without one: the latest."""

    name: str
    version: int = 0
    alias: str = ""

    @classmethod
    def parse(cls, text: str) -> FunctionRef:
        """`NAME`, `NAME@3` or `NAME@prod`; raises UnknownFunction for anything else."""
        match = _REF.fullmatch(text)
        if not match:
            expected = "NAME, NAME@VERSION or NAME@ALIAS"
            raise UnknownFunction(f"function: expected {expected}, got {text[:100]!r}")
        name, qualifier = match.groups()
        if not qualifier:
            return cls(name)
        return cls(name, int(qualifier)) if qualifier.isdigit() else cls(name, 0, qualifier)

    @property
    def is_latest(self) -> bool:
        """Whether it asks for the latest version, whichever that is."""
        return not self.version and not self.alias

    def __str__(self) -> str:
        qualifier = self.alias or self.version
        return f"{self.name}@{qualifier}" if qualifier else self.name


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself; `manifest.json`."""

    # of the graph, or the sha-256 of `handler.py` where there is none
    architecture: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: int
    weight_bytes: int
    # activation peak of one run, by rows, as measured when the artifact was made
    activation_bytes: dict[int, int]
    operators_exported: int
    operators: int
    max_batch: int
    # False: the model mixes rows of one input, so rows of different callers never share a run
    is_batchable: bool
    has_preprocess: bool
    has_postprocess: bool
    slo_ms: float | None
    timeout_ms: float
    keep_alive_s: float | None
    # rows of its static graphs, ascending; none where one graph takes any number up to max_batch
    row_buckets: tuple[int, ...] = ()
    # no graph: its module is made from its source in a handler host, where forward runs as it is
    is_eager: bool = False
    # destinations that are told of each job of it: of a result, of any other end
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()

    @property
    def graph_files(self) -> tuple[str, ...]:
        """Members of the artifact that are its graphs, smallest row bucket first."""
        return () if self.is_eager else graph_files(self.row_buckets)

    @property
    def rows_allowed(self) -> tuple[int, ...]:
        """The numbers of rows that a job may have; none where every one up to max_batch may be."""
        # rows that are independent fill the next bucket up
        return () if self.is_batchable else self.row_buckets

    @property
    def has_hooks(self) -> bool:
        """Whether jobs of this function pass through a handler host."""
        return self.has_preprocess or self.has_postprocess

    def activation_bytes_at(self, rows: int) -> int:
        """Activation peak of a run of this many rows: a line through what was measured."""
        if not self.activation_bytes:
            return 0
        rows = next((bucket for bucket in self.row_buckets if bucket >= rows), rows)
        below = max((r for r in self.activation_bytes if r <= rows), default=0)
        above = min((r for r in self.activation_bytes if r > rows), default=0)
        low = self.activation_bytes.get(below, 0)
        if not above:
            return low * rows // below
        high = self.activation_bytes[above]
        return low + (high - low) * (rows - below) // (above - below)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(self.as_json(), sort_keys=True, indent=1).encode()

    def as_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return asdict(self) | {
            "inputs": [spec.encode() for spec in self.inputs],
            "outputs": [spec.encode() for spec in self.outputs],
            "activation_bytes": {str(k): v for k, v in self.activation_bytes.items()},
            "row_buckets": list(self.row_buckets),
            "on_success": list(self.on_success),
            "on_failure": list(self.on_failure),
        }

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The manifest of a JSON document; raises InvalidArtifact naming the key."""
        try:
            record = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidArtifact(f"manifest.json: not JSON ({error})") from error
        return cls.from_json(record)

    @classmethod
    def from_json(cls, record: object) -> Manifest:
        """The manifest of plain JSON values; raises InvalidArtifact naming the key."""
        if not isinstance(record, dict):
            raise InvalidArtifact("manifest.json: expected an object")
        unknown = record.keys() - _FIELDS.keys()
        if unknown:
            raise InvalidArtifact(f"manifest.json: unknown key {sorted(unknown)[0]!r:.100}")
        values = {}
        for key, parse in _FIELDS.items():
            if key not in record:
                if key in _LATER:
                    continue
                raise InvalidArtifact(f"manifest.json: {key} is missing")
            try:
                values[key] = parse(record[key])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InvalidArtifact(f"manifest.json: {key}: {error!s:.300}") from error
        return _checked(cls(**values))


def _int_between(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r:.100}")
        return value

    return parse


def _number_between(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        # NaN fails the comparison
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise ValueError(f"expected a number from {low:g} to {high:g}, got {value!r:.100}")
        return float(value)

    return parse


def _optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else parse(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r:.100}")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("expected 64 hexadecimal digits")
    return value


def _specs(value: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 256:
        raise ValueError("expected a list of 1 to 256 tensor specs")
    specs = tuple(TensorSpec.decode(record) for record in value)
    if len({spec.name for spec in specs}) != len(specs):
        raise ValueError("expected distinct names")
    return specs


def _bytes_by_rows(value: Any) -> dict[int, int]:
    size = _int_between(0, 2**50)
    return {_int_between(1, 2**20)(int(rows)): size(n) for rows, n in value.items()}


def _row_buckets(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_ROW_BUCKETS:
        raise ValueError(f"expected a list of at most {MAX_ROW_BUCKETS} numbers of rows")
    rows = tuple(map(_int_between(1, 65536), value))
    if any(a >= b for a, b in pairwise(rows)):
        raise ValueError("expected ascending numbers of rows")
    return rows


def _destinations(value: Any) -> tuple[str, ...]:
    # it knows what names of functions look like from here
    from contract.destinations import parse_all

    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("expected a list of destinations")
    try:
        return tuple(found.text for found in parse_all(value, "destination"))
    except InvalidInput as error:
        raise ValueError(error.detail) from error


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "architecture": _digest,
    "inputs": _specs,
    "outputs": _specs,
    "parameters": _int_between(0, 2**50),
    "weight_bytes": _int_between(0, 2**50),
    "activation_bytes": _bytes_by_rows,
    "operators_exported": _int_between(0, 10**7),
    "operators": _int_between(0, 10**7),
    "max_batch": _int_between(1, 65536),
    "is_batchable": _flag,
    "has_preprocess": _flag,
    "has_postprocess": _flag,
    "slo_ms": _optional(_number_between(1, 86_400_000)),
    "timeout_ms": _number_between(1, 86_400_000),
    "keep_alive_s": _optional(_number_between(-1, 86_400_000)),
    "row_buckets": _row_buckets,
    "is_eager": _flag,
    "on_success": _destinations,
    "on_failure": _destinations,
}
# artifacts made before these came do not have them
_LATER = frozenset({"row_buckets", "is_eager", "on_success", "on_failure"})


def _checked(manifest: Manifest) -> Manifest:
    """The manifest, if its keys fit each other; raises InvalidArtifact."""
    if manifest.row_buckets and manifest.max_batch != manifest.row_buckets[-1]:
        raise InvalidArtifact(
            f"manifest.json: max_batch: expected {manifest.row_buckets[-1]} as the last of "
            f"row_buckets, got {manifest.max_batch}"
        )
    if manifest.row_buckets and manifest.is_eager:
        raise InvalidArtifact("manifest.json: row_buckets: expected none where is_eager is true")
    return manifest


@dataclass(frozen=True)
class Function:
    """One immutable version of a function, as the registry holds it."""

    name: str
    version: int
    digest: str
    created_at_s: float
    manifest: Manifest
    # milliseconds of a run where it was deployed from, by rows; none where that was not said
    compute_ms: dict[int, float] = field(default_factory=dict)

    @property
    def ref(self) -> FunctionRef:
        """The version's full name."""
        return FunctionRef(self.name, self.version)

    def encode(self) -> bytes:
        """JSON, for the registry."""
        record = asdict(self) | {"manifest": self.manifest.as_json()}
        return json.dumps(record).encode()

    @classmethod
    def decode(cls, data: bytes) -> Function:
        """The record of `encode`, of an earlier version of it too."""
        record = json.loads(data)
        manifest = Manifest.from_json(record["manifest"])
        compute_ms = {int(rows): ms for rows, ms in record.get("compute_ms", {}).items()}
        return cls(**record | {"manifest": manifest, "compute_ms": compute_ms})
