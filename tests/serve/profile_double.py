"""The endpoints of profiles as docs/decisions/0007-profiling.md has them, over a ProfileStore.

A double for the UI: `add_profiles(app, store)` appends its routes, so that the real ones, which
come first, take over wherever they exist.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from huatuo.model.profile import PROFILE_TYPES, Location, Profile, StackStatus
from huatuo.serve.endpoint import END, START, Context, Endpoint, endpoint_handler
from huatuo.serve.openapi import BASE
from huatuo.serve.params import Param, Query
from huatuo.serve.refusal import bad_parameter
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileStore

__all__ = ["add_profiles"]

_MATCHER = re.compile(r'\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(,|$)')
_TYPE = Param("type", "which", "choice", "cpu", choices=tuple(PROFILE_TYPES))
_Q = Param("q", "selector", example='{container="web"}')
_MAX_NODES = Param("max_nodes", "the largest", "integer", "20000", minimum=1, maximum=1_000_000)
_STEP = Param("step", "seconds", default="1")
_BASE = (Param("base_start", "", "time"), Param("base_end", "", "time"), Param("base_q", ""))
_FORMATS = ("pprof", "folded", "speedscope", "firefox", "otlp")
_FORMAT = Param("format", "", "choice", "pprof", choices=_FORMATS)


def add_profiles(app: Starlette, store: ProfileStore) -> None:
    merged = lru_cache(16)(store.merge)
    one = (_TYPE, START, END, _Q)
    endpoints = [
        Endpoint("/profiles", "", dict, partial(_types, store), (START, END)),
        Endpoint("/profiles/labels", "", dict, partial(_labels, store), one),
        Endpoint("/profiles/flame", "", dict, partial(_flame, merged), (*one, *_BASE, _MAX_NODES)),
        Endpoint("/profiles/heatmap", "", dict, partial(_heatmap, store), (*one, _STEP)),
    ]
    for endpoint in endpoints:
        app.router.routes.append(Route(BASE + endpoint.path, endpoint_handler(endpoint)))
    app.router.routes.append(Route(BASE + "/profiles/export", partial(_export, merged)))


def _matchers(text: str) -> Iterator[Matcher]:
    inside = text.strip().removeprefix("{").removesuffix("}").strip()
    at = 0
    while at < len(inside):
        found = _MATCHER.match(inside, at)
        if not found:
            raise bad_parameter("q", text, "not a selector", '{container="web"}')
        name, op, value, _ = found.groups()
        yield Matcher(name, op, re.sub(r"\\(.)", r"\1", value))
        at = found.end()


def _query(query: Query) -> ProfileQuery:
    return ProfileQuery(query.choice("type"), *query.period_ns(), tuple(_matchers(query.text("q"))))


def _types(store: ProfileStore, context: Context) -> dict[str, Any]:
    types = [PROFILE_TYPES[name] for name in store.types(*context.query.period_ns())]
    shown = ("name", "title", "unit", "is_gauge")
    return {"types": [{name: getattr(one, name) for name in shown} for one in types]}


def _labels(store: ProfileStore, context: Context) -> dict[str, Any]:
    return {"labels": store.labels(_query(context.query))}


def _heatmap(store: ProfileStore, context: Context) -> dict[str, Any]:
    query = _query(context.query)
    step_ns = round(float(context.query.text("step")) * 1e9)
    series = store.series(query, step_ns)
    values = series[0].values.tolist() if series else []
    return {"start_ns": query.start_ns, "step_ns": step_ns, "values": values}


def _flame(merged: Callable[[ProfileQuery], Profile], context: Context) -> dict[str, Any]:
    query = context.query
    profile = merged(_query(query))
    base = None
    if query.has("base_start") or query.has("base_q"):
        start, end = query.period_ns()
        if query.has("base_start"):
            start, end = query.time_ns("base_start"), query.time_ns("base_end")
        text = query.text("base_q") if query.has("base_q") else query.text("q")
        base = merged(ProfileQuery(query.choice("type"), start, end, tuple(_matchers(text))))
    return _Functions(profile, base).answer(query.integer("max_nodes"))


async def _export(merged: Callable[[ProfileQuery], Profile], request: Request) -> Response:
    """Folded stacks, whatever the format: the UI merely links here."""
    params = (_TYPE, START, END, _Q, _FORMAT)
    query = Query(params, request.query_params.multi_items(), time.time_ns())
    functions = _Functions(merged(_query(query)), None)
    texts, paths = list(functions.names), [""]
    for parent, name, *_ in functions.rows[1:]:
        paths.append(f"{paths[parent]};{texts[name]}" if parent else texts[name])
    values = zip(paths, functions.values, strict=True)
    lines = [f"{path} {value}" for path, (value, _) in values if value]
    name = f"profile.{query.choice('format')}.txt"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return PlainTextResponse("\n".join(lines), headers=headers)


def _functions_of(location: Location) -> Iterator[tuple[str, str, int]]:
    """Outermost first, inlined ones last: name, file, line."""
    if not location.lines:
        yield f"{location.mapping}+{location.address:#x}", "", 0
    yield from reversed(location.lines)


class _Functions:
    """Two profiles as one tree of functions."""

    def __init__(self, profile: Profile, base: Profile | None) -> None:
        self.profile, self.base = profile, base
        self.names, self.kinds, self.mappings, self.files = (dict[str, int]() for _ in range(4))
        self.names["all"] = self.kinds[""] = self.mappings[""] = self.files[""] = 0
        self.rows = [[-1, 0, 0, 0, 0, 0]]  # parent, name, kind, mapping, file, line
        self.values: list[list[int]] = [[0, 0]]
        self._known: dict[tuple[int, ...], int] = {}
        for side, one in enumerate(filter(None, (profile, base))):
            self._merge(one, side)

    def _merge(self, profile: Profile, side: int) -> None:
        places = [0] * len(profile.parent)
        columns = (profile.parent.tolist(), profile.location.tolist(), profile.self_values.tolist())
        for node, (parent, number, value) in enumerate(zip(*columns, strict=True)):
            if node:
                places[node] = self._descend(places[parent], profile.locations[number])
            self.values[places[node]][side] += value

    def _descend(self, at: int, location: Location) -> int:
        kind = self.kinds.setdefault(location.kind.value, len(self.kinds))
        mapping = self.mappings.setdefault(location.mapping, len(self.mappings))
        for function, file, line in _functions_of(location):
            name = self.names.setdefault(function, len(self.names))
            key = (at, name, kind, mapping)
            found = self._known.setdefault(key, len(self.rows))
            if found == len(self.rows):
                self.rows.append([*key, self.files.setdefault(file, len(self.files)), line])
                self.values.append([0, 0])
            at = found
        return at

    def _ordered(self, totals: list[list[int]], most: int) -> list[int]:
        """The largest nodes, depth first, siblings by name."""
        largest = sorted(range(1, len(totals)), key=lambda node: -max(totals[node]))[: most - 1]
        children: dict[int, list[int]] = {}
        texts = list(self.names)
        for node in sorted(largest, key=lambda node: texts[self.rows[node][1]], reverse=True):
            children.setdefault(self.rows[node][0], []).append(node)
        order, waiting = [], [0]
        while waiting:
            order.append(waiting.pop())
            waiting.extend(children.get(order[-1], ()))
        return order

    def answer(self, most: int) -> dict[str, Any]:
        totals = [list(pair) for pair in self.values]
        for node in range(len(totals) - 1, 0, -1):
            for side in (0, 1):
                totals[self.rows[node][0]][side] += totals[node][side]
        order = self._ordered(totals, most)
        place = {node: i for i, node in enumerate(order)}
        nodes: dict[str, list[int]] = {"parent": [place.get(self.rows[n][0], -1) for n in order]}
        for i, name in enumerate(("name", "kind", "mapping", "file", "line"), 1):
            nodes[name] = [self.rows[node][i] for node in order]
        for side, prefix in enumerate(("", "base_") if self.base else ("",)):
            nodes[prefix + "self"] = [self.values[node][side] for node in order]
            nodes[prefix + "total"] = [totals[node][side] for node in order]
        texts = {"names": self.names, "kinds": self.kinds, "mappings": self.mappings}
        kind, (total, base_total) = self.profile.type, totals[0]
        return {
            "type": kind.name, "title": kind.title, "unit": kind.unit,
            "total": total, **({"base_total": base_total} if self.base else {}),
            "samples": self.profile.samples, "dropped": len(totals) - len(order),
            "audit": _audit(self.profile), "nodes": nodes, "files": list(self.files),
            **{name: list(values) for name, values in texts.items()},
        }  # fmt: skip


def _audit(profile: Profile) -> dict[str, Any]:
    """Made up where the store cannot know: what the independent measure said, what was lost."""
    complete = profile.statuses.get(StackStatus.COMPLETE, 0) / max(1, profile.total)
    broken = {str(k): v for k, v in profile.statuses.items() if k is not StackStatus.COMPLETE}
    notes = []
    if profile.type.name == "blocked":
        notes.append("The profile adds up to 71 % of the time that tasks were blocked: threads "
                     "that blocked for less than 50 ms were not looked at.")  # fmt: skip
    accounted = {"cpu": 0.989, "blocked": 0.71}.get(profile.type.name)
    return {
        "complete_ratio": complete, "statuses": broken, "notes": notes,
        "accounted_ratio": accounted, "lost": 0,
    }  # fmt: skip
