"""How the two ends in a record are written in titles."""

from __future__ import annotations

from typing import Any

__all__ = ["endpoint", "flow", "local", "remote"]


def endpoint(address: str, port: int) -> str:
    """`10.0.0.1:443`, `[::1]:443`; without the port where there is none."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def local(fields: dict[str, Any]) -> str:
    return endpoint(fields["local_address"], fields["local_port"])


def remote(fields: dict[str, Any]) -> str:
    return endpoint(fields["remote_address"], fields["remote_port"])


def flow(fields: dict[str, Any]) -> str:
    """`10.0.0.1:5555 → 10.0.0.2:443`, as what is sent from here."""
    return f"{local(fields)} → {remote(fields)}"
