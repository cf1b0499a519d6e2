"""Types of the running kernel, by name, from its BTF (/sys/kernel/btf/vmlinux).

Format: include/uapi/linux/btf.h. libbpf maps the types; only an enum that is asked for is decoded.
"""

from __future__ import annotations

import ctypes as c
import struct
from functools import cache

from huatuo.errors import KernelLacks
from huatuo.kernel.libbpf import lib

__all__ = ["has_struct", "kernel_enum"]

_STRUCT, _ENUM, _ENUM64 = 4, 6, 19
_HEADER = 12  # struct btf_type: name offset, info, size


@cache
def _vmlinux() -> int:
    """libbpf's `struct btf *`, loaded once and kept; 0 where the kernel has none."""
    try:
        return lib().btf__load_vmlinux_btf() or 0
    except KernelLacks:
        return 0


@cache
def kernel_enum(name: str) -> dict[int, str]:
    """Value → label of `enum name`, in lower case and without the enum's own prefix.

    SKB_DROP_REASON_NO_SOCKET of enum skb_drop_reason is "no_socket". Empty if this kernel has no
    such enum or no BTF. Several names with commas between are one set; the first name wins.
    """
    first, _, more = name.partition(",")
    if more:
        return kernel_enum(more) | kernel_enum(first)
    btf = _vmlinux()
    if not btf:
        return {}
    for kind, layout in ((_ENUM, "<Ii"), (_ENUM64, "<III")):
        found = lib().btf__find_by_name_kind(btf, name.encode(), kind)
        if found > 0:
            return _labels(name, _members(btf, found, layout))
    return {}


def has_struct(name: str) -> bool:
    """Whether this kernel has a `struct name`."""
    btf = _vmlinux()
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
    """Without the enum's name in front; members that lack it lose the words all have in common."""
    prefix = name.upper() + "_"
    others = [member.split("_") for member, _ in members if not member.startswith(prefix)]
    words = [member.split("_") for member, _ in members]
    shared = 0
    while others and all(len(w) > shared + 1 and w[shared] == words[0][shared] for w in words):
        shared += 1
    labels: dict[int, str] = {}
    for member, value in members:
        if member.startswith(prefix):
            label = member.removeprefix(prefix)
        else:
            label = "_".join(member.split("_")[shared:])
        labels.setdefault(value, label.lower())
    return labels
