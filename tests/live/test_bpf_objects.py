"""The loader, the rings and the account, on test-only objects."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from huatuo.errors import BpfError
from huatuo.kernel.calibration import statistics_overhead_ns
from huatuo.kernel.object import BpfObject

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

INJECT = Path(__file__).parent / "inject"


def rename(times: int) -> None:
    """Hit the task_rename tracepoint exactly so many times; the name stays as it is."""
    libc, name = ctypes.CDLL(None), Path("/proc/thread-self/comm").read_bytes().strip()
    for _ in range(times):
        libc.prctl(15, name, 0, 0, 0)


def test_the_first_form_that_works_is_used_and_the_others_say_why() -> None:
    with BpfObject(INJECT / "forms.bpf.o") as opened:
        by_name = {program.name: program for program in opened.programs}
        assert by_name["rename__works"].used
        assert by_name["newtask__works"].used, "it accompanies the form of its name"
        assert not by_name["companion__absent"].used
        assert "not in this kernel" in by_name["rename__absent"].missing
        assert "impossible" in by_name["rename__impossible_map"].missing
        assert by_name["rename__too_many_arguments"].missing
        rename(1000)
        _, hits = opened.maps["hits"].read()
        assert hits["count"][0] >= 1000


def test_without_any_form_the_reasons_are_named() -> None:
    class Stubborn(BpfObject):
        """As on a kernel where nothing works."""

        def _list_programs(self):  # type: ignore[no-untyped-def]
            found = super()._list_programs()
            for program in found:
                if program.role == "rename":
                    program.missing = program.missing or "refused"
            return found

    with pytest.raises(BpfError, match="no hook works on this kernel: tp_btf/no_such_tracepoint"):
        Stubborn(INJECT / "forms.bpf.o").load()


@pytest.mark.parametrize("ring_is_full", [False, True])
def test_produced_is_delivered_and_suppressed_and_lost(ring_is_full: bool) -> None:
    """A storm far above the limits: every record is accounted for, those delivered are right."""
    limit = 100_000_000 if ring_is_full else 50
    tunables = {
        "only_tgid": os.getpid(),
        "max_per_second": limit,
        "max_per_second_per_container": limit,
    }
    with BpfObject(INJECT / "flood.bpf.o", tunables) as opened:
        rename(20_000)
        rows = opened.rings["numbers"].drain()
        _, account = opened.maps["account"].read()
    counts = {name: int(account[name][0]) for name in account.dtype.names}
    assert counts["produced"] == 20_000
    assert counts["produced"] == len(rows) + counts["rate_limited"] + counts["ring_full"]
    assert len(rows) > 0
    assert np.all(np.diff(rows["number"].astype(np.int64)) > 0)
    assert set(rows["tgid"]) == {os.getpid()}
    if ring_is_full:
        assert counts["ring_full"] > 0
        assert counts["rate_limited"] == 0
    else:
        assert 50 <= len(rows) <= 50 * 3, "a second's worth, and what two or three seconds add"
        assert counts["ring_full"] == 0


def test_a_drained_ring_takes_records_again() -> None:
    tunables = {
        "only_tgid": os.getpid(),
        "max_per_second": 100_000_000,
        "max_per_second_per_container": 100_000_000,
    }
    seen = []
    with BpfObject(INJECT / "flood.bpf.o", tunables) as opened:
        for _ in range(50):
            rename(500)
            seen.append(opened.rings["numbers"].drain())
    rows = np.concatenate(seen)
    assert rows["number"].tolist() == list(range(1, 25_001))
    assert np.all(rows["inverted"] == ~rows["number"])


def test_tunables_must_exist() -> None:
    with pytest.raises(BpfError, match="no tunable only_tgit"):
        BpfObject(INJECT / "flood.bpf.o", {"only_tgit": 1}).load()


def test_statistics_cost_is_plausible() -> None:
    assert 5 < statistics_overhead_ns() < 5_000
