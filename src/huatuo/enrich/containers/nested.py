"""Runtimes inside containers (kind, docker in docker): their state is in the container's own tree.

It is read through the root of a process of that container, and links in it lead nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from huatuo.enrich.containers.base import Runtime
from huatuo.enrich.containers.state import State
from huatuo.kernel.host import Host
from huatuo.kernel.procfs import read

__all__ = ["Nested"]

_MOST = 256  # containers with others inside
_CGROUPS = 64  # looked through for a process

Make = Callable[[State], Sequence[Runtime]]


class Nested:
    """`root` is the mount point of the hierarchy in which containers are known."""

    def __init__(self, host: Host, root: str, make: Make) -> None:
        self._host, self._root, self._make = host, root, make
        self._known: dict[str, Sequence[Runtime]] = {}  # cgroup path of the outer container

    def runtimes(self, outer: str) -> Sequence[Runtime]:
        """Those in the container at this cgroup path; none while nobody runs in it."""
        if outer not in self._known:
            pid = self._process(outer)
            if not pid or len(self._known) >= _MOST:
                return ()
            self._known[outer] = self._make(State(self._host.proc / pid / "root"))
        for runtime in self._known[outer]:
            runtime.declared()  # looks where it has tasks
        return self._known[outer]

    def forget(self, outer: str) -> None:
        self._known.pop(outer, None)

    def _process(self, outer: str) -> str:
        """Its oldest process: that of the container itself, not of one inside."""
        pending = [self._root + outer]
        for directory in pending:
            try:
                pids = read(f"{directory}/cgroup.procs").split()
                with os.scandir(directory) as entries:
                    below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            if pids:
                return pids[0]
            pending += below[: _CGROUPS - len(pending)]
        return ""
