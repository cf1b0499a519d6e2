"""Probes that take samples of stacks: a profiler's ring `samples` holds struct sample.

They share an unwinder (profilers/native/unwinder.py); whoever starts several gives them the same
one, and drains samples before it asks the unwinder for stacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from huatuo.errors import KernelLacks
from huatuo.kernel.features import unwinding_unavailable
from huatuo.kernel.host import Host
from huatuo.kernel.object import BpfObject
from huatuo.model.record import Schema
from huatuo.probes.bpf import BpfProbe
from huatuo.profilers.native.unwinder import Unwinder

__all__ = ["Profiler"]


class Profiler(BpfProbe):
    """`profile` is the name of what it measures, a key of model.profile.PROFILE_TYPES; `kind_label`
    the label that tells the kinds of its samples apart (KINDS in bpf/sample.bpf.h), if any;
    `on_tracepoint`: its own program is the innermost frame of its samples;
    `needs_rows`: whether it cannot do without the unwinder's BPF side."""

    profile: ClassVar[str] = ""
    kind_label: ClassVar[str] = ""
    on_tracepoint: ClassVar[bool] = False
    needs_rows: ClassVar[bool] = True

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self.unwinder: Unwinder | None = None

    @classmethod
    def unavailable(cls, host: Host) -> str:
        missing = super().unavailable(host)
        if not missing and cls.needs_rows and (lacks := unwinding_unavailable()):
            return f"stacks of user space cannot be unwound: {lacks}"
        return missing

    @classmethod
    def event_schemas(cls) -> dict[str, Schema]:
        return {}

    @classmethod
    def kinds(cls) -> dict[int, str]:
        return dict(cls.btf().kinds)

    def set_pace(self, pace: float) -> None:
        """Sample at this share (0 < pace <= 1) of the configured rate from now on; samples weigh
        accordingly more. Profilers that follow events have no pace."""

    @property
    def has_pace(self) -> bool:
        return type(self).set_pace is not Profiler.set_pace

    def _open(self, tunables: Mapping[str, int]) -> BpfObject:
        if self.unwinder is None:
            raise KernelLacks(f"{self.name}: has no unwinder")
        return BpfObject(
            self.object_path(), tunables, self._sizes(), self.held, self.unwinder.shared
        )
