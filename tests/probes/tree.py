"""Readers on small trees of files below tests/fixtures, and what every reader owes to garbage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

from huatuo.kernel import procfs
from huatuo.kernel.cgroupfs import Cgroup
from huatuo.kernel.host import Host
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.probes.reader import Reader

__all__ = ["APP", "FREE", "GONE", "host", "mangled", "reader", "samples", "survives"]

FIXTURES = Path(__file__).parents[1] / "fixtures"
APP = Cgroup(7, "/app")  # what the trees of cgroup readers hold
FREE = Cgroup(8, "/app/free")  # one without limits
GONE = Cgroup(9, "/gone")
TARGETS = (Cgroup(1, "/"), APP, FREE, GONE)


def host(tree: str) -> Host:
    root = FIXTURES / tree
    return Host(
        proc=root / "proc", sys=root / "sys", root=root, ticks_per_second=100, page_size=4096
    )


def reader(
    cls: type[Reader],
    tree: str,
    targets: Sequence[Cgroup] = TARGETS,
    settings: Mapping[str, int] | None = None,
) -> Reader:
    """A reader of that tree that reports these cgroups."""
    probe = cls(host(tree), settings)
    probe.targets = lambda: targets
    return probe


def samples(probe: Reader) -> dict[str, dict[tuple[object, ...], float]]:
    """Family's name without its prefix → label values → value. Names must follow convention 1."""
    found: dict[str, dict[tuple[object, ...], float]] = {}
    prefix = "huatuo_" + type(probe).__module__.removeprefix("huatuo.probes.").replace(".", "_")
    for metric in probe.collect():
        check(metric, prefix)
        name = metric.name.removeprefix(prefix + "_")
        assert name not in found, f"{name} comes twice"
        keys = zip(*(list(column.values) for column in metric.labels.values()), strict=True)
        rows: list[tuple[object, ...]] = list(keys) if metric.labels else [()]
        found[name] = {
            key: float(v) for key, v in zip(rows, metric.values.astype(float), strict=True)
        }
    return found


def check(metric: Metric, prefix: str) -> None:
    assert metric.name.startswith(prefix + "_")
    assert metric.name.endswith("_total") == (metric.kind is Role.COUNTER)
    assert metric.help
    assert len(metric) > 0
    values = metric.values.astype(float)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    for label, column in metric.labels.items():
        assert len(column.values) == len(metric)
        if label == "container":
            assert column.meaning.name == "cgroup_id_t"


_WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["-1", "nan", "inf", "max", "9" * 30, "9" * 5000, "\n", ":", "=", "1e400"]),
)


@st.composite
def mangled(draw: st.DrawFn) -> tuple[float, float, str, bool]:
    """How to spoil a file: replace a stretch (two ratios of its length) or all of it."""
    return (
        draw(st.floats(0, 1)),
        draw(st.floats(0, 0.3)),
        draw(_WORDS),
        draw(st.booleans()),
    )


def survives(
    cls: type[Reader], tree: str, how: tuple[float, float, str, bool], only: str = ""
) -> int:
    """Collect with every file (or those named `only`) spoilt; how many errors were counted.

    Raises what escapes, and AssertionError if a sample is not finite or negative.
    """
    start, length, words, everything = how
    read = procfs.read

    def spoilt(path: str) -> str:
        text = read(path)
        if only and not path.endswith(only):
            return text
        if everything:
            return words
        first = int(start * len(text))
        return text[:first] + words + text[first + int(length * len(text)) :]

    probe = reader(cls, tree)
    kept = patch.object(procfs.Files, "read", lambda _, path: spoilt(path))
    with kept, patch.object(procfs, "read", spoilt):
        samples(probe)
    return probe.collect_errors
