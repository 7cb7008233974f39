"""The weights file, written, read by others, and attacked."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from fusion.errors import WeightsError
from fusion.loaders import map_tensors
from fusion.weights import BYTES_PER_THREAD, read_index, write_weights

DTYPES = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32]
SHAPES = st.lists(st.integers(0, 5), max_size=4)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: not name.startswith("__")
)

same_folder = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example overwrites its file
)


def tensor_of(shape: list[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


@st.composite
def models(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    return {
        name: tensor_of(draw(SHAPES), draw(st.sampled_from(DTYPES)), draw(st.integers(0, 9)))
        for name in names
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def small_model() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.int64)}


def rewrite(path: Path, change: object) -> None:
    """Put `change` (an object, or the header's bytes) in place of the header, same data."""
    index = read_index(path)
    data = path.read_bytes()[index.data_offset :]
    encoded = change if isinstance(change, bytes) else json.dumps(change).encode()
    encoded = encoded.ljust(-(-(8 + len(encoded)) // 4096) * 4096 - 8)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def header_of(path: Path) -> dict:
    return json.loads(path.read_bytes()[8 : read_index(path).data_offset])


@given(model=models())
@same_folder
def test_what_is_written_is_read_back(path: Path, model: dict[str, torch.Tensor]) -> None:
    """Names, order, dtypes, shapes and bytes survive, mapped and through safetensors' reader."""
    index = write_weights(path, model)
    assert index == read_index(path)
    assert list(model) == [entry.name for entry in index.entries]
    mapped = map_tensors(path, index)
    for found, expected in zip(mapped.tensors, model.values(), strict=True):
        assert expected.dtype == found.dtype
        assert torch.equal(expected, found)
    with safe_open(path, "pt") as file:
        for name, expected in model.items():
            assert torch.equal(expected, file.get_tensor(name))


@given(model=models())
@same_folder
def test_tensors_are_aligned_and_hashed(path: Path, model: dict[str, torch.Tensor]) -> None:
    """Data starts on a page, each tensor on 64 bytes, and its digest is that of its bytes."""
    index = write_weights(path, model)
    content = path.read_bytes()
    assert index.data_offset % 4096 == 0
    assert len(content) == index.file_bytes
    for entry in index.entries:
        assert entry.offset % 64 == 0
        begin = index.data_offset + entry.offset
        assert hashlib.sha256(content[begin : begin + entry.nbytes]).hexdigest() == entry.sha256


@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
@same_folder
def test_a_damaged_file_is_refused_or_means_the_same(
    path: Path, at: int, value: int, cut: int
) -> None:
    """Any changed byte or cut end gives WeightsError, or bytes that are still the ones written."""
    model = small_model()
    write_weights(path, model)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content[: len(content) - cut % 100] if cut % 3 == 0 else content)
    try:
        index = read_index(path)
        found = map_tensors(path, index).tensors
    except WeightsError:
        return
    # a name, or a dtype of the same size, may differ; the bytes may not
    written = [tensor.numpy().tobytes() for tensor in model.values()]
    assert written == [t.contiguous().view(torch.uint8).numpy().tobytes() for t in found]


HOSTILE = {
    "not JSON": b"{nonsense",
    "not an object": b"[1]",
    "deep": b'{"a":' + b"[" * 100_000,
    "NaN": b'{"a": NaN}',
    "bad UTF-8": b'{"\xff": 1}',
    "empty": b"",
}


@pytest.mark.parametrize("encoded", HOSTILE.values(), ids=HOSTILE)
def test_a_header_that_is_no_json_object_is_refused(path: Path, encoded: bytes) -> None:
    """WeightsError speaks of the header."""
    write_weights(path, small_model())
    rewrite(path, encoded)
    with pytest.raises(WeightsError, match="header"):
        read_index(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shape": [-3]}, "shape"),
        ({"shape": [4]}, "takes 16"),
        ({"shape": [True, 3]}, "shape"),
        ({"shape": [2**70, 0]}, "shape"),
        ({"shape": [2**62, 0]}, "elements"),
        ({"shape": [1] * 65}, "shape"),
        ({"shape": "3"}, "shape"),
        ({"dtype": "F64"}, "takes 24"),
        ({"dtype": "C64"}, "dtype"),
        ({"dtype": 5}, "dtype"),
        ({"data_offsets": [12, 0]}, "data_offsets"),
        ({"data_offsets": [-12, 0]}, "data_offsets"),
        ({"data_offsets": [0, 12, 13]}, "data_offsets"),
        ({"data_offsets": [0.0, 12]}, "data_offsets"),
        ({"data_offsets": [4, 16]}, "hole"),
        ({"data_offsets": [96, 108]}, "overlaps|hole"),
        ({"data_offsets": [10**9, 10**9 + 12]}, "hole"),
        ({"extra": 1}, "expected an object"),
    ],
)
def test_a_wrong_field_is_named(path: Path, change: dict, named: str) -> None:
    """WeightsError names the file, the tensor and the fault."""
    write_weights(path, small_model())
    header = header_of(path)
    header["a"] = header["a"] | change
    rewrite(path, header)
    with pytest.raises(WeightsError, match=named) as raised:
        read_index(path)
    assert str(path) in str(raised.value)


def test_overlapping_tensors_are_refused(path: Path) -> None:
    """Two tensors of the same bytes are no legal file."""
    write_weights(path, small_model())
    header = header_of(path)
    header["c"] = header["a"]
    header["__metadata__"]["sha256.c"] = header["__metadata__"]["sha256.a"]
    rewrite(path, header)
    with pytest.raises(WeightsError, match="overlaps"):
        read_index(path)


def test_a_key_that_appears_twice_is_refused(path: Path) -> None:
    """JSON readers disagree on which one counts."""
    write_weights(path, small_model())
    text = json.dumps(header_of(path))
    rewrite(path, (text[:-1] + ', "a": {}}').encode())
    with pytest.raises(WeightsError, match="'a' appears twice"):
        read_index(path)


def test_data_beyond_the_tensors_is_refused(path: Path) -> None:
    """Every byte of the file belongs to a tensor."""
    write_weights(path, small_model())
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(WeightsError, match="expected 96"):
        read_index(path)


@pytest.mark.parametrize("length", [2**63, 17 * 2**20, 4088, 4089])
def test_a_wrong_header_length_is_refused_unread(path: Path, length: int) -> None:
    """Too long, longer than the file, or off the page boundary."""
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match=r"header: .* at most|truncated"):
        read_index(path)


@pytest.mark.parametrize("digest", [None, "12", "g" * 64])
def test_a_missing_or_malformed_digest_is_refused(path: Path, digest: str | None) -> None:
    """Each tensor has its SHA-256."""
    write_weights(path, small_model())
    header = header_of(path)
    header["__metadata__"].pop("sha256.a")
    if digest is not None:
        header["__metadata__"]["sha256.a"] = digest
    rewrite(path, header)
    with pytest.raises(WeightsError, match="'a': sha256"):
        read_index(path)


@pytest.mark.parametrize("name", ["__metadata__", "__pad_1", "\ud800"])
def test_a_name_the_file_cannot_hold_is_refused(path: Path, name: str) -> None:
    """And nothing is left behind."""
    with pytest.raises(WeightsError):
        write_weights(path, {name: torch.ones(1)})
    assert list(path.parent.iterdir()) == []


def test_a_dtype_the_file_cannot_hold_is_refused(path: Path) -> None:
    """WeightsError names the tensor and its dtype."""
    with pytest.raises(WeightsError, match=r"'x'.*complex64"):
        write_weights(path, {"x": torch.ones(1, dtype=torch.complex64)})


def test_a_missing_file_is_a_weights_error(path: Path) -> None:
    """Its path is named."""
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        read_index(path)


def test_an_index_is_read_without_torch(path: Path) -> None:
    """A process that only looks at weights files pays for no torch."""
    write_weights(path, small_model())
    code = (
        "import sys; from pathlib import Path; from fusion.weights import read_index;"
        "print(len(read_index(Path(sys.argv[1])).entries), 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["2", "False"]


def test_changed_bytes_are_found_by_their_digest(path: Path) -> None:
    """Loading compares digests, unless the caller says they were."""
    index = write_weights(path, small_model())
    content = bytearray(path.read_bytes())
    content[index.data_offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="'a': sha256"):
        map_tensors(path, index)
    assert map_tensors(path, index, is_verified=True).close()


def test_large_files_are_hashed_by_several_threads(path: Path) -> None:
    """Where there are cores; the first tensor that differs, in file order, is named."""
    index = write_weights(path, {name: torch.rand(BYTES_PER_THREAD // 4) for name in "abc"})
    content = bytearray(path.read_bytes())
    assert map_tensors(path, index).close()
    for entry in index.entries[1:]:
        content[index.data_offset + entry.offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="'b': sha256"):
        map_tensors(path, index)


def test_a_map_stays_while_a_view_is_held(path: Path) -> None:
    """close() says so and the view stays valid; once it is gone the map goes."""
    mapped = map_tensors(path, write_weights(path, small_model()))
    view = mapped.tensors[0]
    assert mapped.close() is False
    assert view.tolist() == [0.0, 1.0, 2.0]
    del view
    assert mapped.close() is True


def test_a_name_that_is_half_a_surrogate_pair_is_refused(path: Path) -> None:
    """JSON can escape what no file name or message can hold."""
    write_weights(path, small_model())
    rewrite(path, json.dumps(header_of(path)).replace('"b":', '"\\ud800":').encode())
    with pytest.raises(WeightsError, match="not valid Unicode"):
        read_index(path)
