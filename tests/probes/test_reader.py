"""What all readers owe, whatever they read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.kernel.host import Host
from huatuo.probes.base import discover
from huatuo.probes.reader import Reader, Reading, counter, gauge

READERS = {name: cls for name, cls in discover().items() if issubclass(cls, Reader)}
THINGS = counter("things", "things that were counted", "kind")
LEVEL = gauge("level", "a level")


class Example(Reader):
    """Two parts, of which the second may fail in a given way."""

    failure: Exception | float = 5.0

    def parts(self) -> Iterator[Iterator[Reading]]:
        yield iter([(THINGS, ("a",), 1), (THINGS, ("b",), 2)])
        yield self._level()

    def _level(self) -> Iterator[Reading]:
        yield THINGS, ("c",), 3
        if isinstance(self.failure, Exception):
            raise self.failure
        yield LEVEL, (), self.failure


def collected(probe: Reader) -> dict[str, int]:
    return {metric.name.rpartition("reader_")[2]: len(metric) for metric in probe.collect()}


def test_families_are_put_together_from_all_parts() -> None:
    probe = Example(Host())
    assert collected(probe) == {"things_total": 3, "level": 1}
    assert probe.collect_errors == 0


@pytest.mark.parametrize("failure", [-1.0, float("nan"), float("inf"), 1e300, ValueError("bad")])
def test_a_bad_part_is_skipped_as_a_whole_and_counted(failure: Exception | float) -> None:
    probe = Example(Host())
    probe.failure = failure
    assert collected(probe) == {"things_total": 2}
    assert probe.collect_errors == 1


@pytest.mark.parametrize(
    ("failure", "errors"), [(FileNotFoundError(2, ""), 0), (OSError(5, ""), 1)]
)
def test_what_is_gone_is_no_error(failure: Exception, errors: int) -> None:
    probe = Example(Host())
    probe.failure = failure
    assert collected(probe) == {"things_total": 2}
    assert probe.collect_errors == errors


@pytest.mark.parametrize("name", READERS)
def test_an_empty_host_gives_a_reason_and_no_samples(name: str, tmp_path: Path) -> None:
    host = Host(proc=tmp_path / "proc", sys=tmp_path / "sys", root=tmp_path)
    assert READERS[name].unavailable(host)


@pytest.mark.parametrize("name", READERS)
def test_hooks_are_what_it_reads(name: str) -> None:
    cls = READERS[name]
    if missing := cls.unavailable(Host()):
        pytest.skip(missing)
    assert all(cls(Host()).hooks)
