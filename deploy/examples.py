"""The examples that `fusebox up` deploys, as `examples/examples.toml` lists them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from deploy.client import Body, Client, Record
from deploy.options import Options
from deploy.package import package

FOLDER = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True)
class Example:
    """A function to deploy."""

    path: Path
    options: Options


class Sample(NamedTuple):
    """An invocation to show that it works."""

    function: str
    data: Any

    @property
    def body(self) -> Body:
        """The invocation's body."""
        return Body("application/json", json.dumps(self.data).encode())

    @property
    def command(self) -> str:
        """The same as people type it."""
        return f"fusebox invoke {self.function} --data '{json.dumps(self.data)}'"


def read_examples(folder: Path = FOLDER) -> tuple[Example, ...]:
    """What `examples.toml` says is to be deployed, in its order."""
    return tuple(
        Example(folder / record.pop("path"), Options(**record))
        for record in _read(folder)["function"]
    )


def sample_invocation(folder: Path = FOLDER) -> Sample:
    """The invocation that `fusebox up` makes when all is deployed."""
    return Sample(**_read(folder)["sample"])


def deploy_examples(
    client: Client, on_step: Callable[[str, str], None], folder: Path = FOLDER
) -> Iterator[Record]:
    """Deploy the examples whose name is not deployed yet; yields each new version.

    `on_step` is told the function's name and what begins. Torch is imported only if one is new.
    """
    deployed = {function["name"] for function in client.functions()}
    for example in read_examples(folder):
        name = str(example.options.name)
        if name in deployed:
            continue
        with TemporaryDirectory(prefix="fusebox-") as scratch:
            made = package(
                example.path,
                example.options,
                Path(scratch),
                lambda step, name=name: on_step(name, step),  # type: ignore[misc]  # mypy infers no default arguments
            )
            on_step(name, "upload")
            yield client.deploy(name, made.tar, made.digest, made.compute_ms)


def _read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "examples.toml").read_text())
