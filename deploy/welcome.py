"""What `fusebox up` does once everything starts: deploy the examples, call one, show the way on.

A process of its own, `python -m deploy.welcome`: exporting imports torch, which `up` should not
hold for as long as it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import click

from contract.errors import FuseboxError
from deploy import DEFAULT_URL
from deploy.client import NEVER, Client, Record
from deploy.errors import Unreachable
from deploy.options import API_KEY_VARIABLE

START_S = 120.0
LOOK_S = 0.1
SHOWN_CHARS = 300
_FIRST_KEY = (
    "It asks for API keys. Make the first one on this host, then others with it:",
    "  export FUSEBOX_DATA={data}",
    "  export FUSEBOX_API_KEY=$(.venv/bin/fusebox keys create --local --scope admin)",
)


def welcome(url: str, is_with_examples: bool) -> None:
    """Print each step; raises FuseboxError where one fails."""
    with Client(url, retries=NEVER) as client:
        _wait_for_worker(client)
        if is_with_examples:
            # imported late: a platform without examples starts without it
            from deploy.examples import deploy_examples, sample_invocation

            for function in deploy_examples(client, _say_step):
                _say(f"deployed {function['name']}@{function['version']}")
            sample = sample_invocation()
            _say(sample.command)
            _show_answer(client.call(sample.function, sample.body))
    _show_places(url, is_with_examples, bool(os.environ.get(API_KEY_VARIABLE)))


def _wait_for_worker(client: Client) -> None:
    """Until the gateway answers and a worker has reported."""
    give_up_at_s = time.monotonic() + START_S
    while True:
        try:
            if client.workers():
                return
        except Unreachable:
            if time.monotonic() > give_up_at_s:
                raise
        if time.monotonic() > give_up_at_s:
            raise FuseboxError(f"no worker reported within {START_S:g} s; its lines above say why")
        time.sleep(LOOK_S)  # other processes: there is nothing to wait on but their answers


def _say_step(name: str, step: str) -> None:
    _say(f"{name}: {step}")


def _show_answer(answer: Record) -> None:
    text = json.dumps(answer.get("result", answer.get("outputs")))
    _say(text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} …")
    times = "  ".join(f"{step} {ms:.1f}" for step, ms in answer["timings_ms"].items())
    _say(f"job {answer['job']} in ms: {times}")


def _show_places(url: str, is_with_examples: bool, is_guarded: bool) -> None:
    data = os.environ.get("FUSEBOX_DATA", "")
    name = "digits" if is_with_examples else "NAME"
    lines = [
        "Fusebox is ready. Ctrl-C drains and stops it.",
        f"  gateway      {url}",
        f"  API docs     {url}/docs",
        f"  status page  {url}/",
        *(line.format(data=data) for line in _FIRST_KEY if is_guarded),
        "Try next, in another terminal:",
        "  .venv/bin/fusebox ls",
        f"  .venv/bin/fusebox describe {name}",
        "  .venv/bin/fusebox top",
    ]
    for line in lines:
        _say(line)


def _say(line: str) -> None:
    click.echo(f"{click.style('fusebox', bold=True)} │ {line}")
    sys.stdout.flush()


def main() -> None:
    """Welcome the user of the platform at FUSEBOX_URL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-examples", action="store_true")
    options = parser.parse_args()
    try:
        welcome(os.environ.get("FUSEBOX_URL", DEFAULT_URL), not options.no_examples)
    except FuseboxError as error:
        _say(f"could not finish: {error.detail}")
        sys.exit(1)


if __name__ == "__main__":
    main()
