"""Webhooks of doors: told in the words of their protocols."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from contract.origin import Origin
from contract.store import Store
from gateway.openfaas.callbacks import callback_of
from tests.integration.delivery.builders import FAILED, SUCCEEDED, Receiver, end, log_of
from tests.integration.store.builders import deploy

# what is asked of the store does not depend on the kind of server
pytestmark = pytest.mark.parametrize("redis_url", ["embedded"], indirect=True)


def test_a_callback_is_posted_the_functions_answer(
    store: Store, deliver: Callable[..., None], receiver: Receiver
) -> None:
    """With OpenFaaS's headers; a failure is text, and its status is said."""
    deliver()
    callback = callback_of(receiver.url)
    origin = Origin(on_success=callback, on_failure=callback, cause="openfaas:mine")
    function = deploy(store)
    job = end(store, function, origin, SUCCEEDED)
    log_of(store, job)
    log_of(store, end(store, function, origin, FAILED))
    done, failed = receiver.posts()
    assert json.loads(done.body) == {"output": [[0.0, 1.0, 2.0, 3.0]]}
    assert (done.headers["x-call-id"], done.headers["x-function-name"]) == ("mine", function.name)
    assert (done.headers["x-function-status"], failed.headers["x-function-status"]) == (
        "200",
        "500",
    )
    assert float(done.headers["x-duration-seconds"]) >= 0
    assert (failed.body, failed.headers["content-type"]) == (
        b"ValueError: no",
        "text/plain; charset=utf-8",
    )


def test_a_prediction_is_posted_as_it_is_shown(
    store: Store, deliver: Callable[..., None], receiver: Receiver
) -> None:
    """Signed as every webhook."""
    deliver()
    told = (f"prediction+{receiver.url}",)
    job = end(store, deploy(store), Origin(on_success=told), SUCCEEDED)
    log_of(store, job)
    [post] = receiver.posts()
    record = json.loads(post.body)
    assert (record["id"], record["status"]) == (job, "succeeded")
    assert record["output"] == {"output": [[0.0, 1.0, 2.0, 3.0]]}
    assert post.headers["webhook-signature"].startswith("v1,")
