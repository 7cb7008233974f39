"""Run the pipeline: make it, drop images, show what arrived, and take it away again.

Without options it starts a platform of its own. With --url it uses one that runs, which must let
triggers watch --folder (FUSEBOX_WATCH) and webhooks reach this machine (FUSEBOX_WEBHOOK_ALLOW).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline import FUNCTIONS, commands, drop, entries, newest_entry, opened, undo_commands
from receiver import Event, Receiver

from deploy.client import Client, Retries, Unreachable

# until a platform that has just been started answers
PATIENT = Retries(attempts=1000, first_s=0.1, most_s=0.2, total_s=60.0)
STOP_S = 60.0
# from one image to the next
PACE_S = 0.25


class Place(NamedTuple):
    """A platform, the folder that it watches, and its store."""

    url: str
    folder: Path
    store: str


@contextmanager
def own_platform() -> Iterator[Place]:
    """A platform that is gone afterwards, with its folder."""
    with tempfile.TemporaryDirectory(prefix="fb-") as home:
        data, folder = Path(home) / "data", Path(home) / "inbox"
        data.mkdir()
        folder.mkdir()
        url, log = f"http://127.0.0.1:{free_port()}", data / "platform.log"
        process = start(url, data, folder, log)
        try:
            with Client(url, retries=PATIENT) as client:
                client.functions()
            yield Place(url, folder, f"unix://{data / 'store.sock'}")
        except Unreachable:
            sys.exit(f"the platform did not start:\n{log.read_text(errors='replace')[-4000:]}")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)


def start(url: str, data: Path, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """`fusebox up` with what the pipeline needs; does not wait for it."""
    port = url.rpartition(":")[2]
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    environ |= {"FUSEBOX_WATCH": str(folder), "FUSEBOX_WEBHOOK_ALLOW": "127.0.0.1"}
    words = ("up", "--no-examples", "--port", port, "--data", str(data))
    with log.open("wb") as output:
        # in a session of its own: Ctrl-C reaches it once, from here
        return subprocess.Popen(
            fusebox(*words), env=environ, stdout=output, stderr=output, start_new_session=True
        )


def free_port() -> int:
    """A port on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fusebox(*words: str) -> list[str]:
    """The command line of this installation."""
    return [sys.executable, "-m", "deploy.cli", *words]


def tell(url: str, *words: str) -> str:
    """Run one command as it is typed; what it prints."""
    environ = os.environ | {"FUSEBOX_URL": url}
    done = subprocess.run(fusebox(*words), env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"fusebox {' '.join(words)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def secret_of(url: str) -> str:
    """The secret that the platform signs with."""
    found = json.loads(tell(url, "webhooks", "secret", "--json"))
    return str(found["secrets"][0])


@contextmanager
def pipeline(place: Place, receiver: Receiver) -> Iterator[None]:
    """The functions and their triggers."""
    for words in commands(place.folder, receiver.url):
        print("fusebox", *words)
        tell(place.url, *words)
    try:
        yield
    finally:
        for words in undo_commands():
            tell(place.url, *words)


def show(names: list[str], told: list[Event], streamed: list[Event]) -> int:
    """A line for each image; how many results are missing."""
    by_file = {(event.file, event.function): event for event in told}
    on_stream = {event.id for event in streamed}
    missing = 0
    for name in names:
        parts = []
        for function in FUNCTIONS:
            event = by_file.get((name, function))
            if event is None or event.id not in on_stream:
                missing += 1
                parts.append(f"{function}: missing")
                continue
            data = event.record["data"]
            parts.append(f"{shown(data['result'])} (group of {data['group']['functions']})")
        print(f"{name}  {'  '.join(parts)}")
    return missing


def shown(result: dict[str, object]) -> str:
    """The result in a few words."""
    tags = result.get("tags")
    if isinstance(tags, dict):
        return ", ".join(tags)
    vector = result["embedding"]
    assert isinstance(vector, list)
    return f"{len(vector)} numbers from {vector[0]:.3f}"


def run(place: Place, images: int, timeout_s: float) -> int:
    """Drop the images and wait for their results; how many are missing."""
    with ExitStack() as stack:
        redis = stack.enter_context(closing(opened(place.store)))
        receiver = stack.enter_context(Receiver(secret_of(place.url)))
        stack.enter_context(pipeline(place, receiver))
        before = newest_entry(redis)
        # the same names again are other files to a trigger: their time of change differs
        names = []
        for number in range(images):
            names.append(drop(place.folder, number))
            time.sleep(PACE_S)  # as a camera drops them
        wanted = len(FUNCTIONS) * images
        is_whole = receiver.wait_for(wanted, timeout_s)
        told, streamed = receiver.seen(), entries(redis, before, wanted, timeout_s)
    missing = show(names, told, streamed)
    ids = {event.id for event in told}
    shared = {event.id for event in told if event.record["data"]["group"]["functions"] > 1}
    print(f"{len(shared)} of {len(ids)} results are of groups of both functions")
    print(f"{images} images, {len(ids)} results at the webhook ({len(told)} messages, all signed, "
          f"{receiver.refused} refused), {len(streamed)} on the stream")  # fmt: skip
    if not is_whole:
        print(f"after {timeout_s:g} s {wanted - len(ids)} results had not come")
    return missing


def main() -> int:
    """Run it; 1 where a result is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    parser.add_argument("--url", help="a platform that runs; needs --folder and --store")
    parser.add_argument("--folder", type=Path, help="a folder that its FUSEBOX_WATCH names")
    parser.add_argument("--store", help="its store: unix:///PATH/.fusebox/store.sock or redis://")
    options = parser.parse_args()
    if options.url is None:
        with own_platform() as place:
            return min(1, run(place, options.images, options.timeout_s))
    if options.folder is None or options.store is None:
        parser.error("--url needs --folder and --store")
    place = Place(options.url, options.folder.resolve(), options.store)
    return min(1, run(place, options.images, options.timeout_s))


if __name__ == "__main__":
    sys.exit(main())
