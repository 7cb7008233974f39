"""From the first key, made on the host, to a call with a key made by it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from contract.settings import Settings
from contract.store import Store
from deploy.cli import main
from gateway.app import create_app, gateway_of


@pytest.fixture
def url(store: Store, tmp_path: Path) -> Iterator[str]:
    """A guarded gateway on a port of its own."""
    app = create_app(Settings(data=tmp_path, auth="on"), store)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    gateway_of(app).replies.close()


def fusebox(environ: dict[str, str], *args: str) -> Result:
    """Run a verb."""
    return CliRunner().invoke(main, args, env=environ)


def test_the_first_key_is_made_on_the_host_and_makes_the_others(url: str, redis_url: str) -> None:
    """Without one the gateway answers nobody; a revoked one is refused."""
    nobody = {"FUSEBOX_URL": url, "FUSEBOX_API_KEY": ""}
    assert fusebox(nobody, "ls").exit_code == 6
    assert fusebox(nobody, "keys", "create").exit_code == 6

    host = {"REDIS_URL": redis_url}
    local = ["keys", "create", "operator", "--scope", "admin", "--local"]
    first = fusebox(host, *local).stdout.strip()
    operator = {"FUSEBOX_URL": url, "FUSEBOX_API_KEY": first}
    made = json.loads(fusebox(operator, "keys", "create", "shop", "--json").stdout)
    shop = {"FUSEBOX_URL": url, "FUSEBOX_API_KEY": made["key"]}
    assert fusebox(shop, "ls").exit_code == 0
    assert fusebox(shop, "keys", "list").exit_code == 6
    listed = fusebox(operator, "keys", "list").stdout
    assert all(text in listed for text in ("operator", "admin", "shop", made["id"]))
    assert made["key"] not in listed

    at_host = json.loads(fusebox(host, "keys", "list", "--local", "--json").stdout)
    over_http = json.loads(fusebox(operator, "keys", "list", "--json").stdout)
    assert at_host == over_http
    assert fusebox(operator, "keys", "revoke", made["id"]).exit_code == 0
    assert fusebox(operator, "keys", "revoke", made["id"]).exit_code == 3
    key_id = first.split("_")[1]
    assert fusebox(host, "keys", "revoke", key_id, "--local").exit_code == 0
    assert fusebox(nobody, "keys", "list", "--json").exit_code == 6


@pytest.mark.parametrize("options", [["--rate", "often"], ["--scope", "root"], ["--expires", "x"]])
def test_a_wrong_wish_makes_no_key(redis_url: str, store: Store, options: list[str]) -> None:
    """Usage errors, before the store is touched."""
    result = fusebox({"REDIS_URL": redis_url}, "keys", "create", *options, "--local")
    assert result.exit_code == 2
    assert store.api_keys.all() == []


def test_a_key_is_printed_for_aws_clients(redis_url: str, store: Store) -> None:
    """As two lines of a credentials file; the secret is the SHA-256 of the key's."""
    host = {"REDIS_URL": redis_url}
    lines = fusebox(host, "keys", "create", "--aws", "--local").stdout.splitlines()
    fields = dict(line.split(" = ") for line in lines)
    key = store.api_keys.get(fields["aws_access_key_id"])
    assert key is not None
    assert fields == {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret_sha256}
    made = json.loads(fusebox(host, "keys", "create", "--local", "--json").stdout)
    secret = made["key"].split("_")[2]
    assert made["aws_secret_access_key"] == hashlib.sha256(secret.encode()).hexdigest()
