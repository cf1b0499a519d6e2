"""The embedded store: the contract, and what is its own (files, locks, damage, retention)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from huatuo.errors import StoreError, StoreLocked
from huatuo.store.base import EventQuery, MetricQuery
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.eventlog import BLOCK_EVENTS
from huatuo.store.history import FINE_NS, HOUR_NS, WINDOW_NS
from tests.contracts.store import (
    SECOND,
    START,
    TestEvents,
    TestMetrics,
    TestStore,
    counter,
    event,
    histogram,
    serials,
)
from tests.store.disk import small_disk

__all__ = ["TestEvents", "TestMetrics", "TestStore"]

DAY = 86400


_opened: list[EmbeddedStore] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    """Whatever a test opened and, failing, left open."""
    yield
    while _opened:
        _opened.pop().close()


def open_store(directory: Path, megabytes: float = 64, days: float = 30) -> EmbeddedStore:
    store = EmbeddedStore(
        directory, max_bytes=int(megabytes * (1 << 20)), max_age_seconds=days * DAY
    )
    _opened.append(store)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def sql(store: EmbeddedStore, query: str) -> int:
    """One number from the file."""
    with sqlite3.connect(store.directory / "huatuo.db") as db:
        found = db.execute(query).fetchone()[0]
    db.close()
    return int(found)


class TestFiles:
    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        last = store.append_events([event(n) for n in range(3 * BLOCK_EVENTS)])[-1]
        for i in range(200):
            store.append_metrics(START + i * 10 * SECOND, [counter([i]), histogram(i)])
        before = (store.events(EventQuery(limit=10**6)), store.metric_names())
        store.close()
        store = open_store(tmp_path)
        assert (store.events(EventQuery(limit=10**6)), store.metric_names()) == before
        assert store.append_events([event(0)])[0].id == last.id + 1
        store.append_metrics(START + 2000 * SECOND, [counter([200]), histogram(200)])
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert series.values.tolist() == list(range(201))
        assert store.usage().series == 3
        store.close()

    def test_ids_go_on_after_all_events_expired(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        (first,) = store.append_events([event(0)])
        store.expire(START + 400 * DAY * SECOND)
        store.close()
        store = open_store(tmp_path)
        assert store.usage().events == 0
        assert store.append_events([event(0)])[0].id == first.id + 1
        store.close()

    def test_second_agent_is_refused(self, store: EmbeddedStore) -> None:
        with pytest.raises(StoreLocked) as caught:
            open_store(store.directory)
        message = str(caught.value)
        assert str(store.directory) in message
        assert f"pid {os.getpid()}" in message
        assert "[store] directory" in message

    def test_lock_is_free_after_closing(self, tmp_path: Path) -> None:
        open_store(tmp_path).close()
        open_store(tmp_path).close()

    def test_reading_beside_the_agent(self, store: EmbeddedStore) -> None:
        store.append_events([event(0)])
        reader = EmbeddedStore.open_readonly(store.directory)
        assert serials(reader.events(EventQuery())) == [0]
        store.append_events([event(1)])
        store.append_metrics(START, [counter([1.0])])
        assert serials(reader.events(EventQuery())) == [1, 0]
        assert len(reader.metrics(MetricQuery("huatuo_test_total"))) == 1
        assert reader.usage().events == 2
        with pytest.raises(StoreError, match="reading only"):
            reader.append_events([event(2)])
        reader.close()

    def test_reading_without_an_agent(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.append_events([event(0)])
        store.close()
        reader = EmbeddedStore.open_readonly(tmp_path)
        assert serials(reader.events(EventQuery())) == [0]
        reader.close()

    def test_reading_as_somebody_who_may_not_write(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.append_events([event(0)])
        store.close()
        tmp_path.chmod(0o555)
        for parent in tmp_path.parents:
            if parent.stat().st_uid == os.getuid() and parent.name.startswith("pytest"):
                parent.chmod(0o755)
        child = os.fork()
        if not child:
            status = 1
            try:
                os.getuid() or os.setuid(65534)
                reader = EmbeddedStore.open_readonly(tmp_path)
                status = int(serials(reader.events(EventQuery())) != [0])
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        tmp_path.chmod(0o755)

    def test_reading_where_no_store_is(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no store here"):
            EmbeddedStore.open_readonly(tmp_path)

    def test_directory_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match=r"cannot keep the store here.*\[store\] directory"):
            open_store(tmp_path / "file" / "store")

    def test_newer_version_is_refused(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.close()
        with sqlite3.connect(tmp_path / "huatuo.db") as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(StoreError, match=r"newer HUATUO \(store version 99"):
            open_store(tmp_path)
        with pytest.raises(StoreError, match="newer HUATUO"):
            EmbeddedStore.open_readonly(tmp_path)
        with sqlite3.connect(tmp_path / "huatuo.db") as db:
            db.execute(f"PRAGMA user_version = {version}")
        db.close()
        open_store(tmp_path).close()  # the refusal let the lock go


class TestDamage:
    @pytest.mark.parametrize("damage", ["garbage", "truncated", "header"])
    def test_damaged_file_is_moved_aside(self, tmp_path: Path, damage: str) -> None:
        store = open_store(tmp_path)
        store.append_events([event(n) for n in range(3 * BLOCK_EVENTS)])
        store.close()
        path = tmp_path / "huatuo.db"
        data = path.read_bytes()
        path.write_bytes(
            {
                "garbage": os.urandom(50_000),
                "truncated": data[: len(data) // 2],
                "header": b"SQLite format 4\0" + data[16:],
            }[damage]
        )
        store = open_store(tmp_path)
        (notice,) = store.usage().notices
        (aside,) = tmp_path.glob("huatuo.db.corrupt-*")
        assert aside.name in notice
        assert "damaged" in notice
        store.append_events([event(0)])
        assert serials(store.events(EventQuery())) == [0]
        store.close()

    def test_only_one_damaged_file_is_kept(self, tmp_path: Path) -> None:
        for _ in range(3):
            (tmp_path / "huatuo.db").write_bytes(os.urandom(50_000))
            open_store(tmp_path).close()
        assert len(list(tmp_path.glob("*.corrupt-*"))) == 1

    def test_damage_while_running(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.append_events([event(n) for n in range(3 * BLOCK_EVENTS)])
        store.append_metrics(START, [counter([1.0])])
        store._database.checkpoint()
        path = tmp_path / "huatuo.db"
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        for i in range(10):
            store.append_events([event(n) for n in range(i * 10, i * 10 + 10)])
            store.append_metrics(START + i * 10 * SECOND, [counter([i])])
        usage = store.usage()
        assert any("damaged" in notice for notice in usage.notices)
        assert len(store.events(EventQuery(limit=1000))) + usage.lost_events >= 10
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert series.values[-1] == 9
        store.close()

    def test_flipped_bits_in_blocks_are_noticed(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.append_events([event(n) for n in range(4 * BLOCK_EVENTS)])
        for i in range(200):
            store.append_metrics(START + i * 10 * SECOND, [counter([i])])
        with store._database.write() as db:
            for table, column, key in (
                ("blocks", "payload", "first_id"),
                ("blocks", "search", "first_id"),
                ("chunks", "data", "rowid"),
            ):
                rows = db.execute(f"SELECT {key}, {column} FROM {table} ORDER BY {key}").fetchall()
                where, data = rows[0] if column != "search" else rows[1]
                broken = bytearray(data)
                for at in range(10, len(data), 40):
                    broken[at] ^= 0x10
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (broken, where))
        found = store.events(EventQuery(limit=10**6))
        assert 1 < len(found) < 4 * BLOCK_EVENTS
        assert found[0].fields["serial"] == 4 * BLOCK_EVENTS - 1
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert 100 <= len(series.values) < 200
        assert len(store.usage().notices) == 3
        assert all("cannot be read" in notice for notice in store.usage().notices)
        store.close()


class TestBlocks:
    def test_values_that_are_everywhere_different(self, store: EmbeddedStore) -> None:
        """They have no column; every one is found, and what is not there is not."""
        total = 4 * BLOCK_EVENTS
        store.append_events([event(n, fields={"id": f"10.{n}"}) for n in range(total)])
        for n in range(0, total, 997):
            (found,) = store.events(EventQuery(fields={"id": f"10.{n}"}))
            assert found.fields == {"id": f"10.{n}"}
        assert store.events(EventQuery(fields={"id": "10."})) == []
        assert store.events(EventQuery(fields={"id": f"10.{total}"})) == []
        facets = store.facets(EventQuery(), ["id"])
        assert {facet.count for facet in facets} == {1}


class TestRetention:
    def test_size_keeps_the_newest(self, tmp_path: Path) -> None:
        store = open_store(tmp_path, megabytes=4)
        rng = np.random.default_rng(1)
        total = 60 * 500
        for i in range(60):
            texts = [rng.bytes(64).hex() for _ in range(500)]
            store.append_events([event(i * 500 + n, title=texts[n]) for n in range(500)])
            store.append_metrics(START + i * 500 * SECOND, [counter(rng.random(50))])
            store.expire(START + i * 500 * SECOND)
            assert store.usage().bytes <= 8 << 20  # 4 MiB and the WAL
        kept = serials(store.events(EventQuery(limit=total)))
        assert kept == list(range(total))[::-1][: len(kept)]
        assert total // 10 < len(kept) < total
        series = store.metrics(MetricQuery("huatuo_test_total"))
        assert series[0].times[-1] == START + 59 * 500 * SECOND
        usage = store.usage()
        assert usage.lost_events == usage.lost_snapshots == 0
        assert (tmp_path / "huatuo.db").stat().st_size <= 4 << 20
        store.close()

    def test_full_without_expiring(self, tmp_path: Path) -> None:
        """A storm between two rounds of retention meets the file's limit: the oldest goes."""
        store = open_store(tmp_path, megabytes=3)
        rng = np.random.default_rng(1)
        total = 100 * 300
        for i in range(100):
            batch = [event(i * 300 + n, title=rng.bytes(64).hex()) for n in range(300)]
            assert all(e.id for e in store.append_events(batch))
            store.append_metrics(START + i * 300 * SECOND, [counter(rng.random(50))])
        kept = serials(store.events(EventQuery(limit=total)))
        assert kept == list(range(total))[::-1][: len(kept)]
        assert len(kept) > 1000
        usage = store.usage()
        assert usage.lost_events == usage.lost_snapshots == 0
        assert any("the oldest data goes" in notice for notice in usage.notices)
        store.close()

    def test_expiry_returns_space_to_the_file_system(self, tmp_path: Path) -> None:
        store = open_store(tmp_path, days=1)
        rng = np.random.default_rng(1)
        for _ in range(20):
            store.append_events([event(n, title=rng.bytes(400).hex()) for n in range(1024)])
        path = tmp_path / "huatuo.db"
        store._database.checkpoint()
        before = path.stat().st_size
        assert store.expire(START + 3 * DAY * SECOND) > before / 2
        store._database.checkpoint()
        assert path.stat().st_size < before / 2
        store.close()

    def test_names_of_gone_series_go(self, tmp_path: Path) -> None:
        store = open_store(tmp_path, days=1)
        store.append_metrics(START, [counter([1.0] * 5), histogram(1)])
        later = START + 10 * DAY * SECOND
        store.append_metrics(later, [counter([1.0])])
        store.expire(later)
        assert store.usage().series == 1
        store.append_metrics(later + 3 * DAY * SECOND, [counter([2.0])])
        store.expire(later + 3 * DAY * SECOND)
        assert [name for name, *_ in store.metric_names()] == ["huatuo_test_total"]
        assert store.usage().series == 1
        (series,) = store.metrics(MetricQuery("huatuo_test_total"))
        assert series.values.tolist() == [2.0]
        store.close()


class TestHistory:
    def fill(self, store: EmbeddedStore, hours: float, step: int = 10) -> int:
        """Counters 0, 1, 2 … and histograms; the number of snapshots."""
        count = int(hours * 3600 / step)
        for i in range(count):
            store.append_metrics(START + i * step * SECOND, [counter([i, 2 * i]), histogram(i)])
        return count

    def test_old_samples_are_thinned_to_a_minute(self, store: EmbeddedStore) -> None:
        hours = FINE_NS // HOUR_NS + 4
        count = self.fill(store, hours)
        query = MetricQuery("huatuo_test_total", points=10**6)
        series = store.metrics(query)
        times = (series[0].times - START) // (10 * SECOND)
        assert series[0].values.tolist() == times.tolist()
        assert series[1].values.tolist() == (2 * times).tolist()
        gaps = np.diff(series[0].times) // SECOND
        fine = int((gaps == 10).sum())
        assert set(gaps.tolist()) <= {10, 20, 30, 40, 50, 60}
        assert FINE_NS // (10 * SECOND) <= fine + 1 < FINE_NS // (10 * SECOND) + 720
        assert (gaps[:170] == 60).all()
        assert series[0].values[-1] == count - 1
        (first, _) = store.metrics(MetricQuery("huatuo_test_seconds", points=10**6))
        assert first.values[:, 1].tolist() == times.tolist()

    def test_snapshots_become_chunks(self, store: EmbeddedStore) -> None:
        self.fill(store, 2)
        windows = 2 * HOUR_NS // WINDOW_NS
        assert sql(store, "SELECT count(*) FROM head") <= WINDOW_NS // (10 * SECOND)
        assert 2 * (windows - 1) <= sql(store, "SELECT count(*) FROM chunks") <= 2 * (windows + 1)

    def test_wide_families_are_cut_by_series(self, store: EmbeddedStore) -> None:
        names = [f"container-{i}" for i in range(300)]
        for i in range(200):
            store.append_metrics(START + i * 10 * SECOND, [histogram(i, names)])
        assert (
            sql(
                store,
                "SELECT count(*) FROM chunks WHERE start_ns = (SELECT min(start_ns) FROM chunks)",
            )
            > 5
        )
        found = store.metrics(MetricQuery("huatuo_test_seconds"))
        assert len(found) == 300
        for number, series in ((int(s.labels["container"][10:]), s) for s in found):
            assert series.values[:, 1].tolist() == [(number + 1) * i for i in range(200)]

    def test_many_families_share_frames(self, store: EmbeddedStore) -> None:
        metrics = [counter([1.0] * 10, f"huatuo_f{i}_total") for i in range(500)]
        store.append_metrics(START, metrics)
        assert 1 < sql(store, "SELECT count(*) FROM head") < 20
        for metric in metrics[::40]:
            assert len(store.metrics(MetricQuery(metric.name))) == 10

    def test_work_left_by_a_killed_agent_is_done(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        for i in range(50):
            store.append_metrics(START + i * 10 * SECOND, [counter([i])])
        store.close()
        store = open_store(tmp_path)
        for i in range(2):
            store.append_metrics(START + 5 * HOUR_NS + i * 10 * SECOND, [counter([i])])
        assert sql(store, "SELECT count(*) FROM head") <= 2
        assert len(store.metrics(MetricQuery("huatuo_test_total"))[0].times) == 52
        store.close()


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        yield from small_disk(tmp_path)

    @pytest.mark.parametrize("others", [0, 10], ids=["by us", "by others"])
    def test_newest_is_kept(self, disk: Path, others: int) -> None:
        store = open_store(disk, megabytes=1024)
        rng = np.random.default_rng(1)
        total = 0
        for i in range(100):
            if i == 20 and others:
                (disk / "others").write_bytes(bytes(others << 20))
            batch = [event(total + n, title=rng.bytes(500).hex()) for n in range(300)]
            store.append_events(batch)
            store.append_metrics(START + total * SECOND, [counter(rng.random(200))])
            total += 300
        usage = store.usage()
        kept = serials(store.events(EventQuery(limit=total)))
        assert kept[0] == total - 1
        assert kept == list(range(total))[::-1][: len(kept)]
        assert len(kept) >= 1000
        assert usage.lost_events == usage.lost_snapshots == 0
        assert any("the oldest data goes" in notice for notice in usage.notices)
        series = store.metrics(MetricQuery("huatuo_test_total"))
        assert series[0].times[-1] == START + (total - 300) * SECOND
        store.close()
        store = open_store(disk, megabytes=1024)
        assert serials(store.events(EventQuery(limit=1))) == [total - 1]
        store.close()

    def test_no_room_at_all_is_counted_and_survived(self, disk: Path) -> None:
        store = open_store(disk, megabytes=1024)
        store.append_events([event(0)])
        for _ in range(40):  # whatever we give up, another takes
            with (disk / "others").open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            stored = store.append_events([event(n, title="x" * 2000) for n in range(300)])
            store.append_metrics(START, [counter([1.0] * 2000)])
        usage = store.usage()
        assert usage.lost_events >= sum(e.id == 0 for e in stored)
        assert usage.lost_events > 0
        (disk / "others").unlink()
        assert store.append_events([event(7)])[0].id
        assert serials(store.events(EventQuery(limit=1))) == [7]
        store.close()
