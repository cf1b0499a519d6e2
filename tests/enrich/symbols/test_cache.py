"""The folder of tables: sizes, ages, damage."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from huatuo.enrich.symbols.cache import Cache
from huatuo.enrich.symbols.layer import of_functions
from huatuo.enrich.symbols.table import Source, write

DAY = 86400


def add(cache: Cache, key: str, functions: int = 10, sources: Source = Source.SYMTAB) -> int:
    passing, fd = cache.new()
    starts = np.arange(functions, dtype=np.uint64) * np.uint64(16)
    layer = of_functions(starts, starts + np.uint64(8), [b"%d" % i for i in range(functions)])
    size = write(fd, layer, sources, int(time.time()))
    os.close(fd)
    assert cache.keep(passing, key) == ""
    return size


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.directory.iterdir()}


def test_kept_and_opened(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "a" / "b", 1 << 20)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert cache.open("key") == (None, True)
    add(cache, "key")
    table, build = cache.open("key")
    assert table is not None
    assert not build
    assert table.lines(table.places_of([16])[0], "x")[0].function == "1"
    assert names(cache) == {"key.sym"}
    table.close()


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = add(Cache(tmp_path / "probe", 1 << 30), "one", 1000)
    cache = Cache(tmp_path / "cache", size * 4)
    for index in range(4):
        add(cache, f"key{index}", 1000)
        os.utime(cache.directory / f"key{index}.sym", (index, index))
    table, _ = cache.open("key0")  # used now
    assert table is not None
    add(cache, "key4", 1000)
    assert names(cache) == {"key0.sym", "key3.sym", "key4.sym"}
    add(cache, "key5", 1000)
    assert table.places_of([16]) != []  # an open one stays readable when its file is removed
    table.close()


def test_damaged_tables_are_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path, 1 << 20)
    for content in (b"", b"nonsense" * 100):
        (tmp_path / "key.sym").write_bytes(content)
        assert cache.open("key") == (None, True)
        assert names(cache) == set()
    assert "built again" in caplog.text


def test_what_a_worker_left_unfinished_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1 << 20)
    passing, fd = cache.new()
    os.write(fd, b"half a header")
    os.close(fd)
    assert "too short" in cache.keep(passing, "key")
    assert names(cache) == set()


def test_failures_are_remembered_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, 1 << 20)
    cache.keep_failure("key")
    table, build = Cache(tmp_path, 1 << 20).open("key")
    assert table is not None
    assert (table.sources, table.ranges, build) == (Source.FAILED, 0, False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
    assert cache.open("key")[1]


def test_partial_tables_are_used_and_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path, 1 << 20)
    add(cache, "partial", sources=Source.SYMTAB | Source.PARTIAL)
    add(cache, "whole")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
    assert [cache.open(key)[1] for key in ("partial", "whole")] == [True, False]


def test_leavings_of_a_killed_agent_are_removed_when_old(tmp_path: Path) -> None:
    (tmp_path / "1-1.tmp").write_bytes(b"x")
    (tmp_path / "2-1.tmp").write_bytes(b"x")
    os.utime(tmp_path / "1-1.tmp", (1, 1))
    assert names(Cache(tmp_path, 1 << 20)) == {"2-1.tmp"}


def test_a_full_disk_is_an_error_not_a_crash(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1 << 20)
    cache.directory.rmdir()
    with pytest.raises(OSError):
        cache.new()
    cache.keep_failure("key")
    assert cache.open("key") == (None, True)
