"""Where the web server listens, as configured, and what is needed to be reachable by others."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from huatuo.config import Config
from huatuo.errors import ConfigError

__all__ = ["address_of", "is_loopback", "listening"]

_LAST_PORT = 65535


def address_of(host: str, port: int) -> str:
    """The UI's address as a browser takes it."""
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def listening(config: Config) -> tuple[str, int, str]:
    """(address, port, token). Raises ConfigError if it is open to others without a token."""
    address, _, port = config.agent.listen.rpartition(":")
    address = address.strip("[]")
    if not address or not port.isdecimal() or int(port) > _LAST_PORT:
        raise ConfigError(
            f'[agent] listen = "{config.agent.listen}": expected address:port up to 65535, '
            'for example "127.0.0.1:19704"'
        )
    token = ""
    if config.agent.token_file:
        try:
            token = Path(config.agent.token_file).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"[agent] token_file {config.agent.token_file}: {error.strerror}"
            ) from error
    if not is_loopback(address) and not token:
        raise ConfigError(
            f"[agent] listen = {config.agent.listen} is reachable by others and needs a token: "
            "write one into a file and set token_file, or listen on 127.0.0.1"
        )
    return address, int(port), token


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
