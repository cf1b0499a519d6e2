"""task.state against tasks in known states, sleeps of known length and known holders of locks."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.enricher import Enricher
from huatuo.enrich.symbols.kernel import KernelSymbols
from huatuo.model.event import Event
from huatuo.probes.task.state import State
from tests.live import disk
from tests.live.conftest import HOST, Group, cgroup, disturbed, events, metric, need, row, running
from tests.live.profiling import compiled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MS = 1_000_000
SECOND = 1000 * MS
BY_HAND = {"scan_interval": 3600 * SECOND, "block_threshold": 3600 * SECOND}
DISPOSABLE = os.environ.get("HUATUO_DISPOSABLE_HOST") == "1"

SLEEPING = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
SPINNING = "print('ready', flush=True)\nwhile True: pass"
UNREAPED = "import os,time\nif not os.fork(): os._exit(0)\ntime.sleep(.3)\n" + SLEEPING
THREADED = (
    """
import threading, time
for _ in range(7): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
files = [open("/dev/null") for _ in range(37)]
"""
    + SLEEPING
)


@pytest.fixture(scope="module")
def sleepers(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled(tmp_path_factory.mktemp("sleepers"), "sleepers.c", "-O1", "-pthread")


@contextmanager
def started(group: Group, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A program in the container that has printed its first line; killed in the end."""
    with group.start(argv) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, "it did not start"
        process.first_line = line  # type: ignore[attr-defined]
        yield process
        process.kill()


def python(group: Group, code: str, *argv: str) -> object:
    return started(group, sys.executable, "-c", code, *argv)


def states(probe: State, group: Group) -> dict[str, int]:
    found = metric(probe, "huatuo_task_state_tasks")
    at = row(found, container=group.id).tolist()
    return {str(found.labels["state"].values[i]): int(found.values[i]) for i in at}


def value(probe: State, name: str, group: Group) -> float:
    found = metric(probe, f"huatuo_task_state_{name}")
    return float(found.values[row(found, container=group.id)].sum())


def proc_states(group: Group) -> dict[str, int]:
    """State letters of all threads in a container, from /proc."""
    found: dict[str, int] = {}
    for pid in (group.directory / "cgroup.procs").read_text().split():
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            letter = stat.read_text().rpartition(")")[2].split()[0]
            found[letter] = found.get(letter, 0) + 1
    return found


def test_tasks_are_counted_by_what_they_do(sleepers: str) -> None:
    """Two spin, eight threads and one process sleep, one is stopped, one is a zombie, two are
    uninterruptible; /proc says so too."""
    with ExitStack() as stack:
        group = stack.enter_context(cgroup("states"))
        for code in (SPINNING, SPINNING, SLEEPING, THREADED, UNREAPED):
            stack.enter_context(python(group, code))  # type: ignore[arg-type]
        stopped = stack.enter_context(python(group, SLEEPING))  # type: ignore[arg-type]
        stopped.send_signal(signal.SIGSTOP)
        stack.callback(stopped.send_signal, signal.SIGCONT)
        for _ in range(2):
            stack.enter_context(started(group, sleepers, "vfork", "20000"))
        probe = stack.enter_context(running(State, **BY_HAND))
        time.sleep(0.5)
        probe.look()
        ours, theirs = states(probe, group), proc_states(group)
        processes = value(probe, "processes", group)
    assert ours.pop("running", 0) + ours.pop("runnable", 0) == theirs["R"] == 2
    # those of THREADED, its main thread, SLEEPING, UNREAPED, and the two children of vfork
    assert ours == {"sleeping": 12, "stopped": 1, "zombie": 1, "blocked": 2}
    assert (theirs["S"], theirs["T"], theirs["D"]) == (12, 1, 2)
    assert processes == 10  # five, stopped, two and their children


def test_descriptors_are_those_of_proc() -> None:
    """Few and many; of more than 4096 only full words of 64 count."""
    many = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (30000, 30000))\n"
    many += "files = [open('/dev/null') for _ in range(20000)]\n" + SLEEPING
    for code, slack in ((THREADED, 0), (many, 63)):
        with (
            cgroup("descriptors") as group,
            running(State, **BY_HAND) as probe,
            python(group, code) as process,  # type: ignore[attr-defined]
        ):
            probe.look()
            expected = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
            found = value(probe, "descriptors", group)
        assert expected - slack <= found <= expected


def test_load_of_a_container_is_averaged_as_the_kernel_does(sleepers: str) -> None:
    """Three tasks that always want a CPU and two in state D for six seconds, ten looks a second."""
    settings = BY_HAND | {"scan_interval": 100 * MS}
    with ExitStack() as stack:
        group = stack.enter_context(cgroup("load"))
        for _ in range(3):
            stack.enter_context(python(group, SPINNING))  # type: ignore[arg-type]
        for _ in range(2):
            stack.enter_context(started(group, sleepers, "vfork", "60000"))
        probe = stack.enter_context(running(State, **settings))
        began = time.monotonic()
        time.sleep(6)
        averages = {name: value(probe, f"load_average_{name}", group) for name in ("1m", "5m")}
        blocked = value(probe, "blocked_average_1m", group)
        seconds = time.monotonic() - began
    for found, tasks, minutes in ((averages["1m"], 5, 1), (averages["5m"], 5, 5), (blocked, 2, 1)):
        expected = tasks * (1 - math.exp(-seconds / (60 * minutes)))
        assert found == pytest.approx(expected, rel=0.1)


def functions(stack: npt.NDArray[np.uint64]) -> str:
    return " ".join(KernelSymbols(HOST).stack(stack.tolist()))


@pytest.mark.parametrize(("kind", "place"), [("mutex", "pipe_write"), ("rwsem", "file_write")])
def test_who_sleeps_for_long_is_told_with_the_holder_of_the_lock(
    sleepers: str, kind: str, place: str
) -> None:
    """A waits for a lock that B holds while it is stuck: told after one second, not before, and
    again after four; with B's name and what it does."""
    settings = BY_HAND | {"block_threshold": SECOND, "scan_interval": 200 * MS}
    with (
        cgroup(f"holder-{kind}") as group,
        running(State, **settings) as probe,
        started(group, sleepers, kind, "6000") as process,
    ):
        holder, holder_tid, waiter = map(int, process.first_line.split())  # type: ignore[attr-defined]
        began = time.monotonic_ns()
        assert not len(mine(events(probe, "blocked_tasks", 0.7), waiter))
        batches = []
        while time.monotonic_ns() - began < 5.5 * SECOND:
            batches += [b for b in probe.drain() if b.ring == "blocked_tasks"]
            time.sleep(0.1)
        rows = mine(np.concatenate([batch.rows for batch in batches]), waiter)
        said = [event for batch in batches for event in described(probe, batch)]
        assert (rows["cgroup"] == group.id).all()
        assert (rows["holder_cgroup"] == group.id).all()
    assert len(rows) == 2
    slack = (1500 if disturbed() else 400) * MS
    assert SECOND <= rows["blocked"][0] < SECOND + slack
    assert 4 * SECOND <= rows["blocked"][1] < 4 * SECOND + 2 * slack
    ago = rows["time"].astype(np.int64) - began
    assert (np.abs(rows["blocked"].astype(np.int64) - ago) < 300 * MS).all() or disturbed()
    assert (rows["tid"] == waiter).all()
    assert (rows["killable"] == 0).all()
    assert (rows["holder_tgid"] == holder).all()
    assert (rows["holder_tid"] == holder_tid).all()
    assert (rows["holder_comm"] == b"holder").all()
    locks = probe_labels(State, "blocked_tasks", "lock")
    assert {locks[int(lock)] for lock in rows["lock"]} <= {"unknown", kind, f"{kind}_write"}
    assert place in functions(rows["stack"][0])
    event = next(event for event in said if event.process and event.process.pid == waiter)
    assert f"holder[{holder}] holds a" in event.title
    if Path("/proc/self/stack").exists():
        assert any("handle_userfault" in frame for frame in event.fields["holder_stack"])


def mine(rows: npt.NDArray[np.void], tid: int) -> npt.NDArray[np.void]:
    return rows[rows["tid"] == tid]


def probe_labels(cls: type[State], ring: str, name: str) -> Mapping[int, str]:
    return cls.event_schemas()[ring].field(name).labels


def described(probe: State, batch: object) -> list[Event]:
    return Enricher(HOST, Inventory(HOST)).events(batch, type(probe))  # type: ignore[arg-type]


@contextmanager
def frozen_file_system(folder: Path) -> Iterator[None]:
    """An ext4 that lets nobody write."""
    need(shutil.which("mkfs.ext4") and shutil.which("fsfreeze"), "no mkfs.ext4 or fsfreeze")
    with disk.loop() as device:
        subprocess.run(["mkfs.ext4", "-q", device.path], check=True)
        subprocess.run(["mount", device.path, folder], check=True)
        try:
            subprocess.run(["fsfreeze", "--freeze", folder], check=True)
            try:
                yield
            finally:
                subprocess.run(["fsfreeze", "--unfreeze", folder], check=True)
        finally:
            for _ in range(50):  # until the writers are through
                if subprocess.run(["umount", folder], check=False).returncode == 0:
                    break
                time.sleep(0.1)


def test_a_pile_up_on_a_frozen_file_system(tmp_path: Path) -> None:
    """Three writers wait for an ext4 that is frozen: all three are told, with the place."""
    settings = BY_HAND | {"block_threshold": 500 * MS, "scan_interval": 200 * MS}
    with cgroup("frozen") as group, running(State, **settings) as probe, ExitStack() as stack:
        with frozen_file_system(tmp_path):
            writers = [
                stack.enter_context(group.start(["touch", str(tmp_path / str(number))]))
                for number in range(3)
            ]
            rows = events(probe, "blocked_tasks", 2.0)
            counted = states(probe, group)
        for writer in writers:
            assert writer.wait(10) == 0
        rows = rows[rows["cgroup"] == group.id]
    assert set(rows["tgid"].tolist()) == {writer.pid for writer in writers}
    assert counted == {"blocked": 3}
    assert (rows["holder_tgid"] == 0).all(), "nobody holds that lock"
    for found in rows:
        assert "percpu_rwsem" in functions(found["stack"]) or "mnt_want_write" in functions(
            found["stack"]
        )


def test_what_the_kernel_reports_as_hung(sleepers: str) -> None:
    need(DISPOSABLE, "changes kernel.hung_task_timeout_secs: in VMs of the matrix only")
    timeout = Path("/proc/sys/kernel/hung_task_timeout_secs")
    need(timeout.exists(), "this kernel looks for no hung tasks")
    before = timeout.read_text()
    with (
        cgroup("hung") as group,
        running(State, **BY_HAND) as probe,
        started(group, sleepers, "mutex", "14000") as process,
    ):
        holder, _, waiter = map(int, process.first_line.split())  # type: ignore[attr-defined]
        timeout.write_text("3")
        try:
            rows = mine(events(probe, "hung_tasks", 12), waiter)
        finally:
            timeout.write_text(before)
        assert (rows["cgroup"] == group.id).all()
    assert len(rows) >= 1
    assert 3 * SECOND <= rows["blocked"][0] < 12 * SECOND
    assert rows["holder_tgid"][0] == holder
    assert "pipe_write" in functions(rows["stack"][0])


OPENING = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
files = [open("/dev/null") for _ in range(60)]
print("ready", flush=True)
for line in sys.stdin:
    wanted = int(line)
    while len(files) > wanted: files.pop().close()
    while len(files) < wanted: files.append(open("/dev/null"))
    print("done", flush=True)
"""


def test_a_process_that_may_open_few_more_files_is_told_once() -> None:
    """Of 100 files 63 are open: nothing; 93: told; 95: not again; after 33, at 93: again."""
    with (
        cgroup("files") as group,
        running(State, **BY_HAND) as probe,
        subprocess.Popen(
            [sys.executable, "-c", OPENING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        (group.directory / "cgroup.procs").write_text(str(process.pid))
        process.stdout.readline()
        told = []
        for count in (60, 90, 92, 30, 90):
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
            process.stdout.readline()
            probe.look()
            rows = events(probe, "descriptors_short")
            rows = rows[rows["tgid"] == process.pid]
            told.append(rows["open"].tolist())
            assert (rows["limit"] == 100).all()
            assert (rows["cgroup"] == group.id).all()
        process.kill()
    assert told == [[], [93], [], [], [93]]


def test_a_host_that_may_open_few_more_files_is_told_once() -> None:
    need(DISPOSABLE, "changes fs.file-max: in VMs of the matrix only")
    limit = Path("/proc/sys/fs/file-max")
    before = limit.read_text()
    with running(State, **BY_HAND) as probe:
        used = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
        limit.write_text(str(int(used * 1.05)))
        try:
            rows = np.concatenate([events(probe, "descriptors_short") for _ in range(3)])
        finally:
            limit.write_text(before)
        assert not len(events(probe, "descriptors_short"))
        account = probe.account()
    (found,) = rows[rows["tgid"] == 0]
    assert found["limit"] == int(used * 1.05)
    assert found["open"] > 0.9 * used
    assert account.produced == account.delivered
