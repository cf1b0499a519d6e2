"""Profiles: which there are, flame graphs, heatmaps, and files out and in."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from huatuo.errors import HuatuoError
from huatuo.export import folded, pprof
from huatuo.export.compression import TooLarge, expanded, is_gzip
from huatuo.export.flamegraph import flame_tree
from huatuo.export.foreign import Imported
from huatuo.export.formats import FORMATS
from huatuo.model.profile import PROFILE_TYPES, Profile
from huatuo.serve.answers import (
    Audit,
    Flame,
    FlameNodes,
    Heatmap,
    ImportedProfiles,
    ProfileLabels,
    ProfileTypeRow,
    ProfileTypes,
)
from huatuo.serve.audit import audit, own_audit
from huatuo.serve.endpoint import END, START, Context, Endpoint, File
from huatuo.serve.params import Param
from huatuo.serve.refusal import Refusal, bad_parameter
from huatuo.serve.selector import EXAMPLE, SelectorError, parse_selector
from huatuo.store.profiles import Matcher, ProfileQuery

__all__ = ["ENDPOINTS", "flame_answer"]

_LONGEST_NS = 400 * 86_400 * 1_000_000_000
_MOST_STEPS, _USUAL_STEPS = 20_000, 240
_STEPS_MS = (100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
             600_000, 1_800_000, 3_600_000, 21_600_000, 86_400_000)  # fmt: skip


def _period(context: Context) -> tuple[int, int]:
    start_ns, end_ns = context.query.period_ns()
    _check_length("start", context.query.text("start"), end_ns - start_ns)
    return start_ns, end_ns


def _check_length(name: str, value: str, length_ns: int) -> None:
    if length_ns > _LONGEST_NS:
        raise bad_parameter(name, value, "a range of at most 400 days is read", "-1h")


def _matchers(context: Context, name: str = "q") -> tuple[Matcher, ...]:
    text = context.query.text(name)
    try:
        return parse_selector(text)
    except SelectorError as error:
        raise bad_parameter(name, text, str(error), EXAMPLE) from None


def _query(context: Context) -> ProfileQuery:
    start_ns, end_ns = _period(context)
    return ProfileQuery(context.query.choice("type"), start_ns, end_ns, _matchers(context))


def _types(context: Context) -> ProfileTypes:
    found = context.store.profiles.types(*_period(context))
    known = [kind for name, kind in PROFILE_TYPES.items() if name in found]
    return ProfileTypes([ProfileTypeRow(t.name, t.title, t.unit, t.is_gauge) for t in known])


def _labels(context: Context) -> ProfileLabels:
    return ProfileLabels(context.store.profiles.labels(_query(context)))


# -- flame graphs ----------------------------------------------------------------------------------


def _flame(context: Context) -> Flame:
    query, store = context.query, context.store.profiles
    wanted = _query(context)
    profiles, base = [store.merge(wanted)], None
    if any(query.has(name) for name in ("base_start", "base_end", "base_q")):
        base = _base(context, wanted)
        profiles.append(store.merge(base))
    judged = audit(context.store, wanted, profiles[0], base)
    return flame_answer(profiles, query.integer("max_nodes"), judged)


def _base(context: Context, wanted: ProfileQuery) -> ProfileQuery:
    """What to compare with; what is not given is as in the profile itself."""
    query = context.query
    start_ns = query.time_ns("base_start") if query.has("base_start") else wanted.start_ns
    end_ns = query.time_ns("base_end") if query.has("base_end") else wanted.end_ns
    if start_ns >= end_ns:
        value = query.text("base_start")
        raise bad_parameter("base_start", value, "must be before base_end", "-2h")
    _check_length("base_start", query.text("base_start"), end_ns - start_ns)
    matchers = _matchers(context, "base_q") if query.has("base_q") else wanted.matchers
    return ProfileQuery(wanted.type, start_ns, end_ns, matchers)


def flame_answer(profiles: Sequence[Profile], max_nodes: int, judged: Audit | None = None) -> Flame:
    """The first profile, compared with the second if there is one."""
    profile = profiles[0]
    tree = flame_tree(profiles, max_nodes)
    used, function = np.unique(tree.function, return_inverse=True)
    functions = [tree.functions[number] for number in used.tolist()]
    (names, name), (kinds, kind), (mappings, mapping) = (
        _numbered(list(map(str, texts)), function) for texts in zip(*functions, strict=True)
    )
    places, source = np.unique(tree.source, return_inverse=True)
    found = [tree.sources[number] for number in places.tolist()]
    files, file = _numbered([file for file, _ in found], source)
    line = np.array([line for _, line in found], np.int64)[source].tolist()
    own, total = tree.self_values.T.tolist(), tree.totals.T.tolist()
    base = [own[1], total[1]] if len(profiles) > 1 else [[], []]
    return Flame(
        type=profile.type.name,
        title=profile.type.title,
        unit=profile.type.unit,
        total=profile.total,
        base_total=profiles[1].total if len(profiles) > 1 else None,
        samples=profile.samples,
        names=names,
        kinds=kinds,
        mappings=mappings,
        files=files,
        nodes=FlameNodes(
            tree.parent.tolist(), name, kind, mapping, file, line, own[0], total[0], *base
        ),
        dropped=tree.dropped,
        audit=judged or own_audit(profile),
    )


def _numbered(texts: Sequence[str], which: npt.NDArray[np.intp]) -> tuple[list[str], list[int]]:
    """(distinct texts, the number of texts[which[i]] for each i)."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    numbers = np.array([distinct[text] for text in texts], np.int32)
    return list(distinct), numbers[which].tolist()


# -- heatmaps --------------------------------------------------------------------------------------


def _heatmap(context: Context) -> Heatmap:
    query = _query(context)
    length_ns = query.end_ns - query.start_ns
    step_ns = context.query.duration_ns("step") or _usual_step(length_ns)
    if length_ns // step_ns >= _MOST_STEPS:
        step = context.query.text("step")
        raise bad_parameter("step", step, f"more than {_MOST_STEPS} steps", "1m")
    kind = PROFILE_TYPES[query.type]
    spread = kind.unit == "nanoseconds"
    found = context.store.profiles.series(query, step_ns, spread=spread)
    empty = [0] * (length_ns // step_ns + 1)
    values = found[0].values.tolist() if found else empty
    return Heatmap(query.type, kind.unit, query.start_ns, step_ns, values)


def _usual_step(length_ns: int) -> int:
    """The shortest round one that makes no more than the usual number of steps."""
    least_ms = length_ns / _USUAL_STEPS / 1e6
    return next((step for step in _STEPS_MS if step >= least_ms), _STEPS_MS[-1]) * 1_000_000


# -- files -----------------------------------------------------------------------------------------


def _export(context: Context) -> File:
    query = _query(context)
    form = FORMATS[context.query.choice("format")]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(query.start_ns // 1_000_000_000))
    data = form.write(context.store.profiles.merge(query))
    return File(f"huatuo-{query.type}-{stamp}{form.suffix}", form.media_type, data)


def _import(context: Context) -> ImportedProfiles:
    store = context.store.profiles
    try:
        found = _read(context)
    except TooLarge as error:
        raise Refusal(413, "too_large", f"the profile is {error}", "send a smaller one") from None
    except Refusal:
        raise
    except HuatuoError as error:
        hint = "pprof's profile.proto, gzip'd or not, or lines of `main;work 42`"
        raise Refusal(400, "bad_profile", f"the profile cannot be read: {error}", hint) from None
    if found.ignored and not found.samples:
        what = f"none of the sample types is known: {', '.join(found.ignored)}"
        known = ", ".join(sorted({kind.sample for kind in PROFILE_TYPES.values()}))
        raise Refusal(400, "nothing_known", what, f"known are {known}")
    for samples in found.samples:
        store.append(samples)
    taken = {samples.type: len(samples) for samples in found.samples}
    return ImportedProfiles(taken, found.ignored)


def _read(context: Context) -> Imported:
    query = context.query
    form, data = query.choice("format"), context.body
    time_ns, labels = query.time_ns("time"), query.prefixed("label")
    if is_gzip(data):
        data = expanded(data, pprof.LARGEST)
    if form == "auto":  # a message begins with the tag of its first field
        form = "pprof" if data[:1] == b"\x0a" else "folded"
    if form == "pprof":
        return pprof.read(data, labels, now_ns=time_ns)
    return folded.read(data, query.choice("type"), labels, time_ns)


_TYPE = Param("type", "which profile", "choice", "cpu", "cpu", tuple(PROFILE_TYPES))
_Q = Param("q", "only samples with these labels, as in Prometheus", example=EXAMPLE)
_MAX_NODES = Param(
    "max_nodes", "so many of the largest functions in their context, the rest as (other)",
    "integer", "10000", "2000", minimum=1, maximum=1_000_000,
)  # fmt: skip
_BASE = (
    Param("base_start", "compare with a time range that begins here", "time", "", "-2h"),
    Param("base_end", "end of the range to compare with", "time", "", "-1h"),
    Param("base_q", "labels of what to compare with; as q if it is not given", example=EXAMPLE),
)
_STEP = Param(
    "step", "seconds of a step, or with a unit; about 240 steps if not given", "duration", "", "10s"
)
_EXPORT = Param("format", "which file", "choice", "pprof", "folded", tuple(FORMATS))
_IMPORT = (
    Param("format", "how the body is written", "choice", "auto", "pprof",
          ("auto", "pprof", "folded")),
    Param("type", "what folded stacks are", "choice", "cpu", "cpu", tuple(PROFILE_TYPES)),
    Param("time", "when it was measured, if the body does not say", "time", "now", "-1h"),
    Param("label.*", "a label for all samples", example="web"),
)  # fmt: skip

ENDPOINTS = [
    Endpoint("/profiles", "Which types of profiles there are", ProfileTypes, _types, (START, END)),
    Endpoint(
        "/profiles/labels",
        "The labels of a type's samples, and their values",
        ProfileLabels,
        _labels,
        (_TYPE, START, END, _Q),
    ),
    Endpoint(
        "/profiles/flame",
        "All samples as one tree by function, or two trees to compare",
        Flame,
        _flame,
        (_TYPE, START, END, _Q, _MAX_NODES, *_BASE),
    ),
    Endpoint(
        "/profiles/heatmap",
        "How much was measured over time",
        Heatmap,
        _heatmap,
        (_TYPE, START, END, _Q, _STEP),
    ),
    Endpoint(
        "/profiles/export",
        "A profile as a file for other tools",
        File,
        _export,
        (_TYPE, START, END, _Q, _EXPORT),
    ),
    Endpoint(
        "/profiles/import",
        "Take in a profile that was measured elsewhere: pprof or folded stacks",
        ImportedProfiles,
        _import,
        _IMPORT,
        method="POST",
    ),
]
