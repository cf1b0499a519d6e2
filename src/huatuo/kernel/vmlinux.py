"""Types of the running kernel, by name, from its BTF (/sys/kernel/btf/vmlinux).

Format: include/uapi/linux/btf.h. libbpf reads the types (12 ms, 8 MB) for as long as an enum is
decoded; what was decoded is kept, the types are not.
"""

from __future__ import annotations

import ctypes as c
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from huatuo.errors import KernelLacks
from huatuo.kernel.libbpf import lib

__all__ = ["has_struct", "kernel_enum"]

_STRUCT, _ENUM, _ENUM64 = 4, 6, 19
_COUNTING = ("NR_", "__")
_HEADER = 12  # struct btf_type: name offset, info, size


@contextmanager
def _vmlinux() -> Iterator[int]:
    """libbpf's `struct btf *`; 0 where the kernel has none."""
    try:
        btf = lib().btf__load_vmlinux_btf() or 0
    except KernelLacks:
        btf = 0
    try:
        yield btf
    finally:
        if btf:
            lib().btf__free(btf)


@cache
def kernel_enum(name: str) -> dict[int, str]:
    """Value → label of `enum name`, in lower case and without the enum's own prefix.

    SKB_DROP_REASON_NO_SOCKET of enum skb_drop_reason is "no_socket". Empty if this kernel has no
    such enum or no BTF. Several names with commas between are one set; the first name wins.
    """
    first, _, more = name.partition(",")
    if more:
        return kernel_enum(more) | kernel_enum(first)
    with _vmlinux() as btf:
        for kind, layout in ((_ENUM, "<Ii"), (_ENUM64, "<III")) if btf else ():
            found = lib().btf__find_by_name_kind(btf, name.encode(), kind)
            if found > 0:
                return _labels(name, _members(btf, found, layout))
    return {}


def has_struct(name: str) -> bool:
    """Whether this kernel has a `struct name`."""
    with _vmlinux() as btf:
        return bool(btf) and lib().btf__find_by_name_kind(btf, name.encode(), _STRUCT) > 0


def _members(btf: int, type_id: int, layout: str) -> list[tuple[str, int]]:
    at = lib().btf__type_by_id(btf, type_id)
    _, info, _ = struct.unpack("<III", c.string_at(at, _HEADER))
    raw = c.string_at(at + _HEADER, (info & 0xFFFF) * struct.calcsize(layout))
    found = []
    for offset, *words in struct.iter_unpack(layout, raw):
        value = words[0] if len(words) == 1 else words[0] | words[1] << 32
        found.append((lib().btf__name_by_offset(btf, offset).decode(), value))
    return found


def _labels(name: str, members: list[tuple[str, int]]) -> dict[int, str]:
    """Without the enum's name in front; members that lack it lose the words all have in common.

    Members that only count the others (NR_…, __…) have no say in that.
    """
    prefix = name.upper() + "_"
    named = [member for member, _ in members if not member.startswith(_COUNTING)]
    others = [member.split("_") for member in named if not member.startswith(prefix)]
    words = [member.split("_") for member in named]
    shared = 0
    while others and all(len(w) > shared + 1 and w[shared] == words[0][shared] for w in words):
        shared += 1
    labels: dict[int, str] = {}
    for member, value in members:
        if member.startswith(prefix):
            label = member.removeprefix(prefix)
        elif member in named:
            label = "_".join(member.split("_")[shared:])
        else:
            label = member
        labels.setdefault(value, label.lower())
    return labels
