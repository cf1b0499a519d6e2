"""Bare addresses of our own process against what the dynamic linker says lies there."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from huatuo.kernel.host import Host
from huatuo.model.profile import StackStatus
from huatuo.profilers.native.binaries import VDSO, Binaries
from huatuo.profilers.native.mappings import Mappings

STATUSES = list(StackStatus)
NOWHERE, SHIFT = 1 << 63, 40
STACK = np.dtype(
    [("tgid", "u4"), ("user_count", "u4"), ("status", "u4"), ("user", "u8", (254,))]
)  # what is used of struct stack


def stack(
    *addresses: int, pid: int = 0, status: StackStatus = StackStatus.FRAME_POINTERS
) -> npt.NDArray[np.void]:
    found = np.zeros(1, STACK)
    found["tgid"], found["user_count"] = pid or os.getpid(), len(addresses)
    found["status"] = STATUSES.index(status)
    found["user"][0, : len(addresses)] = [NOWHERE | address for address in addresses]
    return found


def address_of(name: str) -> int:
    """Of a function of libc."""
    pointer = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value
    assert pointer
    return pointer


def test_addresses_become_places_in_files() -> None:
    """libc's functions, at the distance that its own symbols have."""
    binaries = Binaries(Host())
    getpid, strtol = address_of("getpid"), address_of("strtol")
    found = stack(getpid, strtol, 0x10)
    Mappings(Host(), binaries).resolve(found)
    first, second, nowhere = found["user"][0, :3].tolist()
    assert nowhere == NOWHERE | 0x10, "no code is mapped there"
    assert first >> SHIFT == second >> SHIFT
    binary = binaries.get(first >> SHIFT)
    assert binary.elf is not None
    places = [binary.address_of(frame & ((1 << SHIFT) - 1)) for frame in (first, second)]
    assert places[0] - places[1] == getpid - strtol
    table, names = binary.elf.symbol_table(".dynsym")
    known = {names[row["name"] :].split(b"\0")[0]: int(row["value"]) for row in table}
    assert places[0] in (known[b"getpid"], known.get(b"__getpid"))
    binaries.close()


def test_a_file_has_one_number_and_the_vdso_its_own() -> None:
    binaries = Binaries(Host())
    mappings = Mappings(Host(), binaries)
    vdso = next(
        int(line.split("-")[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("[vdso]")
    )
    numbers = set()
    for _ in range(2):
        found = stack(address_of("getpid"), vdso + 64)
        mappings.resolve(found)
        numbers.add(int(found["user"][0, 0]) >> SHIFT)
        assert found["user"][0, 1] == VDSO << SHIFT | 64
    assert len(numbers) == 1
    assert len(binaries) == 2
    binaries.close()


def test_code_without_a_file_and_of_the_dead_stays_an_address() -> None:
    binaries = Binaries(Host())
    private, code = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_EXEC
    jit = np.frombuffer(mmap.mmap(-1, 4096, private, code), np.uint8)
    found = stack(jit.ctypes.data)
    Mappings(Host(), binaries).resolve(found)
    assert found["user"][0, 0] == NOWHERE | jit.ctypes.data
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    found = stack(address_of("getpid"), pid=gone)
    Mappings(Host(), binaries).resolve(found)
    assert found["user"][0, 0] == NOWHERE | address_of("getpid")
    binaries.close()


def test_only_stacks_that_frame_pointers_led_to_are_changed() -> None:
    binaries = Binaries(Host())
    found = stack(address_of("getpid"), status=StackStatus.COMPLETE)
    Mappings(Host(), binaries).resolve(found)
    assert found["user"][0, 0] == NOWHERE | address_of("getpid")
    assert len(binaries) == 1
    binaries.close()
