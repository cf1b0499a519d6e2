"""The verdict on the node in one sentence, and a row per subsystem."""

from __future__ import annotations

from collections.abc import Sequence

from huatuo.serve.answers import Finding, Overview
from huatuo.serve.endpoint import END, Context, Endpoint
from huatuo.serve.params import Param
from huatuo.serve.reader import Reader
from huatuo.serve.subsystems import SUBSYSTEMS

__all__ = ["ENDPOINTS", "verdict"]


def verdict(findings: Sequence[Finding], words: Sequence[str], observed: bool) -> tuple[str, str]:
    """(status, sentence): what is wrong, worst first; otherwise what was looked at."""
    if not observed:
        return "unknown", "Nothing has been measured in this time yet."
    if findings:
        texts = [finding.text for finding in findings[:2]]
        more = len(findings) - len(texts)
        tail = f" And {more} more." if more else ""
        return findings[0].status, "; ".join(_capital(t) for t in texts[:1]) + (
            f". {_capital(texts[1])}." if len(texts) > 1 else "."
        ) + tail
    return "ok", "This node is well: " + ", ".join(words) + "." if words else "This node is well."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _overview(context: Context) -> Overview:
    start_ns, end_ns = context.query.period_ns()
    reader = Reader(context.store, start_ns, end_ns)
    filled = [subsystem.row(reader, context.probes) for subsystem in SUBSYSTEMS]
    findings = [finding for _, row in filled for finding in row.findings]
    findings.sort(key=lambda finding: finding.status != "bad")
    words = [row.signals[0].text for row, _ in filled if row.signals]
    observed = any(row.signals for row, _ in filled)
    status, sentence = verdict(findings, words, observed)
    return Overview(
        status, sentence, start_ns / 1e9, end_ns / 1e9, findings, [row for row, _ in filled]
    )


_START = Param("start", "begin of the time range", "time", "-1m", "-15m")

ENDPOINTS = [
    Endpoint(
        "/overview",
        "How the node is: a verdict in words, what is wrong, a row per subsystem",
        Overview,
        _overview,
        (_START, END),
        needs=frozenset({"probes"}),
    ),
]
