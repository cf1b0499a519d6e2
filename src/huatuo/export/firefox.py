"""The Firefox Profiler's processed format (profiler.firefox.com), in version 54.

The front end upgrades older versions, so this one stays readable; it is the last in which a thread
holds all its tables. A merged profile has no time of its own: samples stand one after the other
over the window, each as wide as its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from huatuo.export.flamegraph import frames, place
from huatuo.model.profile import FrameKind, Location, Profile

__all__ = ["firefox"]

_VERSION, _GECKO_VERSION = 54, 31
_LIBRARY, _UNKNOWN = 1, 0  # types of resources
_CATEGORIES = {
    FrameKind.NATIVE: ("Native", "blue"),
    FrameKind.KERNEL: ("Kernel", "orange"),
    FrameKind.RUNTIME: ("Runtime", "green"),
    FrameKind.JIT: ("JIT", "yellow"),
}
_OTHER = ("Other", "grey")  # the grey one is the default and must be there
_SAFE = 2**53  # JavaScript's whole numbers
_WEIGHTS = {"nanoseconds": "tracing-ms", "bytes": "bytes"}

Table = dict[str, Any]


def firefox(profile: Profile) -> bytes:
    """One thread with all stacks; weights in ms, bytes or counts."""
    builder = _Builder()
    starts = builder.add(profile.locations)
    shown = frames(profile)
    frame = np.array(starts or [0])[shown.location] + np.maximum(shown.line, 0)
    prefix = [above - 1 if above else None for above in shown.parent[1:].tolist()]
    stack_table = {"frame": frame[1:].tolist(), "prefix": prefix, "length": len(prefix)}
    document = {
        "meta": _meta(profile),
        "libs": builder.libs,
        "pages": [],
        "threads": [_thread(profile, builder, stack_table, _samples(profile, shown.self_values))],
    }
    return msgspec.json.encode(document)


def _meta(profile: Profile) -> Table:
    categories = [*_CATEGORIES.values(), _OTHER]
    return {
        "version": _GECKO_VERSION,
        "preprocessedProfileVersion": _VERSION,
        "product": "HUATUO",
        "importedFrom": "HUATUO",
        "interval": 1.0,
        "startTime": profile.start_ns / 1e6,
        "processType": 0,
        "stackwalk": 1,
        "debug": False,
        "platform": "Linux",
        "symbolicated": True,
        "usesOnlyOneStackType": True,
        "sourceCodeIsNotOnSearchfox": True,
        "markerSchema": [],
        "categories": [
            {"name": name, "color": color, "subcategories": ["Other"]} for name, color in categories
        ],
    }


def _samples(profile: Profile, self_values: Any) -> Table:
    nodes = np.flatnonzero(self_values)
    values = self_values[nodes]
    weight_type = _WEIGHTS.get(profile.type.unit, "samples")
    window_ms = max(profile.end_ns - profile.start_ns, 0) / 1e6
    before = np.cumsum(values) - values
    time = before / max(float(values.sum()), 1.0) * window_ms
    weight = values / 1e6 if weight_type == "tracing-ms" else values
    return {
        "stack": [node - 1 if node else None for node in nodes.tolist()],
        "time": time.tolist(),
        "weight": weight.tolist(),
        "weightType": weight_type,
        "length": len(nodes),
    }


def _thread(profile: Profile, builder: _Builder, stack_table: Table, samples: Table) -> Table:
    empty = ("data", "name", "startTime", "endTime", "phase", "category")
    symbols = ("libIndex", "address", "name", "functionSize")
    return {
        "processType": "default",
        "processStartupTime": 0,
        "processShutdownTime": None,
        "registerTime": 0,
        "unregisterTime": None,
        "pausedRanges": [],
        "name": profile.type.title,
        "processName": "HUATUO",
        "isMainThread": True,
        "pid": "0",
        "tid": 0,
        "samples": samples,
        "markers": {name: [] for name in empty} | {"length": 0},
        "stackTable": stack_table,
        "frameTable": builder.frame_table(),
        "funcTable": builder.func_table(),
        "resourceTable": builder.resource_table(),
        "nativeSymbols": {name: [] for name in symbols} | {"length": 0},
        "stringArray": list(builder.texts),
    }


class _Builder:
    """Frames, functions, files and texts, each once."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.libs: list[Table] = []
        self.resources: dict[tuple[FrameKind, str, str], int] = {}
        self.resource_libs: list[int | None] = []
        self.functions: dict[tuple[int, int, int | None], int] = {}  # name, resource, file
        self.frames: list[tuple[int, int, int, int, int | None]] = []

    def text(self, value: str) -> int:
        return self.texts.setdefault(value, len(self.texts))

    def add(self, locations: Sequence[Location]) -> list[int]:
        """The number of each location's first frame; outermost frames have inline depth 0."""
        categories = {kind: number for number, kind in enumerate(_CATEGORIES)}
        starts = []
        for location in locations:
            starts.append(len(self.frames))
            resource = self.resource(location)
            known = self.resource_libs[resource] is not None and location.address < _SAFE
            lines = location.lines or ((place(location), "", 0),)
            for number, (name, file, line) in enumerate(lines):
                key = (self.text(name), resource, self.text(file) if file else None)
                function = self.functions.setdefault(key, len(self.functions))
                depth = len(lines) - 1 - number
                address = location.address if known else -1
                category = categories[location.kind]
                self.frames.append((address, depth, category, function, line or None))
        return starts

    def resource(self, location: Location) -> int:
        kind, name, build_id = location.kind, location.mapping, location.build_id
        key = (kind, name, build_id)
        if key not in self.resources:
            self.resources[key] = len(self.resources)
            is_file = bool(name) and not name.startswith("[") and kind is not FrameKind.KERNEL
            self.resource_libs.append(len(self.libs) if is_file else None)
            self.text(name)
            if is_file:
                self.libs.append(_lib(name, build_id))
        return self.resources[key]

    def frame_table(self) -> Table:
        count = len(self.frames)
        columns = list(zip(*self.frames, strict=True)) or [()] * 5
        nothing = [None] * count
        return {
            "address": columns[0],
            "inlineDepth": columns[1],
            "category": columns[2],
            "subcategory": [0] * count,
            "func": columns[3],
            "nativeSymbol": nothing,
            "innerWindowID": nothing,
            "line": columns[4],
            "column": nothing,
            "length": count,
        }

    def func_table(self) -> Table:
        count = len(self.functions)
        nothing = [None] * count
        return {
            "name": [name for name, _, _ in self.functions],
            "isJS": [False] * count,
            "relevantForJS": [False] * count,
            "resource": [resource for _, resource, _ in self.functions],
            "fileName": [file for _, _, file in self.functions],
            "lineNumber": nothing,
            "columnNumber": nothing,
            "length": count,
        }

    def resource_table(self) -> Table:
        libs = self.resource_libs
        return {
            "lib": libs,
            "name": [self.text(name) for _, name, _ in self.resources],
            "host": [None] * len(libs),
            "type": [_UNKNOWN if lib is None else _LIBRARY for lib in libs],
            "length": len(libs),
        }


def _lib(name: str, build_id: str) -> Table:
    return {
        "arch": "",
        "name": name,
        "path": name,
        "debugName": name,
        "debugPath": name,
        "breakpadId": _breakpad_id(build_id),
        "codeId": build_id or None,
    }


def _breakpad_id(build_id: str) -> str:
    """The first 16 bytes as a GUID, whose first three parts are little-endian, and an age of 0."""
    try:
        raw = bytes.fromhex(build_id)[:16].ljust(16, b"\0")
    except ValueError:
        raw = bytes(16)
    parts = (raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:])
    return b"".join(parts).hex().upper() + "0"
