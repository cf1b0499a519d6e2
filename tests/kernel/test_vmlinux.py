"""Labels of enums, from made members and from this kernel."""

from __future__ import annotations

import pytest

from huatuo.errors import KernelLacks
from huatuo.kernel.host import Host
from huatuo.kernel.libbpf import lib
from huatuo.kernel.vmlinux import _labels, kernel_enum


def test_own_prefix_goes_and_other_members_lose_what_all_share() -> None:
    members = [
        ("SKB_NOT_DROPPED_YET", 0),
        ("SKB_CONSUMED", 1),
        ("SKB_DROP_REASON_NO_SOCKET", 3),
    ]
    assert _labels("skb_drop_reason", members) == {
        0: "not_dropped_yet",
        1: "consumed",
        3: "no_socket",
    }


def test_members_without_the_enums_name() -> None:
    assert _labels("vectors", [("HI_SOFTIRQ", 0), ("TIMER_SOFTIRQ", 1)]) == {
        0: "hi_softirq",
        1: "timer_softirq",
    }
    assert _labels("one", [("ONE_ONLY", 5)]) == {5: "only"}


def test_members_that_count_the_others_have_no_say() -> None:
    members = [("VMSCAN_THROTTLE_WRITEBACK", 0), ("VMSCAN_THROTTLE_ISOLATED", 1), ("NR_ALL", 2)]
    assert _labels("vmscan_throttle_state", members) == {0: "writeback", 1: "isolated", 2: "nr_all"}


def test_running_kernel() -> None:
    try:
        lib()
    except KernelLacks as error:
        pytest.skip(str(error))
    if not (Host().sys / "kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF")
    assert kernel_enum("pid_type")[0] == "pid"  # enum pid_type { PIDTYPE_PID, … }
    assert "pid" in kernel_enum("pid_type").values()
    assert kernel_enum("no_such_enum") == {}
