"""Cgroups that are no containers: systemd units, and cgroups somebody made by hand."""

from __future__ import annotations

import re

from huatuo.model.event import Container

__all__ = ["HOST", "UNATTRIBUTED", "keeps_descendants", "plain_owner", "unknown"]

HOST = Container(name="/", kind="host", cgroup="/")
UNATTRIBUTED = Container(name="other", kind="cgroup", cgroup="")  # id 0: the kernel side gave none

_USER = re.compile(r"user-[0-9]+\.slice")
_KEEPING = ("container", "service", "scope", "user")


def keeps_descendants(owner: Container) -> bool:
    """Whether cgroups below belong to this owner too, unless a container claims them."""
    return owner.kind in _KEEPING


def plain_owner(path: str) -> Container:
    """The systemd unit that a cgroup is, or the cgroup itself under its path."""
    name = path.rpartition("/")[2]
    unit = name.rpartition(".")[2]
    if _USER.fullmatch(name):
        unit = "user"
    if unit in ("service", "scope", "slice", "user"):
        return Container(name=name, kind=unit, cgroup=path, runtime="systemd")
    return Container(name=path, kind="cgroup", cgroup=path)


def unknown(cgroup_id: int) -> Container:
    return Container(name=f"cgroup:{cgroup_id}", kind="cgroup", cgroup="")
