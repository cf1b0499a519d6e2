"""What runtimes say of containers: asked when one comes, again until all is known, when a runtime
has news, and now and then.

A runtime may write its state after the cgroup exists, so one that is not known in full is asked
for again after growing pauses. What was known once stays: state goes before its container does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice

import msgspec

from huatuo.enrich.containers.base import NOTHING, Details, Mark, Runtime, merged
from huatuo.enrich.containers.limits import limits
from huatuo.enrich.containers.nested import Nested
from huatuo.enrich.containers.owner import Owner
from huatuo.kernel.host import Host
from huatuo.model.event import Container

__all__ = ["Describing", "described"]

_PAUSES_NS = [int(pause * 1e9) for pause in (0.1, 0.3, 1.0, 5.0, 20.0, 40.0)]
_LIMITED_NS = 100_000_000  # a runtime writes a container's limits after making its cgroup
_LIMITS = -1  # instead of an attempt
_AT_ONCE = 50  # containers that are looked at again at each interval
_GONE = 1024


class Describing:
    """`epoch` grows whenever a description changed."""

    def __init__(self, host: Host, runtimes: Sequence[Runtime], nested: Nested) -> None:
        self._host, self._runtimes, self._nested = host, runtimes, nested
        self._due: list[tuple[int, int, int, Owner]] = []  # (when ns, serial, attempt, whom)
        self._serial = count()
        self._living: dict[str, Owner] = {}  # by Mark.key, longest not looked at first
        self._gone: dict[str, Owner] = {}  # lately: runtimes may know more of them yet
        self.wanted: Callable[[], None] = lambda: None  # called when a container has come
        self.epoch = 0

    def begin(self, owner: Owner, now_ns: int) -> None:
        assert owner.mark is not None
        self._living[owner.mark.key] = owner
        self._later(owner, _LIMITS, now_ns + _LIMITED_NS)
        self._try(owner, 0, now_ns)
        self.wanted()

    def end(self, owner: Owner) -> None:
        assert owner.mark is not None
        if self._living.get(owner.mark.key) is owner:
            del self._living[owner.mark.key]
            self._gone[owner.mark.key] = owner
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
        self._nested.forget(owner.path)

    @property
    def next_ns(self) -> int:
        """When `retry` has something to do; 0 if never."""
        return self._due[0][0] if self._due else 0

    def retry(self, now_ns: int) -> None:
        """Ask again for those whose pause is over."""
        while self._due and self._due[0][0] <= now_ns:
            _, _, attempt, owner = heapq.heappop(self._due)
            if attempt == _LIMITS and not owner.gone_ns:
                self._read_limits(owner)
            elif not owner.gone_ns:
                self._try(owner, attempt, now_ns)

    def news(self, keys: Iterable[str]) -> None:
        """A runtime knows more, or something else, about the containers with these Mark.key."""
        for key in keys:
            owner = self._living.get(key) or self._gone.get(key)
            if owner is not None:
                self._describe(owner)

    def look_again(self) -> None:
        """A container may get another name or other limits while it runs; they take turns."""
        for key in list(islice(self._living, _AT_ONCE)):
            owner = self._living[key] = self._living.pop(key)
            self._describe(owner)
            self._read_limits(owner)

    def _read_limits(self, owner: Owner) -> None:
        cores, memory = limits(self._host, owner.path)
        self._set(
            owner,
            msgspec.structs.replace(owner.container, cpu_limit=cores, memory_limit_bytes=memory),
        )

    def _later(self, owner: Owner, attempt: int, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, next(self._serial), attempt, owner))

    def _try(self, owner: Owner, attempt: int, now_ns: int) -> None:
        if not self._describe(owner) and attempt < len(_PAUSES_NS):
            self._later(owner, attempt + 1, now_ns + _PAUSES_NS[attempt])

    def _describe(self, owner: Owner) -> bool:
        """Whether all that runtimes usually know is known now."""
        mark, before = owner.mark, owner.container
        assert mark is not None
        details = NOTHING
        for runtime in self._nested.runtimes(owner.outer) if owner.outer else self._runtimes:
            found = runtime.describe(mark)
            if found is not None:
                details = found if details is NOTHING else merged(details, found)
        if details is not NOTHING:
            changed = msgspec.structs.replace(
                described(mark, merged(details, before)),
                cpu_limit=before.cpu_limit,
                memory_limit_bytes=before.memory_limit_bytes,
                gone=before.gone,
            )
            self._set(owner, changed)
        return bool(details.name and details.started)

    def _set(self, owner: Owner, container: Container) -> None:
        if container != owner.container:
            owner.container = container
            self.epoch += 1


def described(mark: Mark, details: Details = NOTHING) -> Container:
    return Container(
        name=details.name or mark.name or mark.id[:12],
        kind="container",
        cgroup=mark.path,
        id=mark.id,
        image=details.image,
        runtime=details.runtime or mark.runtime,
        pod=details.pod,
        namespace=details.namespace,
        pod_uid=details.pod_uid or mark.pod_uid,
        node=details.node,
        workload=details.workload,
        qos=details.qos or mark.qos,
        type=details.type,
        labels=dict(details.labels),
        annotations=dict(details.annotations),
        started=details.started,
    )
