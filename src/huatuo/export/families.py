"""What all renderers share: samples gathered by family, and strings kept between scrapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

import numpy as np

from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

__all__ = ["Family", "Kept", "Labels", "Rendering", "families"]

log = logging.getLogger(__name__)

Labels = tuple[tuple[str, tuple[str, ...]], ...]  # name and values of each label column
T = TypeVar("T")
Held = dict[tuple[str, int], tuple[Labels, int, int, T]]  # by family and part


@dataclass(slots=True)
class Family:
    """One name; several probes may add to it, under different labels."""

    name: str
    kind: Role
    help: str
    parts: list[tuple[Metric, Labels]] = field(default_factory=list)


def families(metrics: Iterable[Metric]) -> list[Family]:
    """In order of appearance, those without samples left out."""
    found: dict[str, Family] = {}
    for metric in metrics:
        if not len(metric):
            continue
        family = found.get(metric.name)
        if family is None:
            family = found[metric.name] = Family(metric.name, metric.kind, metric.help)
        if family.kind is not metric.kind:  # both under one name would make the scrape invalid
            _conflict(metric.name, family.kind, metric.kind)
            continue
        family.parts.append((metric, _labels(metric)))
    return list(found.values())


@cache
def _conflict(name: str, kept: Role, dropped: Role) -> None:
    log.warning("metric %s is both %s and %s; only the former is exported", name, kept, dropped)


def _labels(metric: Metric) -> Labels:
    """As Kubernetes names things: beside the label `pod`, `container` is its name in the pod."""
    found = {name: _strings(column) for name, column in metric.labels.items()}
    if "pod" in found and "container" in found:
        pairs = zip(found["container"], found["pod"], strict=True)
        found["container"] = tuple(name.rpartition("/")[2] if pod else name for name, pod in pairs)
    return tuple(found.items())


def _strings(column: Column) -> tuple[str, ...]:
    values = column.values
    if isinstance(values, np.ndarray):
        return tuple(map(str, values.tolist()))
    return tuple(values)


class Kept(Generic[T]):
    """What is built from names and labels, built again only when the labels have changed.

    Only the families of the last rendering are kept. Renderings in several threads at once get
    right results; at worst something is built twice.
    """

    def __init__(self, build: Callable[[str, Labels, int, int], T]) -> None:
        self.build = build
        self.held: Held[T] = {}

    def rendering(self) -> Rendering[T]:
        return Rendering(self)


class Rendering(Generic[T]):
    """One pass over all families."""

    def __init__(self, kept: Kept[T]) -> None:
        self._kept = kept
        self._before = kept.held
        self._now: Held[T] = {}

    def get(self, name: str, part: int, labels: Labels, metric: Metric) -> T:
        width = metric.values.shape[1] if metric.values.ndim == 2 else 0
        held = self._before.get((name, part))
        if held is None or held[:3] != (labels, len(metric), width):
            held = (labels, len(metric), width, self._kept.build(name, labels, len(metric), width))
        self._now[name, part] = held
        return held[3]

    def done(self) -> None:
        self._kept.held = self._now
