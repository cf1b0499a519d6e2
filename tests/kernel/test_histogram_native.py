"""The C of bpf/histogram.bpf.h, compiled natively, against exact arithmetic."""

from __future__ import annotations

import ctypes
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huatuo.model.metric import FIRST_EDGE_LOG2

HEADER = Path(__file__).parents[2] / "src/huatuo/bpf/histogram.bpf.h"
SOURCE = """
typedef unsigned long long __u64; typedef unsigned int __u32;
#define HUATUO_RECORD_H
#define __always_inline inline __attribute__((always_inline))
#include "{header}"
unsigned int slot_of(unsigned long long ns) {{ return duration_slot(ns); }}
"""
SLOTS = 27


@pytest.fixture(scope="module")
def slot_of(tmp_path_factory: pytest.TempPathFactory) -> ctypes._NamedFuncPointer:
    folder = tmp_path_factory.mktemp("native")
    (folder / "slot.c").write_text(SOURCE.format(header=HEADER))
    library = folder / "slot.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, folder / "slot.c"], check=True, timeout=60
    )
    function = ctypes.CDLL(str(library)).slot_of
    function.argtypes, function.restype = [ctypes.c_uint64], ctypes.c_uint32
    return function  # type: ignore[no-any-return]


def exact_slot(ns: int) -> int:
    """The slot by exact fractions: the first whose upper edge 2^(i-20) s is above the value."""
    seconds = Fraction(ns, 10**9)
    for slot in range(SLOTS - 1):
        if seconds < Fraction(2) ** (FIRST_EDGE_LOG2 + slot):
            return slot
    return SLOTS - 1


@given(ns=st.integers(0, 2**48))
def test_slot_is_the_power_of_two_of_a_second(slot_of: object, ns: int) -> None:
    found = slot_of(ns)  # type: ignore[operator]
    # the multiplication rounds down by less than 1 part in 2^20
    assert found in {exact_slot(ns), exact_slot(ns - ns // 2**20 - 1 if ns else 0)}


@pytest.mark.parametrize(
    ("ns", "slot"),
    [
        (0, 0),
        (953, 0),
        (955, 1),
        (976_561, 10),
        (976_565, 11),
        (999_999_999, 20),
        (1_000_000_000, 21),
        (2**63, 26),
    ],
)
def test_known_values(slot_of: object, ns: int, slot: int) -> None:
    assert slot_of(ns) == slot  # type: ignore[operator]
