"""The endpoints, grouped by what they are about; `all_endpoints()` is the whole API."""

from __future__ import annotations

from huatuo.serve.endpoint import Endpoint
from huatuo.serve.routes import containers, events, incidents, metrics, overview, profiles, state

__all__ = ["all_endpoints"]


def all_endpoints() -> list[Endpoint]:
    return [
        *state.ENDPOINTS,
        *overview.ENDPOINTS,
        *containers.ENDPOINTS,
        *events.ENDPOINTS,
        *metrics.ENDPOINTS,
        *profiles.ENDPOINTS,
        *incidents.ENDPOINTS,
    ]
