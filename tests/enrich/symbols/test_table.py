"""The file of a table: read back, and read when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.enrich.symbols.layer import NONE, Layer, Places
from huatuo.enrich.symbols.table import _HEADER, Source, Table, write
from huatuo.errors import Malformed
from huatuo.model.profile import Line

BASE = 0xFFFF_FFFF_8100_0000
TEXTS = [b"inner", b"outer", b"/src/a.c", b"0x1234", "grün".encode(), b""]
ROWS = [(0, 2, 7, 1), (1, 2, 70, NONE), (3, NONE, 0, NONE), (4, 2, 1, NONE), (5, NONE, 0, NONE)]


def layer() -> Layer:
    columns = np.array(ROWS, np.uint32).T
    starts = np.array([0, 16, 32, 48, 64, 2**33], np.uint64) + np.uint64(BASE)
    at = np.array([0, NONE, 2, 3, 4, 0], np.uint32)
    return Layer(starts, at, Places(columns[0], columns[1], columns[2], columns[3], TEXTS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    assert write(fd, layer(), Source.DWARF | Source.SYMTAB, 1234) == os.fstat(fd).st_size
    os.close(fd)
    return path


def test_read_back(path: Path) -> None:
    table = Table(path)
    assert (table.sources, table.created) == (Source.DWARF | Source.SYMTAB, 1234)
    addresses = [0, BASE - 1, BASE, BASE + 15, BASE + 16, BASE + 32, BASE + 48, BASE + 64]
    found = [table.lines(place, "libx.so") for place in table.places_of(addresses)]
    inlined = (Line("inner", "/src/a.c", 7), Line("outer", "/src/a.c", 70))
    assert found == [
        (), (), inlined, inlined, (), (Line("libx.so:0x1234"),), (Line("grün", "/src/a.c", 1),),
        (Line("??"),),
    ]  # fmt: skip
    # 4 GiB and more above the first address nothing is known
    assert table.places_of([BASE + 2**33, BASE + NONE, 2**64 - 1, 2**70])[:2] == [NONE, NONE]
    table.close()


def test_no_addresses(path: Path) -> None:
    table = Table(path)
    assert table.places_of([]) == []
    table.close()


def test_what_is_no_table(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    for content in (b"", b"x" * 50, b"x" * 500, whole[:-1], whole + b"x", whole[:128]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(Malformed):
            Table(tmp_path / "other")
    with pytest.raises(OSError):
        Table(tmp_path / "none")
    with pytest.raises(OSError):
        Table(tmp_path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(128, 10_000), st.integers(0, 255)), min_size=1, max_size=12))
def test_damage_gives_wrong_names_at_worst(path: Path, damage: list[tuple[int, int]]) -> None:
    whole = bytearray(path.read_bytes())
    for at, value in damage:
        whole[128 + at % (len(whole) - 128)] = value
    damaged = path.with_suffix(".damaged")
    damaged.write_bytes(whole)
    table = Table(damaged)
    places = table.places_of(range(BASE - 1, BASE + 80))
    for place in [*places, *range(10), NONE]:
        lines = table.lines(place, "x")
        assert len(lines) <= 64
        assert all(len(line.function) <= 4200 for line in lines)
    table.close()


def test_a_damaged_header_is_refused(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for at in range(_HEADER.size):
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Malformed):
            Table(path)
