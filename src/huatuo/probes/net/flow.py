"""How a connection is written in titles."""

from __future__ import annotations

from typing import Any

__all__ = ["endpoint", "flow"]


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flow(fields: dict[str, Any]) -> str:
    """`10.0.0.1:5555 → 10.0.0.2:443`, from a record's two ends."""
    local = endpoint(fields["local_address"], fields["local_port"])
    remote = endpoint(fields["remote_address"], fields["remote_port"])
    return f"{local} → {remote}"
