"""The child process that runs one function's hooks, or its forward; the keeper starts it.

The first message on the socket says where the function lies, what it may return and, where it is to
run eagerly, which weights it has; the answer is
`["ready", [measure, ...]]`, what it is cut off from. From then on each message is a batch
`[token, hook, [item, ...]]`, answered item by item with `[token, index, answer]`:

["progress", json]                what a postprocess yielded before its result; any number first
["ok", value]                     tensors of preprocess, JSON bytes of postprocess
["refused", code, record]         the body is malformed or an input is wrong: the caller's fault
["failed", reason, traceback]     the function's own code raised
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import workers
from contract.errors import RequestError
from contract.tensors import TensorSpec, decode_tensor
from workers.handlers.frames import MARK, pack_frame, receive
from workers.handlers.progress import Reports, drive
from workers.handlers.values import decode_payload, encode_inputs, encode_result

PLATFORM = Path(workers.__file__).parent.parent
REASON_CHARS = 300
TRACEBACK_CHARS = 16_000


class Output(io.TextIOWrapper):
    """A standard stream that marks its lines with the item they belong to.

    Items that print nothing cost nothing: the mark is written with the first line.
    """

    item = 0
    _marked = 0

    def write(self, text: str) -> int:
        """Write text, after a mark where the item is a new one."""
        if self.item != self._marked:
            self._marked = self.item
            super().write(f"\n{MARK}{self.item}\n")
        return super().write(text)


class Outputs:
    """The standard streams of this process."""

    def __init__(self) -> None:
        sys.stdout, sys.stderr = self._streams = (_stream(1), _stream(2))

    def begin(self, item: int) -> None:
        """What is printed from here on belongs to this item of the batch."""
        for stream in self._streams:
            stream.item = item

    def flush(self) -> None:
        """Send what is printed before the item is answered."""
        for stream in self._streams:
            # the function may have closed it, or what is under it
            with contextlib.suppress(ValueError, OSError):
                stream.flush()


def _stream(fd: int) -> Output:
    raw = io.FileIO(fd, "w", closefd=False)
    return Output(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class WeightsFile(NamedTuple):
    """A weights file that was opened for this process; as `process.Forward` has it."""

    fd: int
    # [name, dtype, shape, offset, bytes] each
    entries: list[list[Any]]
    data_offset: int
    file_bytes: int
    device: str
    visible: str
    threads: int


class Hooks:
    """The hooks of one function, their arguments decoded and their results encoded."""

    def __init__(
        self,
        module: ModuleType,
        specs: list[TensorSpec],
        payload_bytes: int,
        report: Callable[[Any], None],
    ) -> None:
        self._report = report
        self._module = module
        self._specs = specs
        self._payload_bytes = payload_bytes

    def preprocess(self, item: Any) -> Any:
        """Tensors of a payload: [media type, bytes] -> {name: tensor record}."""
        payload = decode_payload(item[0], item[1], self._payload_bytes)
        return encode_inputs(self._specs, self._module.preprocess(payload))

    def postprocess(self, item: Any) -> Any:
        """The result of a job's outputs: {name: tensor record} -> JSON bytes."""
        outputs = {name: decode_tensor(name, record).copy() for name, record in item.items()}
        return encode_result(drive(self._module.postprocess(outputs), self._report))


def answer(hook: Callable[[Any], Any], item: Any, head: list[Any], reply_bytes: int) -> bytes:
    """The framed answer to one item; whatever the function raises becomes part of it."""
    try:
        frame = pack_frame([*head, ["ok", hook(item)]])
        if len(frame) > reply_bytes:
            raise ValueError(f"returned {len(frame)} bytes, at most {reply_bytes} are taken")
    except RequestError as error:
        return pack_frame([*head, ["refused", error.code, error.encode()]])
    except BaseException as error:  # noqa: BLE001  # SystemExit too: a job must not end its host
        return pack_frame([*head, failure(error)])
    return frame


def failure(error: BaseException) -> list[str]:
    """The answer that says what the function raised."""
    return ["failed", reason_of(error), own_traceback(error)]


def reason_of(error: BaseException) -> str:
    """One short line: `ValueError: no such word`."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  # the function's own __str__ may raise
        text = ""
    name = type(error).__name__
    return without_paths(f"{name}: {text}" if text else name)[:REASON_CHARS]


def without_paths(text: str) -> str:
    """The text without where this host and Python lie: that is no business of a caller."""
    return functools.reduce(lambda left, folder: left.replace(folder, ""), _folders(), text)


def _folders() -> list[str]:
    handler = sys.modules.get("handler")
    own = Path(handler.__file__).parent if handler and handler.__file__ else PLATFORM
    folders = [own, own.parent, *map(Path, sys.path), PLATFORM, Path(sys.prefix)]
    # "/" is no secret, and the longest must go before what it begins with
    names = {f"{folder}/" for folder in folders if len(folder.parts) > 1}
    return sorted(names, key=len, reverse=True)


def own_traceback(error: BaseException) -> str:
    """The traceback without the platform's own frames."""
    try:
        summary = traceback.TracebackException.from_exception(error, capture_locals=False)
        part: traceback.TracebackException | None = summary
        while part is not None:
            frames = [frame for frame in part.stack if not _is_ours(frame.filename)]
            part.stack = traceback.StackSummary.from_list(frames)
            part = part.__cause__ or part.__context__
        return without_paths("".join(summary.format()))[-TRACEBACK_CHARS:]
    except Exception:  # noqa: BLE001  # again the function's own __str__
        return reason_of(error)


def _is_ours(filename: str) -> bool:
    return filename.startswith(
        (
            f"{PLATFORM}/workers/",
            f"{PLATFORM}/contract/",
            f"{PLATFORM}/fusion/",
            "<frozen importlib",
        )
    )


def load_handler(folder: Path) -> ModuleType:
    """Import the function's `handler.py`."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["handler"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _served(
    folder: Path, specs: list[TensorSpec], payload_bytes: int, weights: Any, reports: Reports
) -> object:
    if weights is None:
        return Hooks(load_handler(folder), specs, payload_bytes, reports.send)
    from workers.handlers.eager import Eager, map_weights  # torch, which hooks do without

    file = WeightsFile(*weights)
    # mapped and closed before any code of the function could open it anew, for writing
    tensors = map_weights(file)
    return Eager(load_handler(folder), [spec.name for spec in specs], tensors, file)


def serve(channel: socket.socket, measures: list[str]) -> None:
    """Load the function, then answer batches until the worker closes the socket."""
    folder, inputs, payload_bytes, reply_bytes, weights = receive(channel)
    outputs, reports = Outputs(), Reports(channel)
    specs = [TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in inputs]
    try:
        hooks = _served(Path(folder), specs, payload_bytes, weights, reports)
    except BaseException as error:  # noqa: BLE001  # the function's own code, at import
        outputs.flush()
        channel.sendall(pack_frame([b"", 0, failure(error)]))
        return
    outputs.flush()
    channel.sendall(pack_frame([b"", 0, ["ready", measures]]))
    while (batch := receive(channel)) is not None:
        token, name, items = batch
        hook = getattr(hooks, name)
        for index, item in enumerate(items):
            outputs.begin(index)
            reports.begin([token, index])
            frame = answer(hook, item, [token, index], reply_bytes)
            outputs.flush()
            channel.sendall(frame)
