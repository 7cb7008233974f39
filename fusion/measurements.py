"""What was measured on a device, kept over restarts: seconds of tiers, strategies and blocks, rows.

One JSON file per device, which names it; a file of another device or format is left alone.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fusion.blocks.observed import Measured

FORMAT = 1
# of each kind; the oldest are forgotten
KEPT = 4096

Seconds = Mapping[str, float]


class HotGroup(NamedTuple):
    """Functions that ran together: their refs and row buckets, and in how many runs."""

    members: tuple[tuple[str, int], ...]
    runs: int


class Measurements:
    """Thread-safe. `problem` says why an existing file was not read, for a log."""

    def __init__(self, path: Path, device: str) -> None:
        self._path = path
        self._device = device
        self._lock = threading.Lock()
        self.problem = ""
        self._kept = self._read()
        self._is_changed = False

    def tiers(self, architecture: str) -> dict[int, Seconds]:
        """By rows and tier."""
        with self._lock:
            found = self._kept["tiers"].get(architecture, {})
            return {int(rows): dict(seconds) for rows, seconds in found.items()}

    def group(self, key: str) -> Seconds:
        """By strategy; `key` is DagKey.digest."""
        with self._lock:
            return dict(self._kept["groups"].get(key, {}))

    def hot(self) -> list[HotGroup]:
        """The groups that ran most before the last stop, the hottest first."""
        with self._lock:
            return [
                HotGroup(tuple((ref, rows) for ref, rows in members), runs)
                for members, runs in self._kept["hot"]
            ]

    def ceiling(self, architecture: str) -> int | None:
        """The most rows to run at once; None where no run has lacked memory."""
        with self._lock:
            found: int | None = self._kept["ceilings"].get(architecture)
            return found

    def ceilings(self) -> dict[str, int]:
        """By architecture, the newest last."""
        with self._lock:
            return dict(self._kept["ceilings"])

    def speed(self, threads: int) -> Mapping[str, float]:
        """What was measured of the device with so many threads; empty where nothing was."""
        with self._lock:
            return dict(self._kept["speed"].get(str(threads), {}))

    def note_speed(self, threads: int, measured: Mapping[str, float]) -> None:
        """Replace it."""
        self._put("speed", str(threads), dict(measured))

    def blocks(self, architecture: str) -> dict[str, Measured]:
        """By cut, what runs in blocks have taken."""
        with self._lock:
            found = self._kept["blocks"].get(architecture, {})
            return {cut: Measured.decode(record) for cut, record in found.items()}

    def note_blocks(self, architecture: str, cut: str, measured: Measured) -> None:
        """Replace what is known of one cut."""
        with self._lock:
            known = self._kept["blocks"].get(architecture, {})
        self._put("blocks", architecture, known | {cut: measured.encode()})

    def note_tiers(self, architecture: str, measured: Mapping[int, Seconds]) -> None:
        """Replace what is known of an architecture."""
        self._put("tiers", architecture, {str(rows): dict(s) for rows, s in measured.items()})

    def note_group(self, key: str, measured: Seconds) -> None:
        """Replace what is known of a group."""
        self._put("groups", key, dict(measured))

    def note_ceiling(self, architecture: str, rows: int) -> None:
        """More rows than these ran out of memory; a lower ceiling stays."""
        with self._lock:
            known = self._kept["ceilings"].get(architecture, rows)
        self._put("ceilings", architecture, min(rows, known))

    def note_hot(self, groups: Iterable[HotGroup]) -> None:
        """Replace the hottest groups."""
        found = [[[list(member) for member in group.members], group.runs] for group in groups]
        with self._lock:
            self._is_changed |= found != self._kept["hot"]
            self._kept["hot"] = found

    def save(self) -> None:
        """Write what has changed, whole or not at all, over what others wrote meanwhile."""
        with self._lock:
            if not self._is_changed:
                return
            self._is_changed = False
            others = self._read()
            for kind in ("tiers", "groups", "blocks"):
                merged = {**others[kind], **self._kept[kind]}
                self._kept[kind] = dict([*merged.items()][-KEPT:])
            self._kept["speed"] = {**others["speed"], **self._kept["speed"]}
            self._kept["ceilings"] = _lowest(others["ceilings"], self._kept["ceilings"])
            record = {"format": FORMAT, "device": self._device, **self._kept}
            text = json.dumps(record, separators=(",", ":"))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(self._path)

    def _put(self, kind: str, key: str, value: dict[str, Any] | int) -> None:
        with self._lock:
            kept = self._kept[kind]
            if kept.get(key) != value:
                kept.pop(key, None)  # the newest last
                kept[key] = value
                self._is_changed = True

    def _read(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {
            "tiers": {}, "groups": {}, "hot": [], "ceilings": {}, "blocks": {}, "speed": {}
        }  # fmt: skip
        try:
            record = json.loads(self._path.read_text())
            if (record["format"], record["device"]) != (FORMAT, self._device):
                self.problem = f"{self._path}: of format {record['format']}, {record['device']}"
                return nothing
            # files from before these came have none
            record = {"ceilings": {}, "blocks": {}, "speed": {}, **record}
            for cuts in record["blocks"].values():
                for measured in cuts.values():
                    Measured.decode(measured)
            return {kind: type(empty)(record[kind]) for kind, empty in nothing.items()}
        except FileNotFoundError:
            return nothing
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # a cache: what is lost is measured again
            self.problem = f"{self._path}: {type(error).__name__}: {error}"
            return nothing


def _lowest(others: Mapping[str, int], own: Mapping[str, int]) -> dict[str, int]:
    """Workers of one device share a file: what has not fitted one fits none."""
    merged = {**others, **own}
    lowest = {key: min(rows, others.get(key, rows)) for key, rows in merged.items()}
    return dict([*lowest.items()][-KEPT:])
