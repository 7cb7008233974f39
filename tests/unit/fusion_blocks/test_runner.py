"""Graphs run in blocks: the same values from disk and page cache, in no more bytes than planned."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.blocks import body as bodies
from fusion.blocks import cut as cutting
from fusion.blocks import reader
from fusion.blocks.body import BlockedGraph, in_blocks, least_bytes
from fusion.blocks.loading import BlockedWeights, BlocksLoader
from fusion.blocks.records import PAGE_BYTES
from fusion.blocks.tables import runs_of
from fusion.blocks.times import Rates
from fusion.codegen import generate
from fusion.errors import BudgetExceeded, WeightsError
from fusion.export import Exported, export
from fusion.loaders import MappedLoader
from fusion.slots import SlotRequest, SlotTable
from fusion.weights import WeightsIndex, write_weights
from tests.zoo import ZOO

RATES = Rates(4e10, 1e10)
READ_BYTES_PER_S = 1e9
# those that are planned for half of their bytes too
HALVED = ("bert", "vgg", "vit")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are split as large ones would be."""
    monkeypatch.setattr(bodies, "LEAST_PIECE_BYTES", 2048)
    monkeypatch.setattr(cutting, "GATHER_FROM_BYTES", 256)


def stored(made: Exported, folder: Path) -> tuple[Path, WeightsIndex]:
    """The weights as deployed."""
    path = folder / "weights.safetensors"
    return path, write_weights(path, made.weights)


def drop_cached(path: Path) -> None:
    """The page cache gives the file up."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def opened(body: BlockedGraph, path: Path, index: WeightsIndex) -> Iterator[BlockedWeights]:
    """Ready to run; closed at the end, with nothing held."""
    weights = BlocksLoader([body]).load(path, index, False)
    yield weights
    assert weights.close()


# one of each kind: exporting takes longer than all else here
NAMES = ("bert", "embedding", "encoder", "gru", "mlp", "several_inputs", "tiny_cnn", "vgg", "vit")


@pytest.mark.parametrize("name", NAMES)
def test_every_model_computes_the_same_in_blocks(name: str, tmp_path: Path) -> None:
    """At the least budget and at half of its bytes; one row and several; cold and cached."""
    module, example = ZOO[name]()
    made = export(module, example, 8)
    path, index = stored(made, tmp_path)
    least = least_bytes(made.graph, index)
    for available in {least, max(least, index.file_bytes // 2)} if name in HALVED else {least}:
        body = in_blocks(made.graph, index, available, RATES, READ_BYTES_PER_S)
        assert body.bytes <= available
        with opened(body, path, index) as weights:
            for rows in (2, 1):
                inputs = [example[spec.name][:rows] for spec in made.graph.inputs]
                held = [made.weights[spec.name] for spec in made.graph.weights]
                with torch.inference_mode():
                    expected = generate(made.graph).run(held, inputs)
                for found in (weights.run(0, inputs), weights.run(0, inputs)):
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
                del found
                drop_cached(path)


class Deep(nn.Module):
    """Layers of 1 MiB."""

    def __init__(self, layers: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(512, 512, bias=False) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exported, Path, WeightsIndex]:
    """Twelve MiB of layers."""
    torch.manual_seed(0)
    made = export(Deep(), {"x": torch.randn(2, 512)}, 8)
    return made, *stored(made, tmp_path_factory.mktemp("deep"))


def expected_of(made: Exported, x: Tensor) -> Tensor:
    """From all of its weights."""
    with torch.inference_mode():
        [found] = generate(made.graph).run(list(made.weights.values()), [x])
    return found


Stored = tuple[Exported, Path, WeightsIndex]


@pytest.mark.parametrize("is_cold", [True, False])
def test_memory_grows_by_no_more_than_the_plan_says(deep: Stored, is_cold: bool) -> None:
    """Measured on the pages of this process, after runs from the disk or from the page cache."""
    made, path, index = deep
    body = in_blocks(made.graph, index, 4 * 2**20, RATES, READ_BYTES_PER_S)
    x = torch.randn(1, 512)
    path.read_bytes()
    if is_cold:
        drop_cached(path)
    weights = BlocksLoader([body]).load(path, index, True)
    runner = weights.opened(0)
    for _ in range(3):
        torch.testing.assert_close(weights.run(0, [x])[0], expected_of(made, x))
        runner.settle()
        ring, kept, mapped = map(resident_bytes, runner.memories)
        assert 0 < ring + kept + mapped <= body.plan.peak_bytes == body.bytes
        assert (ring + kept == 0, mapped == 0) == (not is_cold, is_cold)
    assert weights.close()


def resident_bytes(memory: reader.Memory) -> int:
    """Pages of this memory that the process has, from /proc/self/pagemap: bit 63 says present."""
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(memory.address // PAGE_BYTES * 8)
        entries = np.frombuffer(file.read(-(-memory.bytes // PAGE_BYTES) * 8), np.uint64)
    return int((entries >> np.uint64(63)).sum()) * PAGE_BYTES


def test_a_failed_run_leaves_the_next_one_right(deep: Stored) -> None:
    """An operator raises in a block: what was read ahead belongs to other places."""
    made, path, index = deep
    body = in_blocks(made.graph, index, 3 * 2**20, RATES, READ_BYTES_PER_S)
    with opened(body, path, index) as weights:
        for rows in (1, 2):
            with pytest.raises(RuntimeError):
                weights.run(0, [torch.randn(rows, 5)])
            x = torch.randn(rows, 512)
            torch.testing.assert_close(weights.run(0, [x])[0], expected_of(made, x))


def test_what_a_reader_raises_reaches_the_caller(
    deep: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the disk reads again, so does the function; a file of another size is not opened."""
    made, path, index = deep
    body = in_blocks(made.graph, index, 3 * 2**20, RATES, READ_BYTES_PER_S)
    x = torch.randn(1, 512)

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    with opened(body, path, index) as weights:
        weights.opened(0).settle()
        drop_cached(path)
        with monkeypatch.context() as patched:
            patched.setattr(os, "preadv", broken)
            with pytest.raises(WeightsError, match="the disk is broken"):
                weights.run(0, [x])
        gc.collect()  # the error's traceback holds what was to be read into
        torch.testing.assert_close(weights.run(0, [x])[0], expected_of(made, x))
    other = tmp_path / "short.safetensors"
    other.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(WeightsError, match="expected"):
        BlocksLoader([body]).load(other, index, True)


def test_without_direct_reads_plain_ones_do(deep: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems refuse to open a file so, others to read it."""
    made, path, index = deep
    body = in_blocks(made.graph, index, 3 * 2**20, RATES, READ_BYTES_PER_S)
    x = torch.randn(1, 512)
    real_open, real_read = os.open, os.preadv

    def refusing_open(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reads here")
        return real_open(path, flags, *rest)

    def refusing_read(file: int, *rest: object) -> int:
        if fcntl_flags(file) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reads here")
        return real_read(file, *rest)  # type: ignore[arg-type]  # as it was called

    for name, refusing in (("open", refusing_open), ("preadv", refusing_read)):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, refusing)
            drop_cached(path)
            with opened(body, path, index) as weights:
                drop_cached(path)
                torch.testing.assert_close(weights.run(0, [x])[0], expected_of(made, x))
                assert not weights.opened(0).is_direct


def fcntl_flags(file: int) -> int:
    """How a file is open."""
    import fcntl

    return fcntl.fcntl(file, fcntl.F_GETFL)


def test_too_small_a_budget_is_refused_with_the_bytes_it_would_need(
    deep: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those bytes do."""
    monkeypatch.setattr(bodies, "LEAST_PIECE_BYTES", 2**18)
    made, _, index = deep
    with pytest.raises(BudgetExceeded) as refused:
        in_blocks(made.graph, index, 1000, RATES, READ_BYTES_PER_S)
    needed = refused.value.needed_bytes
    assert in_blocks(made.graph, index, needed, RATES, READ_BYTES_PER_S).bytes <= needed


def test_a_slot_holds_what_the_plan_says(deep: Stored) -> None:
    """Leased, counted and evicted like any other."""
    made, path, index = deep
    body = in_blocks(made.graph, index, 4 * 2**20, RATES, READ_BYTES_PER_S)
    table = SlotTable(MappedLoader(), 5 * 2**20)
    request = SlotRequest("deep@1", path, index, loader=BlocksLoader([body]))
    assert table.room_bytes(request) == 5 * 2**20
    with table.acquire([request]) as lease:
        weights = lease.slots["deep@1"].weights
        assert isinstance(weights, BlockedWeights)
        x = torch.randn(1, 512)
        torch.testing.assert_close(weights.run(0, [x])[0], expected_of(made, x))
        assert table.stats().resident_bytes == body.bytes
    assert table.evict("deep@1")
    assert table.stats().used_bytes == 0
    table.check_integrity()


def test_an_index_outside_of_a_table_is_an_error(tmp_path: Path) -> None:
    """As torch has it: nothing beyond the table is read."""
    module, example = ZOO["embedding"]()
    made = export(module, example, 8)
    path, index = stored(made, tmp_path)
    body = in_blocks(made.graph, index, 2**20, RATES, READ_BYTES_PER_S)
    assert any(piece.is_gathered for piece in body.pieces)
    with opened(body, path, index) as weights:
        for wrong in (50, -1):
            with pytest.raises(IndexError):
                weights.run(0, [torch.full((1, 5), wrong)])


def test_rows_are_read_in_runs() -> None:
    """Those that follow each other at once."""
    assert runs_of(np.array([0, 1, 2, 5, 7, 8])) == [(0, 3), (5, 1), (7, 2)]
    assert runs_of(np.array([], np.int64)) == []


def test_several_graphs_share_one_slot(deep: Stored) -> None:
    """Their rings take turns in the bytes of the larger."""
    made, path, index = deep
    found = [
        in_blocks(made.graph, index, bytes_, RATES, READ_BYTES_PER_S)
        for bytes_ in (3 * 2**20, 5 * 2**20)
    ]
    loader = BlocksLoader(found)
    assert loader.slot_bytes(index) == max(body.bytes for body in found)
    weights = loader.load(path, index, True)
    x = torch.randn(1, 512)
    for number in (0, 1, 0):
        torch.testing.assert_close(weights.run(number, [x])[0], expected_of(made, x))
    assert weights.close()
