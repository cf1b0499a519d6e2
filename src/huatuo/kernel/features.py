"""What this kernel, and our privileges on it, offer. Asked by trying, never by version."""

from __future__ import annotations

import os
from functools import cache

from huatuo.errors import KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.libbpf import lib
from huatuo.kernel.vmlinux import has_struct, kernel_enum

__all__ = [
    "bpf_unavailable",
    "missing_program_types",
    "tracefs_unavailable",
    "unwinding_unavailable",
]

_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 21, 38, 39


@cache
def bpf_unavailable(host: Host) -> str:
    """Why no BPF program can be loaded here, or "" if it can be tried."""
    try:
        lib()
    except KernelLacks as error:
        return str(error)
    if not (host.sys / "kernel/btf/vmlinux").exists():
        return "this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)"
    capabilities = _effective_capabilities(host)
    if not capabilities >> _CAP_SYS_ADMIN & 1 and not (
        capabilities >> _CAP_BPF & 1 and capabilities >> _CAP_PERFMON & 1
    ):
        return f"BPF needs root or CAP_BPF and CAP_PERFMON, and uid {os.geteuid()} has neither"
    return ""


def missing_program_types(host: Host) -> dict[str, str]:
    """Kinds of hooks, as in a program's section, that this kernel was built without → why."""
    if (host.sys / "bus/event_source/devices/kprobe").exists():
        return {}
    return dict.fromkeys(("kprobe", "kretprobe"), "this kernel has no kprobes (CONFIG_KPROBES)")


@cache
def unwinding_unavailable() -> str:
    """Why bpf/unwind.bpf.h cannot work on this kernel, or ""."""
    if "loop" not in kernel_enum("bpf_func_id").values():
        return "this kernel has no bpf_loop (since 5.17)"
    if not has_struct("maple_tree"):
        return "this kernel has no maple tree of mappings (since 6.1)"
    return ""


def tracefs_unavailable(host: Host) -> str:
    """Why libbpf finds no classic tracepoints here, or ""."""
    for place in ("kernel/tracing", "kernel/debug/tracing"):
        if (host.sys / place / "events").is_dir():
            return ""
    return "tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing"


def _effective_capabilities(host: Host) -> int:
    for line in host.read(host.proc / "self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
