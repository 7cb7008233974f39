"""The least bytes of weights in which graphs run: `python -m fusion.blocks.least FILE GRAPH..`.

A process of its own, without torch, with the limits of an inspection: graphs are hostile until
then. It prints one line of JSON, `{"least_bytes": n}` or `{"error": why}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fusion.blocks.body import least_bytes
from fusion.errors import FusionError
from fusion.inspection import limit
from fusion.ir import Graph
from fusion.weights import read_index


def main(weights: str, *graphs: str) -> None:
    """Of several graphs the one that needs most."""
    limit(Path(weights).stat().st_size)
    try:
        index = read_index(Path(weights))
        read = [Graph.decode(Path(graph).read_bytes()) for graph in graphs]
        found: dict[str, object] = {"least_bytes": max(least_bytes(g, index) for g in read)}
    except FusionError as error:
        found = {"error": str(error)}
    except (MemoryError, RecursionError):
        found = {"error": "its graph takes too much memory to plan"}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
