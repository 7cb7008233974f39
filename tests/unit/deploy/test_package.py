"""Packaging: what an artifact holds, that it is the same each time, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from contract.function import Manifest
from deploy.errors import PackagingError
from deploy.options import Options
from deploy.package import Package, package
from fusion.codegen import generate
from fusion.ir import Graph
from fusion.weights import read_index

Write = Callable[[str, str], Path]

LINEAR = """
import torch
from torch import nn

def load():
    torch.manual_seed(0)
    return nn.Linear(4, 3)

def example_inputs():
    return {"input": torch.arange(8.0).reshape(2, 4)}
"""
HOOKS = """
def preprocess(payload):
    return {"input": payload}
"""


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Package]:
    """Package this path into a folder of its own."""

    def run(path: Path, folder: str = "out", **options: object) -> Package:
        (tmp_path / folder).mkdir()
        given = Options(**({"max_batch": 4} | options))  # type: ignore[arg-type]  # as tests name them
        return package(path, given, tmp_path / folder, lambda _step: None)

    return run


Pack = Callable[..., Package]


def members(made: Package) -> dict[str, bytes]:
    """What the artifact holds."""
    with tarfile.open(made.tar) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]  # all are files


def test_an_artifact_is_the_graph_the_weights_and_the_manifest(write: Write, pack: Pack) -> None:
    """And no code at all where there are no hooks."""
    made = pack(write("my_Model/handler.py", LINEAR).parent)
    found = members(made)
    assert sorted(found) == ["graph.json", "manifest.json", "weights.safetensors"]
    manifest = Manifest.decode(found["manifest.json"])
    assert made.manifest == manifest
    assert (made.name, manifest.parameters, manifest.is_batchable) == ("my-model", 15, True)
    assert manifest.inputs[0].encode() == {"name": "input", "dtype": "float32", "shape": [None, 4]}
    assert sorted(manifest.activation_bytes) == [1, 4]
    assert Graph.decode(found["graph.json"]).architecture == manifest.architecture


def test_the_graph_and_weights_of_an_artifact_compute_the_model(
    write: Write, pack: Pack, tmp_path: Path
) -> None:
    """Read back as a worker reads them."""
    found = members(pack(write("linear.py", LINEAR)))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(found["weights.safetensors"])
    index = read_index(path)
    data = path.read_bytes()[index.data_offset :]
    weights = {
        entry.name: torch.frombuffer(
            bytearray(data[entry.offset : entry.offset + entry.nbytes]), dtype=torch.float32
        ).reshape(entry.shape)
        for entry in index.entries
    }
    graph = Graph.decode(found["graph.json"])
    torch.manual_seed(0)
    model, x = nn.Linear(4, 3), torch.ones(3, 4)
    (actual,) = generate(graph).run([weights[spec.name] for spec in graph.weights], [x])
    torch.testing.assert_close(actual, model(x))


def test_the_same_model_gives_the_same_digest(write: Write, pack: Pack) -> None:
    """Times, owners and folders leave no trace; other options do."""
    path = write("handler.py", LINEAR + HOOKS)
    first, again = pack(path, "a", name="f"), pack(path, "b", name="g")
    other = pack(path, "c", name="f", slo_ms=10.0)
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_hooks_bring_the_handler_and_its_files(write: Write, pack: Pack) -> None:
    """Files of files(), relative to the handler's folder, and of --include, folders too."""
    write("words.txt", "a b c")
    extra = write("data/deep/x.bin", "x").parent.parent
    body = LINEAR + HOOKS + 'def files():\n    return ["words.txt"]\n'
    found = members(pack(write("handler.py", body), name="f", include=(extra,)))
    manifest = Manifest.decode(found["manifest.json"])
    assert (manifest.has_preprocess, manifest.has_postprocess) == (True, False)
    assert found["handler.py"].decode() == (extra.parent / "handler.py").read_text()
    assert (found["files/words.txt"], found["files/data/deep/x.bin"]) == (b"a b c", b"x")


def test_an_exported_program_is_deployed_as_it_is(pack: Pack, tmp_path: Path) -> None:
    """With the limits it was exported with."""
    rows = torch.export.Dim("rows", min=1, max=3)
    program = torch.export.export(nn.Linear(4, 3), (torch.ones(2, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "Net.pt2")
    made = pack(tmp_path / "Net.pt2", max_batch=8)
    assert (made.name, made.manifest.max_batch, made.manifest.is_batchable) == ("net", 3, True)


def test_a_program_for_a_fixed_number_of_rows_is_refused(pack: Pack, tmp_path: Path) -> None:
    """Callers could not know that they must send exactly as many."""
    torch.export.save(
        torch.export.export(nn.Linear(4, 3), (torch.ones(2, 4),)), tmp_path / "net.pt2"
    )
    with pytest.raises(PackagingError, match="exactly 2 rows"):
        pack(tmp_path / "net.pt2")


def test_a_model_that_gives_fewer_rows_than_it_takes_runs_one_row_at_a_time(
    write: Write, pack: Pack
) -> None:
    """Only its graph of one row gives as many; it is deployed with a warning."""
    body = """
    import torch
    from torch import nn
    class Odd(nn.Module):
        def forward(self, x):
            return x * 2 if x.shape[0] == 1 else x.reshape(2, -1, x.shape[1]).sum(0)
    load = Odd
    def example_inputs():
        return {"x": torch.ones(1, 4)}
    """
    made = pack(write("odd.py", body))
    assert (made.manifest.max_batch, made.manifest.row_buckets) == (1, (1,))
    assert any("for batches of 1 alone" in warning for warning in made.warnings)


def test_a_model_without_symbolic_rows_has_a_graph_per_row_bucket(write: Write, pack: Pack) -> None:
    """Over one weights file; activations are measured for each."""
    body = """
    import torch
    from torch import nn
    class Evens(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)
        def forward(self, x):
            return self.inner(x.view(-1, 2, 4)).view(-1, 3)
    load = Evens
    def example_inputs():
        return {"x": torch.ones(2, 4)}
    """
    made = pack(write("evens.py", body), max_batch=9)
    manifest = made.manifest
    assert (manifest.row_buckets, manifest.max_batch, manifest.is_batchable) == ((2, 4, 8), 8, True)
    assert sorted(manifest.activation_bytes) == [2, 4, 8]
    found = members(made)
    graphs = [Graph.decode(found[name]) for name in ("graph.json", "graph.4.json", "graph.8.json")]
    assert [graph.fixed_rows for graph in graphs] == [2, 4, 8]
    assert [graph.weights for graph in graphs] == [graphs[0].weights] * 3


def test_files_without_hooks_are_not_brought_along(write: Write, pack: Pack) -> None:
    """Nothing could read them; a note says so."""
    made = pack(write("f.py", LINEAR + "def files():\n    return []\n"))
    assert made.warnings == (
        "files() is not used: the handler has neither preprocess nor postprocess",
    )


def test_two_handlers_may_each_have_a_model_file(write: Write, pack: Pack) -> None:
    """What one imports is forgotten before the next is loaded, and sys.path is as it was."""
    body = """
    import torch
    def load():
        from model import Net
        return Net()
    def example_inputs():
        return {"input": torch.ones(2, 4)}
    """
    path_before, made = list(sys.path), []
    for name, width in (("one", 2), ("two", 5)):
        write(
            f"{name}/model.py",
            f"from torch import nn\ndef Net():\n    return nn.Linear(4, {width})",
        )
        made.append(pack(write(f"{name}/handler.py", body), name))
    assert [m.manifest.parameters for m in made] == [10, 25]
    assert (sys.path, "model" in sys.modules) == (path_before, False)


@pytest.mark.parametrize(
    ("name", "body", "line", "texts"),
    [
        ("syntax", "def load(:\n", 1, ["SyntaxError"]),
        ("raises", "import torch\n\nraise ValueError('oops')\n", 3, ["cannot be imported", "oops"]),
        ("exits", "import sys\nsys.exit(3)\n", 2, ["SystemExit: 3"]),
        ("none", "x = 1\n", None, ["no function load()", "returns the model"]),
        ("inputs", "from torch import nn\nload = nn.ReLU\n", None, ["example_inputs()"]),
        (
            "wrong",
            "def load():\n    return 3\ndef example_inputs(): ...\n",
            1,
            ["int", "nn.Module"],
        ),
        ("fails", "def load():\n    return 1 / 0\nexample_inputs = load\n", 2, ["load() failed"]),
    ],
)
def test_a_fault_in_the_users_file_is_told_with_its_line(
    write: Write, pack: Pack, name: str, body: str, line: int | None, texts: list[str]
) -> None:
    """In one line, with what to do."""
    path = write(f"{name}.py", body)
    with pytest.raises(PackagingError) as caught:
        pack(path)
    assert caught.value.detail.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert [text for text in texts if text not in caught.value.detail] == []
    assert caught.value.detail.count("\n") == 0


FORWARD = """
import torch
from torch import nn

class Net(nn.Module):
    calls = 0
    def forward(self, x):
        {body}

load = Net

def example_inputs():
    return {{"x": torch.arange(8.0).reshape(2, 4)}}
"""


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ("return x[x > 0]", ["handler.py:8", "depends on data", "Nor can it", "the rows"]),
        ("return torch.rand_like(x) + x", ["handler.py", "rand", "Nor can it", "differently"]),
        ("self.calls += 1; return x * self.calls", ["same input differently"]),
        ("raise RuntimeError('mine')", ["handler.py:8", "RuntimeError: mine"]),
        ("return x.bfloat16()", ["bfloat16 cannot be sent over HTTP", ".float()"]),
    ],
)
def test_what_cannot_be_exported_is_told_with_what_to_do(
    write: Write, pack: Pack, body: str, texts: list[str]
) -> None:
    """The line is that of forward in the user's file."""
    path = write("handler.py", FORWARD.format(body=body))
    with pytest.raises(PackagingError) as caught:
        pack(path, name="f")
    assert [text for text in texts if text not in caught.value.detail] == []


CHOOSES = """
import time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)
    def forward(self, x):
        return torch.stack([self.a(row) if row.sum() > 0 else self.b(row) for row in x])

def load():
    {load}
    return Net()

def example_inputs():
    return {{"x": torch.arange(8.0).reshape(2, 4)}}
"""


def test_what_cannot_be_exported_runs_eagerly(write: Write, pack: Pack) -> None:
    """With its source and its weights, no graph, and a warning that says why and what it costs."""
    write("parts/__init__.py", "")
    write("parts/inner.py", "SCALE = 2")
    path = write("handler.py", CHOOSES.format(load="import parts.inner"))
    made = pack(path, name="f")
    found, manifest = members(made), made.manifest
    assert sorted(found) == [
        "files/parts/__init__.py",
        "files/parts/inner.py",
        "handler.py",
        "manifest.json",
        "weights.safetensors",
    ]
    assert (manifest.is_eager, manifest.graph_files, manifest.is_batchable) == (True, (), True)
    assert manifest.architecture == hashlib.sha256(found["handler.py"]).hexdigest()
    assert manifest.outputs[0].encode() == {
        "name": "output", "dtype": "float32", "shape": [None, 3],
    }  # fmt: skip
    assert sorted(manifest.activation_bytes) == [1, 2, 4]
    assert manifest.weight_bytes >= 2 * (4 * 3 + 3) * 4
    why, cost = made.warnings
    assert "runs eagerly" in why
    assert f"{path}:11: cannot export forward" in why
    assert "torch.where" in why
    assert "no fused DAG" in cost


def test_a_model_that_its_graph_does_not_compute_runs_eagerly(write: Write, pack: Pack) -> None:
    """What was traced is not what runs: the probes tell."""
    body = "return x if torch.compiler.is_exporting() else x * 2"
    made = pack(write("handler.py", FORWARD.format(body=body)), name="f")
    assert made.manifest.is_eager
    assert "the graph differs from the model" in made.warnings[0]


def test_running_eagerly_can_be_declined(write: Write, pack: Pack) -> None:
    """The error of export, with the line and what to do."""
    path = write("handler.py", CHOOSES.format(load="pass"))
    with pytest.raises(PackagingError) as caught:
        pack(path, name="f", eager=False)
    assert f"{path}:11: cannot export forward" in caught.value.detail
    assert "torch.where" in caught.value.detail


READS = "__import__('pathlib').Path(__file__).with_name('net.pt').read_text()"
CHANGES = "s = time.time() % 97; Net.forward = lambda _, x: x * s if x.sum() > 0 else x"


@pytest.mark.parametrize(
    ("load", "texts"),
    [
        (READS, ["FileNotFoundError", "files()"]),
        (CHANGES, ["made anew from its source differs"]),
    ],
)
def test_a_model_that_its_source_does_not_give_again_is_refused(
    write: Write, pack: Pack, load: str, texts: list[str]
) -> None:
    """It reads a file that does not travel, or is another one each time."""
    write("net.pt", "weights")
    with pytest.raises(PackagingError) as caught:
        pack(write("handler.py", CHOOSES.format(load=load)), name="f")
    texts = [*texts, "Nor can it run eagerly"]
    assert [text for text in texts if text not in caught.value.detail] == []


def test_a_module_the_hooks_need_must_travel(write: Write, pack: Pack) -> None:
    """On the platform only handler.py and its files exist."""
    write("helper.py", "x = 1")
    body = "import helper\n" + LINEAR + HOOKS
    path = write("handler.py", body)
    with pytest.raises(PackagingError, match=r"imports helper\.py at its top level"):
        pack(path, name="f")
    path.write_text(body + 'def files():\n    return ["helper.py"]\n')
    assert "files/helper.py" in members(pack(path, "again", name="f"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "No Name"}, "name: expected 1 to 63 lower-case letters"),
        ({"include": (Path("/no/such"),)}, "has no hooks"),
        ({"timeout_ms": 1e12}, "timeout_ms"),
    ],
)
def test_options_that_the_platform_would_refuse_are_refused_first(
    write: Write, pack: Pack, options: dict[str, object], text: str
) -> None:
    """Before anything is uploaded."""
    with pytest.raises(PackagingError) as caught:
        pack(write("f.py", LINEAR), **options)
    assert text in caught.value.detail


@pytest.mark.parametrize(
    ("name", "text"),
    [("no.py", "no such file"), ("empty/", "holds no handler.py"), ("x.txt", "a .py file or")],
)
def test_a_path_that_is_no_function_is_refused(
    pack: Pack, tmp_path: Path, name: str, text: str
) -> None:
    """With what it could be."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").touch()
    with pytest.raises(PackagingError) as caught:
        pack(tmp_path / name)
    assert text in caught.value.detail


def test_a_file_that_is_no_program_is_refused(pack: Pack, tmp_path: Path) -> None:
    """A `.pt2` of something else."""
    path = tmp_path / "x.pt2"
    path.write_bytes(b"no zip")
    with pytest.raises(PackagingError, match="cannot be read as an exported program"):
        pack(path)


def test_the_record_of_a_package_is_plain_json(write: Write, pack: Pack) -> None:
    """`deploy --json` prints it."""
    record = pack(write("f.py", LINEAR)).as_json()
    assert json.loads(json.dumps(record))["name"] == "f"
    assert {"architecture", "largest_difference", "operators", "warnings"} <= set(record)
