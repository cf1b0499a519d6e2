"""System containers, which are known by name: LXC (and Incus, LXD) and systemd-nspawn.

Cgroups: lxc.payload.<name>, lxc/<name> (before LXC 4), systemd-nspawn@<name>.service and
machine-<name>.scope in machine.slice. Also here: a full id below any parent, which every other
runtime's cgroupfs driver makes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from huatuo.enrich.containers.base import FULL_ID, Details, Mark

__all__ = ["AnyFullId", "Lxc", "Nspawn"]

_LXC = re.compile(r"lxc\.payload\.(.+)")
_LXC_PARENTS = re.compile(r"(?:^|.*/)(?:lxc|lxc\.payload)")
_NSPAWN = re.compile(r"systemd-nspawn@(.+)\.service")
_MACHINE = re.compile(r"machine-(.+)\.scope")
_VIRTUAL = re.compile(r"(qemu|lxc|libpod)(-|\\x2d)")  # libvirt's machines
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


_NONE: Mapping[str, Mark] = {}


class _Named:
    def declared(self) -> Mapping[str, Mark]:
        return _NONE

    def describe(self, mark: Mark) -> Details | None:  # noqa: ARG002
        return None


class Lxc(_Named):
    def recognise(self, name: str, parent: str) -> Mark | None:
        found = _LXC.fullmatch(name)
        if found:
            return Mark(f"{parent}/{name}", found[1], "lxc", found[1])
        if _LXC_PARENTS.fullmatch(parent):
            return Mark(f"{parent}/{name}", name, "lxc", name)
        return None


class Nspawn(_Named):
    def recognise(self, name: str, parent: str) -> Mark | None:
        if not parent.endswith("/machine.slice"):
            return None
        found = _NSPAWN.fullmatch(name) or _MACHINE.fullmatch(name)
        if found is None or _VIRTUAL.match(found[1]):
            return None
        machine = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), found[1])
        return Mark(f"{parent}/{name}", machine, "nspawn", machine)


class AnyFullId(_Named):
    """The last to be asked: /docker/<id>, kubepods/…/pod<uid>/<id>, /<namespace>/<id>."""

    def recognise(self, name: str, parent: str) -> Mark | None:
        if FULL_ID.fullmatch(name):
            runtime = "docker" if parent.rpartition("/")[2] == "docker" else ""
            return Mark(f"{parent}/{name}", name, runtime)
        return None
