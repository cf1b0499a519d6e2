"""Worker processes: what they yield, how they end, what they may not."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huatuo.kernel import worker
from huatuo.kernel.worker import Limits, Outcome, Worker

MODULE = '''
"""What tests let workers do: put below huatuo, since workers run nothing else."""
import os, resource, time
from huatuo.kernel.worker import allow_cpu, give_up_privileges
def report(text, fd):
    os.write(fd, text.encode())
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    yield {"nice": os.nice(0), "core": core, "pid": os.getpid()}
    yield "second"
def burn(seconds=1000):
    yield "began"
    end = time.process_time() + seconds
    while time.process_time() < end: pass
    yield "ended"
def burn_on():
    allow_cpu(60)
    yield from burn(2)
def sleep():
    yield "began"
    time.sleep(1000)
def eat():
    yield "began"
    blocks = [bytearray(1 << 20) for _ in range(10_000)]
    yield len(blocks)
def fill(fd):
    yield "began"
    while True: os.write(fd, bytes(1 << 16))
def fail():
    yield "began"
    raise ValueError("no such luck")
def die():
    yield "began"
    os.kill(os.getpid(), 11)
def chatter():
    os.write(2, b"x" * 200_000)
    yield "said"
def lie(what):
    os.write(1, bytes.fromhex(what))
    yield "truth"
def lower():
    give_up_privileges()
    yield [os.geteuid(), os.getegid(), os.getgroups()]
    with open("/proc/self/status") as status:
        yield [line.split()[1] for line in status if line.startswith("CapEff")][0]
'''


@pytest.fixture(scope="module")
def jobs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Callable[..., Iterator[object]]]]:
    """jobs("burn"): a function of the module above, which workers find as huatuo.jobs."""
    directory = tmp_path_factory.mktemp("jobs")
    package = directory / "huatuo"
    package.mkdir()
    source = Path(worker.__file__).parents[1]
    (package / "__init__.py").write_text(f"__path__.append({str(source)!r})\n")
    (package / "jobs.py").write_text(MODULE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{directory}:{before or ''}"

    def named(name: str) -> Callable[..., Iterator[object]]:
        def function() -> Iterator[object]:
            yield None

        function.__module__, function.__qualname__ = "huatuo.jobs", name
        return function

    yield named
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


Jobs = Callable[[str], Callable[..., Iterator[object]]]


def outcome(running: Worker, seconds: float = 30) -> Outcome:
    deadline = time.monotonic() + seconds
    while (found := running.poll()) is None:
        assert time.monotonic() < deadline, "the worker did not end"
        time.sleep(0.01)
    assert running.poll() is found
    return found


def test_results_and_descriptors(jobs: Jobs, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as file:
        running = Worker(jobs("report"), {"text": "héllo", "fd": file.fileno()}, [file.fileno()])
        pid = running.pid
        found = outcome(running)
        file.seek(0)
        assert file.read() == "héllo".encode()
    assert found.problem == ""
    assert found.results == [{"nice": 19, "core": 0, "pid": pid}, "second"]
    assert found.cpu_seconds > 0
    assert 1 << 20 < found.peak_bytes < 1 << 30
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reaped


def test_limit_of_cpu_time(jobs: Jobs) -> None:
    found = outcome(Worker(jobs("burn"), {}, limits=Limits(cpu_seconds=1)))
    assert (found.results, found.problem) == (["began"], "used too much CPU time")
    assert 0.5 < found.cpu_seconds < 3  # stolen time is deducted from it


def test_more_cpu_time_for_the_next_thing(jobs: Jobs) -> None:
    found = outcome(Worker(jobs("burn_on"), {}, limits=Limits(cpu_seconds=1)))
    assert (found.results, found.problem) == (["began", "ended"], "")


def test_limit_of_time(jobs: Jobs) -> None:
    found = outcome(Worker(jobs("sleep"), {}, limits=Limits(wall_seconds=1)))
    assert (found.results, found.problem) == (["began"], "took too long")
    assert 0.9 < found.wall_seconds < 10


def test_limit_of_memory(jobs: Jobs) -> None:
    found = outcome(Worker(jobs("eat"), {}, limits=Limits(memory_bytes=200 << 20)))
    assert found.results == ["began"]
    assert "MemoryError" in found.problem
    assert found.peak_bytes < 300 << 20


def test_limit_of_file_size(jobs: Jobs, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as file:
        arguments = {"fd": file.fileno()}
        found = outcome(
            Worker(jobs("fill"), arguments, [file.fileno()], Limits(file_bytes=1 << 20))
        )
    assert found.results == ["began"]
    assert "File too large" in found.problem
    assert (tmp_path / "out").stat().st_size == 1 << 20


def test_exceptions_and_signals(jobs: Jobs) -> None:
    failed, died = outcome(Worker(jobs("fail"), {})), outcome(Worker(jobs("die"), {}))
    assert (failed.results, failed.problem) == (["began"], "ValueError: no such luck")
    assert (died.results, died.problem) == (["began"], "was killed by SIGSEGV")


def test_chatter_does_not_block(jobs: Jobs) -> None:
    assert outcome(Worker(jobs("chatter"), {})).results == ["said"]


@pytest.mark.parametrize(
    "what", [b"{{{\n", b"[" * 30_000 + b"\n", b"\xff\xfe\n", b"\0\n", b"{}\n", b"[1, 2]\n"]
)
def test_results_that_make_no_sense(jobs: Jobs, what: bytes) -> None:
    found = outcome(Worker(jobs("lie"), {"what": what.hex()}))
    assert found.results == []
    assert found.problem == "its results cannot be read"


def test_only_functions_of_ours() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "huatuo.kernel.worker", "os:system", "[1, 1, 1, 1]", "{}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode != 0
    assert "os:system is none of ours" in found.stderr


def test_privileges_are_given_up(jobs: Jobs) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has something to give up")
    found = outcome(Worker(jobs("lower"), {}))
    assert found.results == [[65534, 65534, []], "0000000000000000"]


def test_killed_at_once(jobs: Jobs) -> None:
    running = Worker(jobs("sleep"), {})
    assert running.poll() is None
    assert "SIGKILL" in running.kill().problem


def test_in_a_loop(jobs: Jobs) -> None:
    async def agent() -> tuple[Outcome, int]:
        running, turns = asyncio.create_task(Worker(jobs("burn"), {"seconds": 0.5}).outcome()), 0
        while not running.done():
            await asyncio.sleep(0.01)
            turns += 1
        return running.result(), turns

    found, turns = asyncio.run(agent())
    assert found.results == ["began", "ended"]
    assert turns > 10


def test_in_a_loop_with_a_limit_of_time(jobs: Jobs) -> None:
    found = asyncio.run(Worker(jobs("sleep"), {}, limits=Limits(wall_seconds=1)).outcome())
    assert found.problem == "took too long"


def test_it_ends_by_itself_if_nobody_looks(jobs: Jobs) -> None:
    """The agent may have been killed: the process has an alarm of its own."""
    running = Worker(jobs("sleep"), {}, limits=Limits(wall_seconds=1))
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    found = outcome(running)
    assert found.problem == f"was killed by {signal.Signals.SIGALRM.name}"


@pytest.mark.parametrize("turns", range(8))
def test_a_wait_that_is_cancelled_just_as_the_worker_ends_is_cancelled(
    jobs: Jobs, turns: int
) -> None:
    """After so many turns of the event loop since the end, whichever of them learns of it."""

    async def cancelled() -> bool:
        running = Worker(jobs("sleep"), {})
        waiting = asyncio.create_task(running.outcome())
        await asyncio.sleep(0.05)
        os.kill(running.pid, signal.SIGKILL)
        select.select([running], [], [], 30)
        for _ in range(turns):
            await asyncio.sleep(0)
        was_told = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting], timeout=30)
        running.kill()
        return was_told or waiting.cancelled()

    assert asyncio.run(cancelled())
