"""A function that misbehaves beside ones that do not, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from bench._platform import Platform
from tests.e2e.test_invoke import X, invoke


def linear_works(platform: Platform, count: int = 10) -> bool:
    """Whether calls of another function are answered."""
    answers = [
        invoke(platform, "linear", json={"inputs": {"input": X.tolist()}}) for _ in range(count)
    ]
    return {answer.status_code for answer in answers} == {200}


@pytest.mark.long
def test_others_are_answered_while_a_hook_loops(platform: Platform) -> None:
    """Its own call ends with the time limit, and the next one is answered by a new host."""
    with ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(invoke, platform, "hooked", json={"do": "loop"}) for _ in range(2)]
        assert linear_works(platform)
        assert not any(future.done() for future in loops)
        problems = [future.result().json() for future in loops]
    assert {problem["code"] for problem in problems} == {"handler_timeout"}
    assert {problem["detail"] for problem in problems} == {
        "hooked@1 preprocess: the handler took longer than 8 s"
    }
    body = invoke(platform, "hooked", json={"numbers": [1, 1, 1]}).json()
    assert body["result"] == {"doubled": [2.0, 2.0, 2.0]}


@pytest.mark.parametrize(
    ("way", "code", "reason"),
    [
        ("exit", "handler_failed", "hooked@1 preprocess: the handler ended with exit status 7"),
        ("raise", "handler_failed", "hooked@1 preprocess: ValueError: the payload asked for it"),
        ("eat", "handler_failed", "hooked@1 preprocess: MemoryError"),
        ("wrong", "invalid_input", "hooked@1 preprocess: inputs.x"),
    ],
)
def test_a_misbehaving_call_fails_alone_and_says_why(
    platform: Platform, way: str, code: str, reason: str
) -> None:
    """Function, hook and one line, without a path or a traceback."""
    problem = invoke(platform, "hooked", json={"do": way}).json()
    assert problem["code"] == code
    assert problem["detail"].startswith(reason)
    assert linear_works(platform, 1)


def test_a_function_reaches_neither_the_store_nor_the_gateway(platform: Platform) -> None:
    """Not over the network, not as files, not through its environment."""
    found = invoke(platform, "hooked", json={"do": "reach", "url": platform.url}).json()
    assert found["code"] == "handler_failed"
    seen = found["detail"].partition("RuntimeError: ")[2]
    assert seen == "tcp closed, data hidden, no settings"
    assert requests.get(f"{platform.url}/healthz", timeout=10).status_code == 200
