"""An incident as one HTML file that can be mailed: nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape

from huatuo.model.incident import Capture, EvidenceMetric, FunctionShare, Incident
from huatuo.model.units import percent

__all__ = ["incident_html"]

_WIDTH, _HEIGHT = 900, 120
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.6em}table{border-collapse:collapse}
td,th{padding:.15em .8em .15em 0;text-align:left}
code,pre{font-family:ui-monospace,monospace}svg{width:100%;height:auto}.note{color:#666}
.chart{background:#f7f7f7}
"""
_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>{style}</style>"""


def incident_html(incident: Incident, files: Mapping[str, bytes]) -> bytes:
    """`files`: what is attached; pictures are shown, profiles can be saved from the page."""
    whom = incident.target or "host"
    title = f"{incident.trigger}: {whom}"
    parts = [
        _HEAD.format(title=escape(title), style=_STYLE),
        f"<h1>{escape(title)}</h1><p>{escape(incident.time)} · incident {incident.id}</p>",
        f"<p>{escape(incident.summary)}</p><p><code>{escape(incident.when)}</code></p>",
    ]
    parts += [f"<h2>{escape(m.what)}</h2>{_chart(m, incident.time_ns)}" for m in incident.metrics]
    if incident.before:
        about = incident.before_note or "share of the CPU time now, and in the hour before"
        parts += ["<h2>CPU time around the trigger</h2>", _note(about), _functions(incident.before)]
    parts += _pictures(files, {"before": "CPU time around the trigger"})
    if incident.capture is not None:
        parts += _capture(incident.capture)
        parts += _pictures(files, {name: name for name in incident.capture.profiles})
    if incident.events:
        rows = ((e.time, e.probe, e.title) for e in incident.events)
        parts += [f"<h2>Events ({incident.events_total})</h2>", _table(("", "", ""), rows)]
    if saved := [name for name in files if name.endswith(".pb.gz")]:
        parts.append("<h2>Profiles</h2>" + " ".join(_save(name, files[name]) for name in saved))
    return "\n".join(parts).encode()


def _save(name: str, data: bytes) -> str:
    coded = base64.b64encode(data).decode()
    return (f'<a download="{escape(name)}" href="data:application/octet-stream;base64,{coded}">'
            f"{escape(name)}</a>")  # fmt: skip


def _pictures(files: Mapping[str, bytes], titles: Mapping[str, str]) -> list[str]:
    """Made by us, names of functions in them escaped."""
    return [f"<h2>Flame graph: {escape(title)}</h2>{files[f'{name}.svg'].decode()}"
            for name, title in titles.items() if files.get(f"{name}.svg")]  # fmt: skip


def _capture(capture: Capture) -> list[str]:
    parts = [
        f"<h2>Capture {escape(capture.plan)}: {escape(capture.status)}</h2>",
        _note(" · ".join(filter(None, [capture.reason, *capture.notes]))),
    ]
    for name, table in capture.profiles.items():
        parts += [f"<h2>{escape(name)}</h2>", _functions(table)]
    if capture.tasks:
        rows = ((str(t.pid), t.comm, " ← ".join(t.stack)) for t in capture.tasks)
        parts += ["<h2>Tasks in uninterruptible sleep</h2>", _table(("pid", "", ""), rows)]
    return parts


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>' if text else ""


def _functions(found: Iterable[FunctionShare]) -> str:
    rows = (
        (percent(f.own_ratio), percent(f.base_ratio), percent(f.total_ratio), f.mapping, f.function)
        for f in found
    )
    return _table(("self", "before", "total", "in", "function"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><tr>{names}</tr>{lines}</table>"


def _chart(metric: EvidenceMetric, fired_ns: int) -> str:
    """The line, the band of what was usual, red dots beyond it, and when the trigger fired."""
    known = [(t, v) for t, v in zip(metric.times_ns, metric.values, strict=True) if v is not None]
    if len(known) < 2:
        return _note("no values")
    first, last = known[0][0], max(known[-1][0], fired_ns)
    top = max([v for _, v in known] + [metric.high or 0.0])
    bottom = min([v for _, v in known] + [metric.low if metric.low is not None else math.inf])
    spread = (top - bottom) or 1.0

    def place(time_ns: int, value: float) -> tuple[float, float]:
        x = (time_ns - first) / max(last - first, 1) * _WIDTH
        return x, _HEIGHT - 4 - (value - bottom) / spread * (_HEIGHT - 8)

    line = " ".join("{:.1f},{:.1f}".format(*place(t, v)) for t, v in known)
    band = ""
    if metric.low is not None and metric.high is not None:
        y_high, y_low = place(first, metric.high)[1], place(first, metric.low)[1]
        band = (f'<rect x="0" y="{y_high:.1f}" width="{_WIDTH}" height="{y_low - y_high:.1f}"'
                ' fill="#dbe9db"/>')  # fmt: skip
    dots = "".join(
        '<circle cx="{:.1f}" cy="{:.1f}" r="2.5" fill="#c33"/>'.format(*place(t, v))
        for t, v, odd in zip(metric.times_ns, metric.values, metric.marked, strict=True)
        if odd and v is not None
    )
    x = place(fired_ns, bottom)[0]
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}">{band}<polyline points="{line}"'
        f' fill="none" stroke="#2a5d8f"/>{dots}<line x1="{x:.1f}" x2="{x:.1f}" y1="0"'
        f' y2="{_HEIGHT}" stroke="#c33" stroke-dasharray="4 3"/></svg>'
        + _note(f"{_shown(bottom, metric.unit)} to {_shown(top, metric.unit)}")
    )


def _shown(value: float, unit: str) -> str:
    return percent(value) if unit == "%" else f"{value:.4g} {unit}".strip()
