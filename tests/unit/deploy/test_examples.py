"""The examples do what their READMEs say: packaged as deployed, run as the platform runs them."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import requests
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from standardwebhooks.webhooks import Webhook

from deploy.client import Client
from deploy.examples import FOLDER, deploy_examples, read_examples, sample_invocation
from deploy.options import Options
from deploy.package import Package, package
from fusion.codegen import generate
from fusion.ir import Graph
from tests.unit.deploy.fake_gateway import FUNCTION, FakeGateway


class Deployed:
    """A function unpacked from its artifact; hooks lie beside their files as in a handler host."""

    def __init__(self, made: Package, folder: Path) -> None:
        self.made = made
        with tarfile.open(made.tar) as tar:
            tar.extractall(folder, filter="data")
        self.graph = Graph.decode((folder / "graph.json").read_bytes())
        weights = load_file(folder / "weights.safetensors")
        self.weights = [weights[spec.name] for spec in self.graph.weights]
        self.program = generate(self.graph)
        for file in folder.glob("files/*"):
            file.rename(folder / file.name)
        self.hooks = _module(folder / "handler.py") if (folder / "handler.py").exists() else None

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph on named arrays."""
        ordered = [torch.from_numpy(inputs[spec.name]) for spec in self.graph.inputs]
        with torch.inference_mode():
            outputs = self.program.run(self.weights, ordered)
        names = [output.spec.name for output in self.graph.outputs]
        return {name: x.numpy() for name, x in zip(names, outputs, strict=True)}

    def call(self, payload: Any) -> Any:
        """The whole function."""
        assert self.hooks is not None
        return self.hooks.postprocess(self.run(self.hooks.preprocess(payload)))


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hooks_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _deployed(name: str, path: str, folder: Path, max_batch: int) -> Deployed:
    made = package(FOLDER / path, Options(name, max_batch=max_batch), folder, lambda _step: None)
    unpacked = folder / name
    unpacked.mkdir()
    return Deployed(made, unpacked)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """sentence-embedding."""
    folder = tmp_path_factory.mktemp("embedding")
    return _deployed("sentence-embedding", "sentence-embedding", folder, 2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """digits."""
    return _deployed("digits", "digits", tmp_path_factory.mktemp("digits"), 32)


@pytest.fixture
def folder_on_path(request: pytest.FixtureRequest) -> Iterator[None]:
    """An example's folder on sys.path, as for its own scripts."""
    folder = str(FOLDER / request.param)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


def test_similar_sentences_are_closer_than_unrelated_ones(embedding: Deployed) -> None:
    """The weights are the real ones: meaning counts, not words."""
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Share prices fell today."]
    vectors = np.array(embedding.call({"texts": texts})["embeddings"])
    similarity = vectors @ vectors.T
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert similarity[0, 1] > 0.5
    assert max(similarity[0, 2], similarity[1, 2]) < 0.2


def test_a_sentence_has_one_vector_however_it_is_sent(embedding: Deployed) -> None:
    """Alone or among others, long ones cut at 128 tokens."""
    long = "word " * 500
    alone = embedding.call({"text": long})["embeddings"]
    among = embedding.call({"texts": ["short", long]})["embeddings"]
    np.testing.assert_allclose(alone[0], among[1], atol=1e-5)


@pytest.mark.parametrize("payload", [None, {}, {"texts": "x"}, {"texts": []}, {"text": 3}])
def test_a_payload_without_texts_is_refused(embedding: Deployed, payload: Any) -> None:
    """The message says what is expected."""
    assert embedding.hooks is not None
    with pytest.raises(ValueError, match="expected"):
        embedding.hooks.preprocess(payload)


@pytest.mark.parametrize("folder_on_path", ["digits"], indirect=True)
@pytest.mark.usefixtures("folder_on_path")
def test_digits_finds_97_percent_of_the_images_it_has_not_seen(digits: Deployed) -> None:
    """Of the packaged graph, through its hooks."""
    from data import load_split

    split = load_split()
    found = [digits.call({"image": i.tolist()})["digit"] for i in split.held_out_images]
    accuracy = float(np.mean(np.array(found) == split.held_out_labels))
    assert (len(found), accuracy >= 0.97) == (450, True)


def test_digits_answers_a_digit_and_its_probabilities(digits: Deployed) -> None:
    """The image of the README."""
    answer = digits.call(json.loads((FOLDER / "digits" / "seven.json").read_text()))
    assert answer["digit"] == 7
    assert sum(answer["probabilities"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("image", [None, [[1] * 8] * 7, [[17] * 8] * 8, [[float("nan")] * 8] * 8])
def test_digits_refuses_what_is_no_image(digits: Deployed, image: Any) -> None:
    """Wrong shapes and numbers out of range."""
    assert digits.hooks is not None
    with pytest.raises((ValueError, TypeError)):
        digits.hooks.preprocess({"image": image})


@pytest.mark.parametrize("folder_on_path", ["resnet-family"], indirect=True)
@pytest.mark.usefixtures("folder_on_path")
def test_the_family_shares_an_architecture_and_not_its_weights(tmp_path: Path) -> None:
    """45 MB each, BatchNorm folded, and equal to eager PyTorch."""
    from family import build

    members = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = f"resnet-family/resnet-{seed}.py"
        members.append(_deployed(f"resnet-{seed}", path, folder, 2))
    first, second = (member.made.manifest for member in members)
    assert first.architecture == second.architecture
    assert members[0].made.digest != members[1].made.digest
    assert 44e6 < first.weight_bytes < 46e6
    assert first.operators_exported - first.operators == 20  # as many as there are BatchNorms
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    for seed, member in enumerate(members, start=1):
        with torch.no_grad():
            expected = build(seed)(torch.from_numpy(images))["logits"].numpy()
        actual = member.run({"images": images})["logits"]
        np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder_on_path", ["image-pipeline"], indirect=True)
@pytest.mark.usefixtures("folder_on_path")
def test_the_pipeline_answers_which_file_it_is_of(tmp_path: Path) -> None:
    """By both functions, from the input that the triggers make; they have a backbone in common."""
    from pipeline import FUNCTIONS, drop

    name = drop(tmp_path, 7)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    payload = {"name": name, "image": base64.b64encode((tmp_path / name).read_bytes()).decode()}
    made = {}
    for function in FUNCTIONS:
        folder = tmp_path / f"{function}-artifact"
        folder.mkdir()
        made[function] = _deployed(function, f"image-pipeline/{function}.py", folder, 4)
    tags, vector = (one.call(payload) for one in made.values())
    assert (tags["file"], vector["file"]) == (name, name)
    probabilities = list(tags["tags"].values())
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert np.linalg.norm(vector["embedding"]) == pytest.approx(1.0, abs=1e-5)
    long = payload | {"name": "ü" * 40}
    assert made["image-tags"].call(long)["file"] == "ü" * 32
    hooks = made["image-tags"].hooks
    assert hooks is not None
    for wrong in (None, {}, {"name": "x"}, {"name": 3, "image": ""}, {"name": "x", "image": "%"}):
        with pytest.raises(ValueError, match="expected"):
            hooks.preprocess(wrong)


@pytest.mark.parametrize("folder_on_path", ["image-pipeline"], indirect=True)
@pytest.mark.usefixtures("folder_on_path")
def test_the_pipelines_receiver_takes_what_is_signed_and_nothing_else() -> None:
    """Repeats are kept under the id that they share."""
    from receiver import Receiver

    secret = f"whsec_{base64.b64encode(bytes(24)).decode()}"
    body = json.dumps({"data": {"function": "f", "result": {"file": "a.png"}}})
    at = datetime.now(UTC)
    headers = {
        "webhook-id": "j1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("j1", at, body),
    }
    with Receiver(secret) as receiver:
        for sent, status in ((body, 204), (body, 204), (body + " ", 401)):
            answer = requests.post(receiver.url, data=sent, headers=headers, timeout=10)
            assert answer.status_code == status
        unsigned = requests.post(receiver.url, data=body, timeout=10)
        assert unsigned.status_code == 401
        large = {"Content-Length": str(2**30)}
        assert requests.post(receiver.url, headers=large, timeout=10).status_code == 413
        assert receiver.wait_for(1, timeout_s=0)
        assert not receiver.wait_for(2, timeout_s=0)
        found = [(event.id, event.function, event.file) for event in receiver.seen()]
    assert found == [("j1", "f", "a.png")] * 2
    assert receiver.refused == 2


def test_examples_toml_lists_what_there_is() -> None:
    """What is there from the start, each under the name its path has anyway."""
    examples = read_examples()
    names = [example.options.name for example in examples]
    family = [f"resnet-{n}" for n in range(1, 9)]
    assert names == ["sentence-embedding", "digits", *family]
    assert [example.path for example in examples if not example.path.exists()] == []
    assert sample_invocation().function in names
    assert sample_invocation().command.startswith("fusebox invoke sentence-embedding --data '{")


def test_examples_that_are_deployed_are_left_alone(gateway: FakeGateway) -> None:
    """A second start packages nothing."""
    deployed = [FUNCTION | {"name": example.options.name} for example in read_examples()]
    gateway.on("GET", "/v1/functions", (200, {"functions": deployed}))
    with Client(gateway.url) as client:
        assert list(deploy_examples(client, lambda _name, _step: None)) == []
    assert [asked.method for asked in gateway.asked] == ["GET"]


def test_examples_that_are_missing_are_deployed(gateway: FakeGateway) -> None:
    """Only those, and each step is told."""
    names = [
        example.options.name for example in read_examples() if example.options.name != "digits"
    ]
    gateway.on("GET", "/v1/functions", (200, {"functions": [{"name": name} for name in names]}))
    gateway.on("PUT", "/v1/functions/digits", (201, FUNCTION | {"name": "digits", "version": 1}))
    steps: list[tuple[str, str]] = []
    with Client(gateway.url) as client:
        made = list(deploy_examples(client, lambda name, step: steps.append((name, step))))
    assert [function["name"] for function in made] == ["digits"]
    assert [step for _, step in steps] == ["load", "export", "compare", "measure", "pack", "upload"]
