"""What an artifact is, read as hostile input: `python -m fusion.inspection WEIGHTS GRAPH..`.

A process of its own, without torch, with limits on memory and processor time: whatever the files
do to their reader ends with it. It prints one line of JSON, `Facts` or `{"error": why}`.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fusion.decode import MAX_GRAPH_BYTES
from fusion.errors import FusionError, GraphError, WeightsError
from fusion.ir import Graph
from fusion.weights import WeightsIndex, read_index

# 16 MiB of graph.json are some 500 MB of records at worst
MEMORY_BYTES = 2 * 2**30
PROCESSOR_S = 60
BYTES_PER_PROCESSOR_S = 100 * 10**6
BLOCK_BYTES = 2**20


class GraphFacts(NamedTuple):
    """What a manifest has to agree with, of one graph."""

    architecture: str
    # [name, dtype, shape] each
    inputs: list[list[Any]]
    outputs: list[list[Any]]
    batchable: bool
    fixed_rows: int | None


class Facts(NamedTuple):
    """What a manifest has to agree with."""

    weight_bytes: int
    # as `GraphFacts` has it, by name
    graphs: list[dict[str, Any]]


def inspect(weights_file: Path, graph_files: Sequence[Path]) -> Facts:
    """Facts of files that fit together; raises GraphError, WeightsError and OSError."""
    index = read_index(weights_file)
    graphs = [_inspect_graph(path, index)._asdict() for path in graph_files]
    check_contents(weights_file, index)
    return Facts(index.data_bytes, graphs)


def _inspect_graph(path: Path, index: WeightsIndex) -> GraphFacts:
    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise GraphError("", f"has more than {MAX_GRAPH_BYTES} bytes")
    graph = Graph.decode(path.read_bytes())
    check_fit(graph, index)
    return GraphFacts(
        graph.architecture,
        [list(spec) for spec in graph.inputs],
        [list(output.spec) for output in graph.outputs],
        graph.batchable,
        graph.fixed_rows,
    )


def check_fit(graph: Graph, index: WeightsIndex) -> None:
    """Raise WeightsError unless the file has every weight of the graph, as the graph has it."""
    entries = {entry.name: entry for entry in index.entries}
    for spec in graph.weights:
        entry = entries.get(spec.name)
        if entry is None:
            raise WeightsError(f"{spec.name!r:.100}: the graph needs it, the file lacks it")
        if (entry.dtype, entry.shape) != (spec.dtype, spec.shape):
            raise WeightsError(
                f"{spec.name!r:.100}: the graph expects {spec.dtype} {list(spec.shape)}, "
                f"the file has {entry.dtype} {list(entry.shape)}"
            )


def check_contents(path: Path, index: WeightsIndex) -> None:
    """Raise WeightsError unless every tensor has the digest that the header gives it.

    Tensors of equal digest are resident once: a wrong one would be another function's weight.
    """
    with path.open("rb") as file:
        for entry in index.entries:
            file.seek(index.data_offset + entry.offset)
            found = _digest(file, entry.nbytes)
            if found != entry.sha256:
                problem = f"sha256 is {found}, expected {entry.sha256}"
                raise WeightsError(f"{entry.name!r:.100}: {problem}")


def _digest(file: BinaryIO, nbytes: int) -> str:
    found = hashlib.sha256()
    while nbytes:
        block = file.read(min(nbytes, BLOCK_BYTES))
        assert block, "the header has been checked against the file's size"
        found.update(block)
        nbytes -= len(block)
    return found.hexdigest()


def limit(weights_bytes: int) -> None:
    """Bound what this process may take from now on."""
    seconds = PROCESSOR_S + weights_bytes // BYTES_PER_PROCESSOR_S
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def main(weights: str, *graphs: str) -> None:
    """Inspect the files of an artifact and print what they are."""
    weights_file = Path(weights)
    limit(weights_file.stat().st_size)
    try:
        found = inspect(weights_file, [Path(graph) for graph in graphs])._asdict()
    except FusionError as error:
        found = {"error": str(error).replace(weights, weights_file.name)}
    except (MemoryError, RecursionError):
        found = {"error": "its graph or its header takes too much memory to read"}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
