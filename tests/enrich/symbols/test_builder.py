"""Workers that fail, in every way there is: what is tried again, given up, and never blamed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from huatuo.enrich.symbols import builder
from huatuo.enrich.symbols.binary import BinaryFile, Identity
from huatuo.enrich.symbols.build import Effort, Plan
from huatuo.enrich.symbols.builder import Builder, SymbolSettings
from huatuo.enrich.symbols.cache import Cache
from huatuo.enrich.symbols.table import Source
from huatuo.kernel.worker import Outcome
from tests.enrich.symbols.toolchain import binary_file

Compile = Callable[..., Path]


class FakeWorker:
    """Ends at once, with what `script` says of the plan it was given."""

    script: Callable[[Plan], tuple[list[object], str, float]]
    plans: list[Plan]

    def __init__(self, _function: object, arguments: dict[str, Plan], *_rest: object) -> None:
        self.plan = msgspec.convert(arguments["plan"], Plan)
        type(self).plans.append(self.plan)

    def poll(self) -> Outcome:
        results, problem, cpu = type(self).script(self.plan)
        return Outcome(results, problem, cpu, 0.0, 0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    FakeWorker.plans = []
    monkeypatch.setattr(builder, "Worker", FakeWorker)
    return FakeWorker


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 20)


@pytest.fixture
def made(cache: Cache) -> Iterator[Builder]:
    made = Builder(cache, Path("/"), SymbolSettings())
    yield made
    made.close()


def files(tmp_path: Path, count: int, size: int = 100) -> list[BinaryFile]:
    found = []
    for index in range(count):
        path = tmp_path / f"file{index}"
        path.write_bytes(b"x" * size)
        found.append(BinaryFile(Identity(1, index, size), str(path), path))
    return found


def drive(made: Builder, rounds: int = 30) -> list[str]:
    done: list[str] = []
    for _ in range(rounds):
        done += made.poll()
    return done


def test_a_file_that_kills_workers_is_given_up_after_three_tries(
    made: Builder, fake: type[FakeWorker], tmp_path: Path, cache: Cache
) -> None:
    fake.script = staticmethod(lambda _: ([{"at": 0}], "was killed by SIGABRT", 0.1))
    [file] = files(tmp_path, 1)
    assert made.want("key", file)
    assert drive(made) == ["key"]
    assert [plan.requests[0].effort for plan in fake.plans] == [
        Effort.ALL, Effort.NO_LINES, Effort.NO_NAMES,
    ]  # fmt: skip
    assert (made.counts.failed, made.counts.workers, len(made)) == (1, 3, 0)
    table, build = cache.open("key")
    assert table is not None
    assert (table.sources, build) == (Source.FAILED, False)
    assert [path.suffix for path in cache.directory.iterdir()] == [".sym"]


def test_the_file_it_was_at_is_blamed_and_the_others_are_not(
    made: Builder, fake: type[FakeWorker], tmp_path: Path
) -> None:
    def script(plan: Plan) -> tuple[list[object], str, float]:
        paths = [request.path[-1] for request in plan.requests]
        results: list[object] = [{"at": index} for index in range(len(paths))]
        for index, name in enumerate(paths):
            results.append({"at": index})
            if name == "1":
                return results, "took too long", 0.1
            results.append({"failed": index, "why": "no file of that kind"})
        return results, "", 0.1

    fake.script = staticmethod(script)
    for index, file in enumerate(files(tmp_path, 4)):
        assert made.want(f"key{index}", file)
    assert sorted(drive(made)) == ["key0", "key1", "key2", "key3"]
    alone = [plan for plan in fake.plans if len(plan.requests) == 1]
    assert {plan.requests[0].path[-1] for plan in alone} == {"1"}


def test_a_worker_that_does_not_begin_blames_nobody(
    made: Builder, fake: type[FakeWorker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.script = staticmethod(lambda _: ([], "ImportError: no module named numpy", 0.1))
    [file] = files(tmp_path, 1)
    assert made.want("key", file)
    assert drive(made) == []
    assert made.poll(in_haste=True) == []
    assert (len(fake.plans), made.counts.failed, len(made)) == (1, 0, 1)  # and not in a loop
    assert "no module named numpy" in caplog.text


@pytest.mark.parametrize(
    "results",
    [
        [{"at": 0}, {"built": 0, "sources": 1}],  # but the file is empty
        [{"at": 0}, {"built": 7}, {"failed": -1, "why": "x"}, {"at": "x"}, 5, None, [{}]],
        [{"at": 0}, {"failed": 0, "why": 5}],
    ],
)  # fmt: skip
def test_workers_that_lie_are_not_believed(
    made: Builder, fake: type[FakeWorker], tmp_path: Path, results: list[object]
) -> None:
    fake.script = staticmethod(lambda _: (results, "", 0.1))
    [file] = files(tmp_path, 1)
    assert made.want("key", file)
    assert drive(made) == ["key"]
    assert (made.counts.failed, made.counts.built) == (1, 0)


def test_small_files_go_together_large_ones_alone(
    made: Builder, fake: type[FakeWorker], tmp_path: Path
) -> None:
    fake.script = staticmethod(
        lambda plan: ([{"failed": i, "why": "x"} for i in range(len(plan.requests))], "", 0.1)
    )
    large = tmp_path / "large"
    large.write_bytes(b"")
    os.truncate(large, 9 << 20)
    for index, file in enumerate(files(tmp_path, 20)):
        assert made.want(f"key{index}", file)
        if index == 2:
            assert made.want("large", BinaryFile(Identity(1, 99, 9 << 20), "/large", large))
    assert len(drive(made)) == 21
    assert [len(plan.requests) for plan in fake.plans] == [16, 1, 4]


def test_their_share_of_the_cpu_is_limited(
    made: Builder, fake: type[FakeWorker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    fake.script = staticmethod(lambda _: ([{"at": 0}, {"failed": 0, "why": "x"}], "", 50.0))
    built = []
    for _hour in range(4):
        for _ in range(36_000):
            clock[0] += 0.1
            if len(made) < 10:
                path = tmp_path / f"{len(fake.plans)}-{len(made)}-{clock[0]}"
                path.write_bytes(b"x")
                made.want(str(path), BinaryFile(Identity(1, 1, 1), str(path), path))
                path.unlink()
            made.poll()
        built.append(len(fake.plans) * 50.0)
    first, *_, last = built
    assert 120 + 50 + 3600 * 0.05 >= first >= 120 + 3600 * 0.05 - 50
    assert (last - first) / (3 * 3600) == pytest.approx(0.05, rel=0.1)


def test_no_disk_no_processes(
    made: Builder, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(builder, "Worker", refuse)
    [file] = files(tmp_path, 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert made.want("key", file)
    assert drive(made) == []
    assert len(made) == 1
    made.close()
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 1
    assert list(cache.directory.iterdir()) == []


def test_descriptors_are_closed(cache: Cache, compiled: Compile) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = Builder(cache, Path("/"), SymbolSettings())
    for source in ("shapes.c", "shapes.cpp"):
        assert made.want(source, binary_file(compiled(source)))
    done: list[str] = []
    while len(done) < 2:
        done += made.poll()
        made.wait(5)
    made.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_too_many_are_not_taken(made: Builder, tmp_path: Path, fake: type[FakeWorker]) -> None:
    fake.script = staticmethod(lambda _: ([{"at": 0}], "", 0.1))
    taken = [made.want(f"key{i}", file) for i, file in enumerate(files(tmp_path, 300))]
    assert taken == [True] * 256 + [False] * 44
    assert made.counts.refused == 44
