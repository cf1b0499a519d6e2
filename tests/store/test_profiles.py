"""Profiles in the embedded store: the contract, and what is its own."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from huatuo.errors import StoreError
from huatuo.model.profile import Line, Profile, Samples
from huatuo.store import embedded
from huatuo.store.base import EventQuery, MetricQuery
from huatuo.store.database import Database
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profile import dictionary, log, recent
from huatuo.store.profiles import ProfileQuery, ProfileStore
from tests.contracts.profiles import (
    SECOND,
    START,
    TestHostileQueries,
    TestProfiles,
    TestProfilesAgainstModel,
    batch,
    paths,
    place,
)
from tests.contracts.store import counter, event
from tests.serve.memory_profiles import MemoryProfiles
from tests.store.disk import small_disk

__all__ = ["TestHostileQueries", "TestProfiles", "TestProfilesAgainstModel"]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], EmbeddedStore]]:
    """An empty one each time; the one before is closed, and gone."""
    opened: list[EmbeddedStore] = []

    def close() -> None:
        while opened:
            opened.pop().close()
            shutil.rmtree(tmp_path / "store")

    def new() -> EmbeddedStore:
        close()
        where = tmp_path / "store"
        opened.append(EmbeddedStore(where, max_bytes=64 << 20, max_age_seconds=30 * 86400))
        return opened[-1]

    yield new
    close()


@pytest.fixture(params=["as it is", "small"])
def new_profiles(
    request: pytest.FixtureRequest,
    open_store: Callable[[], EmbeddedStore],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], ProfileStore]:
    """Small: everything that happens after hours happens at once: blocks are joined, chunks of
    nodes too, epochs end, what was used last is forgotten."""
    if request.param == "small":
        monkeypatch.setattr(log, "_JOINED", 2)
        monkeypatch.setattr(log, "_FULL_SAMPLES", 20)
        monkeypatch.setattr(dictionary, "_CHUNKS", 2)
        monkeypatch.setattr(dictionary, "_CHUNK_NODES", 4)
        monkeypatch.setattr(dictionary, "_EPOCH_NODES", 12)
        monkeypatch.setattr(recent, "_SETS", 1)
        monkeypatch.setattr(recent, "_WAYS", 2)
        monkeypatch.setattr(recent, "_PATHS", 2)
    return lambda: open_store().profiles


Open = Callable[[], EmbeddedStore]
DAY = 86400 * SECOND
MAIN = place("app", 1, ["main"])
ALL = ProfileQuery("cpu")


def again(store: EmbeddedStore, megabytes: float = 64, days: float = 30) -> EmbeddedStore:
    """The same files; to be closed by the caller."""
    store.close()
    return EmbeddedStore(
        store.directory, max_bytes=int(megabytes * (1 << 20)), max_age_seconds=days * 86400
    )


def sql(store: EmbeddedStore, query: str) -> int:
    """One number from the file."""
    with closing(sqlite3.connect(store.directory / "huatuo.db")) as db:
        return int(db.execute(query).fetchone()[0])


def different(number: int, stacks: int, depth: int = 10, at: int = START) -> Samples:
    """Stacks that nobody has seen, and functions with long names."""
    rng = np.random.default_rng(number)
    rows = []
    for stack in range(stacks):
        name = rng.bytes(40).hex()
        places = [place(f"lib{number}", stack * depth + n, [name]) for n in range(depth)]
        rows.append((at, 1 + number, [*places, MAIN], {"pid": str(number), "cpu": "0"}))
    return batch(rows)


class TestDictionary:
    def test_everything_stands_once(self, open_store: Open) -> None:
        store = open_store()
        deep = [place("deep", n, [f"f{n % 5}"]) for n in range(50)]
        for i in range(100):
            rows = [(START + i * SECOND, 1, deep[cut:], {}) for cut in range(50)]
            store.profiles.append(batch(rows))
        assert sql(store, "SELECT nodes FROM profile_epochs") == 1 + 50
        assert sql(store, "SELECT count(*) FROM profile_locations") == 50
        assert sql(store, "SELECT count(*) FROM profile_names") == 1 + 5
        assert sql(store, "SELECT total(nodes) FROM profile_nodes") == 50

    def test_it_goes_on_after_reopening(self, open_store: Open) -> None:
        store = open_store()
        for i in range(50):
            store.profiles.append(different(i % 10, 5))
        before = paths(store.profiles.merge(ALL))
        store = again(store)
        assert paths(store.profiles.merge(ALL)) == before
        nodes = sql(store, "SELECT nodes FROM profile_epochs")
        for i in range(10):
            store.profiles.append(different(i, 5))
        assert sql(store, "SELECT nodes FROM profile_epochs") == nodes
        expected = {path: value * 6 // 5 for path, value in before.items()}
        assert paths(store.profiles.merge(ALL)) == expected
        store.close()

    def test_large_and_small_chunks_of_nodes(
        self, open_store: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dictionary, "_CHUNK_NODES", 100)
        store = open_store()
        for i in range(100):
            store.profiles.append(different(i, 30 if i % 40 == 0 else 1))
        assert sql(store, "SELECT count(*) FROM profile_nodes") < 60
        assert len(store.profiles.merge(ALL).parent) == 2 + sum(
            300 if i % 40 == 0 else 10 for i in range(100)
        )
        assert sorted(set(store.profiles.merge(ALL).self_values.tolist())) == list(range(101))

    def test_an_epoch_ends_when_it_is_large(self, open_store: Open) -> None:
        store = again(open_store(), megabytes=4)  # a sixteenth for the dictionary of an epoch
        for i in range(20):
            store.profiles.append(different(i, 50))
            nodes = sql(store, "SELECT count(*) FROM profile_paths")
            assert nodes <= 4 << 20
        assert sql(store, "SELECT count(*) FROM profile_epochs") > 3
        assert sql(store, "SELECT count(*) FROM profile_paths") < 20 * 500
        store.close()

    def test_the_writer_remembers_little(self, open_store: Open) -> None:
        """However many stacks there are."""
        store = again(open_store(), megabytes=1024)
        for i in range(40):
            store.profiles.append(different(i, 100))
        paths_kept = store._samples._dictionary._paths
        assert len(paths_kept._young) + len(paths_kept._old) <= 2 * recent._PATHS
        assert sql(store, "SELECT count(*) FROM profile_paths") > 2 * recent._PATHS
        store.close()


class TestBlocks:
    def test_batches_become_large_blocks(self, open_store: Open) -> None:
        store = open_store()
        for i in range(600):
            store.profiles.append(batch([(START + i * SECOND, 1, [MAIN], {"i": str(i % 3)})] * 2))
        assert sql(store, "SELECT count(*) FROM profile_blocks") < 2 + 16 + 16
        assert sql(store, "SELECT total(samples) FROM profile_blocks") == 1200
        assert store.usage().samples == 1200

    def test_large_batches_are_not_joined_beyond_measure(
        self, open_store: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log, "_FULL_SAMPLES", 100)
        store = open_store()
        for i in range(100):
            store.profiles.append(batch([(START + i * SECOND, 1, [MAIN], {})] * (1 + i % 120)))
        assert sql(store, "SELECT max(samples) FROM profile_blocks") <= 120
        assert sql(store, "SELECT count(*) FROM profile_blocks WHERE level < 2") < 32
        assert store.profiles.merge(ALL).samples == sum(1 + i % 120 for i in range(100))

    def test_samples_of_one_clock_take_little_room(self, open_store: Open) -> None:
        store = open_store()
        rng = np.random.default_rng(1)
        for i in range(256):
            times = START + i * 10 * SECOND + np.sort(rng.integers(10 * SECOND, size=380))
            rows = [
                (int(at), 52_631_578, [place("app", int(n) % 50), MAIN], {"cpu": str(n % 2)})
                for at, n in zip(times, rng.zipf(1.5, 380) % 100, strict=True)
            ]
            store.profiles.append(batch(rows))
        size = sql(store, "SELECT sum(length(groups)) + sum(length(rows)) FROM profile_blocks")
        assert size < 3 * 256 * 380


class TestFiles:
    def old(self, directory: Path, max_bytes: int = 0) -> None:
        """As written before there were profiles."""
        database = Database(directory, embedded._SCHEMA[:1], max_bytes=max_bytes)
        writer = EmbeddedStore.__new__(EmbeddedStore)
        writer.directory = directory
        writer._setup()
        with database.write() as db:
            writer._events.append(db, [event(n) for n in range(10)])
        with database.write() as db:
            writer._history.append(db, START, [counter([1.0])])
        if max_bytes:
            with pytest.raises(sqlite3.OperationalError, match="full"), database.write() as db:
                while True:
                    db.execute("INSERT INTO recent (json) VALUES (zeroblob(2000))")
        database.close()
        assert version(directory) == 1

    @pytest.mark.parametrize("max_bytes", [0, 300_000], ids=["", "full"])
    def test_old_files_are_brought_up(self, tmp_path: Path, max_bytes: int) -> None:
        self.old(tmp_path, max_bytes)
        store = EmbeddedStore(tmp_path, max_bytes=max_bytes or 1 << 26, max_age_seconds=DAY)
        assert version(tmp_path) == len(embedded._SCHEMA)
        assert len(store.events(EventQuery())) == 10
        assert len(store.metrics(MetricQuery("huatuo_test_total"))) == 1
        store.profiles.append(batch([(START, 1, [MAIN], {})]))
        assert store.profiles.merge(ALL).samples == 1
        store.close()

    def test_old_files_are_not_read_by_others_until_then(self, tmp_path: Path) -> None:
        self.old(tmp_path)
        with pytest.raises(StoreError, match=r"older HUATUO.*when the agent"):
            EmbeddedStore.open_readonly(tmp_path)

    def test_reading_beside_the_agent(self, open_store: Open) -> None:
        store = open_store()
        store.profiles.append(different(1, 10))
        reader = EmbeddedStore.open_readonly(store.directory)
        assert reader.profiles.merge(ALL).samples == 10
        store.profiles.append(different(2, 10))
        assert reader.profiles.merge(ALL).samples == 20
        with pytest.raises(StoreError, match="reading only"):
            reader.profiles.append(different(3, 1))
        reader.close()

    def test_flipped_bits_are_noticed(self, open_store: Open) -> None:
        store = open_store()
        for i in range(600):
            rows = [(START + i * SECOND, 1, [place("app", i % 100), MAIN], {})]
            store.profiles.append(batch(rows))
        with store._database.write() as db:
            for table, column, at in (
                ("profile_blocks", "groups", 0),
                ("profile_blocks", "rows", 1),
                ("profile_nodes", "data", 0),
            ):
                row, data = db.execute(
                    f"SELECT id, {column} FROM {table} ORDER BY id LIMIT 1 OFFSET ?", (at,)
                ).fetchone()
                broken = bytearray(data)
                broken[len(data) // 2] ^= 0x10
                db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (broken, row))
        profile = store.profiles.merge(ALL)
        assert 0 < profile.samples < 600
        assert profile.samples == profile.total
        assert "[unreadable]" in {location.mapping for location in profile.locations}
        query = ProfileQuery("cpu", START, START + 600 * SECOND)
        (series,) = store.profiles.series(query, 600 * SECOND)
        assert 0 < series.values.sum() < profile.samples
        notices = store.usage().notices
        assert len(notices) == 2
        assert all("cannot be read" in notice for notice in notices)
        for i in range(600, 1200):  # and joining what is damaged
            store.profiles.append(batch([(START + i * SECOND, 1, [MAIN], {})]))
        assert store.profiles.merge(ALL).samples > 600


def version(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "huatuo.db")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


class TestRetention:
    TABLES = ("blocks", "epochs", "nodes", "locations", "names", "paths")

    def rows(self, store: EmbeddedStore) -> dict[str, int]:
        return {name: sql(store, f"SELECT count(*) FROM profile_{name}") for name in self.TABLES}

    def test_the_dictionary_goes_with_the_last_samples(self, open_store: Open) -> None:
        store = open_store()
        for i in range(10):
            store.profiles.append(different(i, 20))
        old = self.rows(store)
        later = START + 2 * DAY
        store.profiles.append(different(100, 20, at=later))
        store.expire(START + 31 * DAY)
        kept = self.rows(store)
        assert kept["epochs"] == kept["blocks"] == kept["nodes"] == 1
        assert kept["locations"] < old["locations"] / 5
        assert kept["names"] < old["names"] / 5
        assert paths(store.profiles.merge(ALL)) == paths(reference(different(100, 20, at=later)))
        assert store.usage().oldest_ns == later
        store.expire(START + 60 * DAY)
        assert set(self.rows(store).values()) == {0}
        assert store.usage().samples == 0

    @pytest.mark.parametrize("gone", ["by age", "by size"])
    def test_the_writer_goes_on_after_its_dictionary_went(
        self, open_store: Open, gone: str
    ) -> None:
        store = open_store()
        same = different(1, 300, depth=40)
        store.profiles.append(same)
        if gone == "by age":
            store.expire(START + 60 * DAY)
        else:
            store._shrink(by=200_000)  # a part of it only
            assert 0 < sql(store, "SELECT count(*) FROM profile_locations") < 300 * 40
        assert store.profiles.merge(ALL).samples == 0
        store.profiles.append(same)
        assert paths(store.profiles.merge(ALL)) == paths(reference(same))
        store = again(store)
        store.profiles.append(same)
        assert store.profiles.merge(ALL).total == 2 * reference(same).total
        store.expire(START)
        assert sql(store, "SELECT count(*) FROM profile_epochs") == 1
        store.close()

    def test_size_keeps_the_newest(self, open_store: Open) -> None:
        store = again(open_store(), megabytes=6)
        for i in range(120):
            store.profiles.append(different(i, 50, at=START + i * 600 * SECOND))
            store.append_events([event(i * 600 + n) for n in range(20)])
            if i % 5 == 0:
                store.expire(START + i * 600 * SECOND)
                assert store.usage().bytes <= 10 << 20  # and the WAL
        found = store.profiles.merge(ALL)
        kept = sorted(int(at) for at in store.profiles.labels(ALL)["pid"])
        assert 5 < len(kept) < 100
        assert kept == list(range(120))[-len(kept) :]
        assert found.samples == 50 * len(kept)
        assert "[unreadable]" not in {location.mapping for location in found.locations}
        usage = store.usage()
        assert (usage.lost_samples, usage.lost_events) == (0, 0)
        oldest_event = store.events(EventQuery(limit=10_000))[-1].fields["serial"]
        assert abs(oldest_event - kept[0] * 600) < 2 * 16 * 600  # two blocks: neither pays alone
        assert (store.directory / "huatuo.db").stat().st_size <= 6 << 20
        store.close()


def reference(samples: Samples) -> Profile:
    model = MemoryProfiles()
    model.append(samples)
    return model.merge(ProfileQuery(samples.type))


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[Path]:
        yield from small_disk(tmp_path)

    def test_newest_is_kept(self, disk: Path) -> None:
        store = EmbeddedStore(disk, max_bytes=1 << 30, max_age_seconds=DAY)
        for i in range(400):
            if i == 20:
                (disk / "others").write_bytes(bytes(8 << 20))
            store.profiles.append(different(i, 60, at=START + i * SECOND))
        kept = sorted(int(at) for at in store.profiles.labels(ALL)["pid"])
        assert kept == list(range(400))[-len(kept) :]
        assert 50 < len(kept) < 390
        assert store.usage().lost_samples == 0
        assert any("the oldest data goes" in notice for notice in store.usage().notices)
        store.close()
        store = EmbeddedStore(disk, max_bytes=1 << 30, max_age_seconds=DAY)
        assert store.profiles.merge(ALL).samples == 60 * len(kept)
        store.close()

    def test_no_room_at_all_is_counted_and_survived(self, disk: Path) -> None:
        store = EmbeddedStore(disk, max_bytes=1 << 30, max_age_seconds=DAY)
        for i in range(30):  # whatever we give up, another takes
            with (disk / "others").open("ab", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            store.profiles.append(different(i, 50, at=START + i * SECOND))
            store.profiles.set_lines({MAIN: (Line(f"main{i}"),)})
        lost = store.usage().lost_samples
        assert 0 < lost <= 30 * 50
        assert lost % 50 == 0
        (disk / "others").unlink()
        last = different(30, 50, at=START + 30 * SECOND)
        store.profiles.append(last)
        since = ProfileQuery("cpu", START + 30 * SECOND)
        assert paths(store.profiles.merge(since)) == paths(reference(last))
        store.close()
