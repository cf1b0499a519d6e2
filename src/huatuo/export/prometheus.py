"""What a Prometheus scrape gets, by what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from huatuo.export.exposition import openmetrics, text
from huatuo.export.protobuf import protobuf
from huatuo.model.metric import Metric

__all__ = [
    "OPENMETRICS",
    "PROTOBUF",
    "TEXT",
    "Renderer",
    "negotiate",
    "openmetrics",
    "protobuf",
    "text",
]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

Renderer = Callable[[Sequence[Metric]], bytes]


def negotiate(accept: str) -> tuple[str, Renderer]:
    """(Content-Type, renderer) for an Accept header; the classic text if nothing else fits."""
    best = 0.0
    chosen: tuple[str, Renderer] = (TEXT, text)
    for entry in accept.split(","):
        kind, *rest = (part.strip() for part in entry.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        offer = _offer(kind.lower(), parameters)
        quality = _quality(parameters.get("q", "1"))
        if offer and quality > best:
            best, chosen = quality, offer
    return chosen


def _offer(kind: str, parameters: dict[str, str]) -> tuple[str, Renderer] | None:
    if kind == "application/vnd.google.protobuf":
        family = parameters.get("proto") == "io.prometheus.client.MetricFamily"
        delimited = parameters.get("encoding", "delimited") == "delimited"
        return (PROTOBUF, protobuf) if family and delimited else None
    if kind == "application/openmetrics-text":
        known = parameters.get("version", "1.0.0") in ("0.0.1", "1.0.0")
        return (OPENMETRICS, openmetrics) if known else None
    if kind in ("text/plain", "text/*", "*/*"):
        known = parameters.get("version", "0.0.4") == "0.0.4"
        return (TEXT, text) if known else None
    return None


def _quality(text_value: str) -> float:
    try:
        return float(text_value)
    except ValueError:
        return 0.0
