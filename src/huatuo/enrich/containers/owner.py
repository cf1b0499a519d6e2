"""Whoever owns cgroups: one object for all of them, so that it is described once."""

from __future__ import annotations

from huatuo.enrich.containers.base import Mark
from huatuo.model.event import Container

__all__ = ["Owner"]


class Owner:
    """`home` is the hierarchy that knows its life; `mark` is None for what is no container.
    `outer`: cgroup path of the container that it runs in. `gone_ns` is 0 while it lives."""

    __slots__ = ("container", "gone_ns", "home", "mark", "outer")

    def __init__(self, home: object, container: Container, mark: Mark | None) -> None:
        self.home, self.container, self.mark = home, container, mark
        self.outer = ""
        self.gone_ns = 0

    @property
    def path(self) -> str:
        return self.container.cgroup

    def is_same(self, other: Owner) -> bool:
        return self.mark == other.mark and self.container.kind == other.container.kind
