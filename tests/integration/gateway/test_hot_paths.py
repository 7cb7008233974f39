"""What is answered without Flask's contexts."""

from __future__ import annotations

import pytest
from flask import Flask

from contract.store import Store
from gateway.doors import DOORS
from tests.integration.gateway.builders import publish

HOT = (
    "/v2/models/digits/infer",
    "/v2/models/digits/versions/3/infer",
    "/2015-03-31/functions/digits/invocations",
    "/2015-03-31/functions/digits:prod/invocations/",
    "/function/digits.openfaas-fn",
    "/v1/predictions",
    "/v1/models/fusebox/digits/predictions",
)
OTHERS = (
    "/v2/models/digits/versions/infer",
    "/2015-03-31/functions/digits/aliases",
    "/function/digits/more",
    "/async-function/digits",
    "/v1/predictions/0123/cancel",
)


@pytest.mark.parametrize("path", HOT)
def test_flask_knows_the_route_of_every_hot_path(app: Flask, path: str) -> None:
    """Methods that are not answered there are refused by it, with the list of those that are."""
    endpoint, _ = app.url_map.bind("localhost").match(path, "POST")
    assert endpoint
    assert [door for door in DOORS if door.hot and door.hot.paths.fullmatch(path)]


@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_of_the_doors_are_not_hot(path: str) -> None:
    """However much they look like one."""
    assert not [door for door in DOORS if door.hot and door.hot.paths.fullmatch(path)]


def test_an_answer_without_content_describes_none(app: Flask, store: Store) -> None:
    """Also past Flask, which sees to that for its own."""
    publish(store)
    answer = app.test_client().post(
        "/2015-03-31/functions/echo/invocations",
        json={"inputs": {"x": [[1.0, 2.5, -3.0, 4.0]]}},
        headers={"X-Amz-Invocation-Type": "DryRun"},
    )
    assert answer.status_code == 204, answer.text
    assert "Content-Type" not in answer.headers
    assert answer.headers["x-amzn-RequestId"]
