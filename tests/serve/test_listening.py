"""Addresses to listen on that cannot work, or must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from huatuo.config import Config
from huatuo.errors import ConfigError
from huatuo.serve.listening import listening


def config(listen: str, token_file: str = "") -> Config:
    start = Config()
    return replace(start, agent=replace(start.agent, listen=listen, token_file=token_file))


@pytest.mark.parametrize("listen", ["19704", ":19704", "127.0.0.1:", "127.0.0.1:x", "::1:65536"])
def test_what_is_no_address_and_port_is_named(listen: str) -> None:
    with pytest.raises(ConfigError, match=f'listen = "{listen}": expected address:port'):
        listening(config(listen))


def test_beyond_loopback_only_with_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        listening(config("0.0.0.0:19704"))
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    assert listening(config("[::]:19704", str(token))) == ("::", 19704, "s3cret")
    assert listening(config("[::1]:65535")) == ("::1", 65535, "")
