from __future__ import annotations

from base64 import b64encode

import pytest

from huatuo.errors import ConfigError
from huatuo.serve.app import create_app
from tests.serve.conftest import client_of
from tests.serve.fake_node import FakeNode

NODE = FakeNode(empty=True)
TOKEN = "s3cret"


def test_beyond_loopback_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="without a token"):
        create_app(NODE, require_token=True)


@pytest.mark.parametrize("path", ["/api/v1/health", "/metrics", "/api", "/api/v1/events/stream"])
def test_everything_about_the_host_asks_for_the_token(path: str) -> None:
    get = client_of(NODE, token=TOKEN, require_token=True)
    assert get(path).status_code == 401
    assert get(path).headers["www-authenticate"] == "Bearer"
    assert get(path, authorization="Bearer wrong").status_code == 401
    if "stream" not in path:
        assert get(path, authorization=f"Bearer {TOKEN}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_the_empty_frame_and_the_liveness_check_do_not(path: str) -> None:
    get = client_of(NODE, token=TOKEN, require_token=True)
    assert get(path, host="node-7.example").status_code == 200


def test_on_loopback_reading_needs_no_token_but_changing_does() -> None:
    get = client_of(NODE, token=TOKEN)
    assert get("/api/v1/health").status_code == 200
    assert get("/api/v1/health", method="POST").status_code == 401
    answer = get("/api/v1/health", method="POST", authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 405


IMPORT = "/api/v1/profiles/import"
STACKS = b"main;work 42\n"


def post(**headers: str) -> int:
    get = client_of(FakeNode(empty=True), token=TOKEN)
    return get(IMPORT, method="POST", content=STACKS, **headers).status_code


def test_the_token_also_comes_as_the_password_of_anybody() -> None:
    """Grafana's and Pyroscope's clients have a form for basic authentication."""
    assert post() == 401
    assert post(authorization=f"Bearer {TOKEN}") == 200
    assert post(authorization="Basic " + b64encode(b"grafana:s3cret").decode()) == 200
    for wrong in (b"grafana:wrong", b"s3cret", b"s3cret:", b"\xff\xff:"):
        assert post(authorization="Basic " + b64encode(wrong).decode()) == 401
    assert post(authorization="Basic *") == 401
    assert post(authorization=TOKEN) == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 200), ("http://evil.example", 403), ("null", 403), ("", 403)],
)
def test_a_page_of_another_origin_changes_nothing(origin: str, status: int) -> None:
    """Without a token, as on loopback: any page could send a form here."""
    get = client_of(FakeNode(empty=True))
    assert get(IMPORT, method="POST", content=STACKS, origin=origin).status_code == status
    assert get("/api/v1/health", origin=origin).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:19704", 200),
        ("127.0.0.1:19704", 200),
        ("[::1]:19704", 200),
        ("10.1.2.3", 200),
        ("rebound.example", 421),
    ],
)
def test_another_name_cannot_be_rebound_to_us(host: str, status: int) -> None:
    assert client_of(NODE)("/api/v1/health", host=host).status_code == status


def test_headers_keep_other_hosts_out() -> None:
    get = client_of(NODE)
    page = get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["date"].endswith("GMT")
    assert get("/api/v1/health").headers["cache-control"] == "no-store"
