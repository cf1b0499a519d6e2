"""block.files and `huatuo io` beside /proc/PID/io and the disk's own counters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huatuo.enrich.enricher import path_of
from huatuo.model.event import Event
from huatuo.probes.block.files import MODES, Files
from tests.live.conftest import Group, cgroup, disturbed, running
from tests.live.disk import Disk, loop, mounted, scsi_debug, told
from tests.live.stall import stall

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

MIB = 1 << 20
STALL_MS = 20


@dataclass
class Did:
    """What /proc/PID/io and comm say of a process at its end."""

    pid: int
    read_bytes: int
    write_bytes: int
    comm: str


# Runs code of the test's, then says what /proc counted for itself.
CHILD = """
import mmap, os, sys
path, size = sys.argv[1], int(sys.argv[2])
{code}
io = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
comm = open("/proc/self/comm").read().strip()
print(os.getpid(), io["read_bytes"], io["write_bytes"], comm)
"""
DIRECT_WRITE = """
fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 65536)
for at in range(0, size, 65536):
    os.pwritev(fd, [buffer], at)
"""
DIRECT_READ = """
fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 65536)
for at in range(0, size, 65536):
    os.preadv(fd, [buffer], at)
"""
BUFFERED_READ = "fd = os.open(path, os.O_RDONLY)\nwhile os.read(fd, 65536): pass"
BUFFERED_WRITE = "fd = os.open(path, os.O_CREAT | os.O_WRONLY)\nos.write(fd, bytes(size))"
WRITE_AND_SYNC = f"{BUFFERED_WRITE}\nos.fsync(fd)"
MAPPED_WRITE = """
fd = os.open(path, os.O_RDWR)
with mmap.mmap(fd, size) as memory:
    for at in range(0, size, 4096):
        memory[at] = 1
"""


def child(group: Group, code: str, path: Path, size: int) -> Did:
    done = group.run([sys.executable, "-c", CHILD.format(code=code), str(path), str(size)])
    assert done.returncode == 0, done.stdout
    pid, read, written, comm = done.stdout.split()
    return Did(int(pid), int(read), int(written), comm)


@dataclass
class Total:
    """All requests of one process and file: rows of the table, summed."""

    reads: int
    writes: int
    bytes_read: int
    bytes_written: int
    modes: set[str]
    device_seconds: float
    rows: Any


def total(probe: Files, disk: Disk, pid: int, inode: int) -> Total:
    keys, rows = probe.users()
    mine = rows[(keys["disk"] == disk.number) & (keys["tgid"] == pid) & (keys["inode"] == inode)]
    bits = int(np.bitwise_or.reduce(mine["modes"])) if len(mine) else 0
    return Total(
        *(int(mine[name].sum()) for name in ("reads", "writes", "bytes_read", "bytes_written")),
        modes={name for bit, name in enumerate(MODES) if bits >> bit & 1},
        device_seconds=float(mine["device"].sum()) / 1e9,
        rows=mine,
    )


def drop_caches(path: Path) -> None:
    """The file's pages are not in memory any more."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_direct_access_is_the_process_and_file_to_the_byte() -> None:
    """4 MiB written and 2 MiB read around the page cache: as /proc/PID/io and the disk count."""
    with cgroup("direct") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = folder / "a file"
        with running(Files) as probe:
            before = disk.stat()
            wrote = child(group, DIRECT_WRITE, path, 4 * MIB)
            read = child(group, DIRECT_READ, path, 2 * MIB)
            kernel = disk.stat() - before
            inode = path.stat().st_ino
            writer = total(probe, disk, wrote.pid, inode)
            reader = total(probe, disk, read.pid, inode)
            names = probe.names()
        assert writer.bytes_written == wrote.write_bytes == 4 * MIB
        assert reader.bytes_read == read.read_bytes == 2 * MIB
        assert (writer.writes, reader.reads) == (64, 32)
        assert writer.modes == reader.modes == {"direct"}
        assert kernel.bytes["read"] >= reader.bytes_read
        assert path_of(names[inode, disk.number]) == "/a file"
        assert {int(cgroup_id) for cgroup_id in writer.rows["cgroup"]} == {group.id}
        assert {bytes(comm).decode() for comm in writer.rows["comm"]} == {wrote.comm}
        assert 0 < reader.device_seconds <= kernel.seconds["read"] + 0.05


def test_buffered_reads_are_the_readers_with_read_ahead() -> None:
    with cgroup("buffered") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = folder / "file"
        path.write_bytes(os.urandom(4 * MIB))
        drop_caches(path)
        with running(Files) as probe:
            did = child(group, BUFFERED_READ, path, 0)
            found = total(probe, disk, did.pid, path.stat().st_ino)
        assert found.bytes_read == 4 * MIB
        assert did.read_bytes >= 4 * MIB, "and directories"
        assert "readahead" in found.modes
        assert not found.modes & {"direct", "fsync", "writeback"}


@pytest.mark.parametrize(
    ("code", "modes"),
    [
        (WRITE_AND_SYNC, {"fsync"}),
        (BUFFERED_WRITE, {"writeback"}),
        (MAPPED_WRITE, {"writeback", "mmap", "readahead"}),
    ],
    ids=["fsync", "later", "mapped"],
)
def test_buffered_writes_are_who_made_the_pages_dirty(code: str, modes: set[str]) -> None:
    """4 MiB: by fsync in the process itself; else by a thread of the kernel, after it is gone."""
    with cgroup("writer") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = folder / "file"
        if "mmap" in modes:
            path.write_bytes(bytes(4 * MIB))
            drop_caches(path)
        with running(Files) as probe:
            did = child(group, code, path, 4 * MIB)
            before = disk.stat()
            write_back(folder)
            found = total(probe, disk, did.pid, path.stat().st_ino)
            kernel = disk.stat() - before
        assert did.write_bytes >= 4 * MIB
        assert found.bytes_written == 4 * MIB
        assert found.modes == modes
        if modes != {"fsync"}:
            assert kernel.bytes["write"] >= 4 * MIB, "it was written after the process had ended"


def write_back(folder: Path) -> None:
    """Let the kernel's own threads write what is dirty: syncfs() wakes them and waits."""
    subprocess.run(["sync", "-f", folder], check=True)


def test_all_that_a_disk_does_is_somebodys() -> None:
    """The sum over all rows is what the disk counted, whoever it was for: files and journal."""
    with loop(128) as disk, mounted(disk, "ext4") as folder:
        with running(Files) as probe:
            before = disk.stat()
            for number in range(20):
                (folder / str(number)).write_bytes(bytes(100_000))
            write_back(folder)
            drop_caches(folder / "3")
            (folder / "3").read_bytes()
            kernel = disk.stat() - before
            keys, rows = probe.users()
            mine = rows[keys["disk"] == disk.number]
        assert int(mine["bytes_written"].sum()) == kernel.bytes["write"]
        assert int(mine["bytes_read"].sum()) == kernel.bytes["read"]


def check_event(event: Event, disk: Disk) -> None:
    assert event.fields["path"] == "/slow file"
    assert event.fields["modes"] == ["direct"]
    assert event.fields["size_bytes"] == 65536
    assert event.fields["device_ns"] >= STALL_MS * 1e6
    assert f"read of /slow file on {disk.path.name} took" in event.title


def slow_file(folder: Path) -> Path:
    """Ten blocks, on the disk."""
    path = folder / "slow file"
    path.write_bytes(bytes(10 * 65536))
    os.sync()
    return path


def test_slow_requests_are_events_with_process_and_file() -> None:
    """Four of ten direct reads are stalled at their completion."""
    with cgroup("slow") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = slow_file(folder)
        only = {"milliseconds": STALL_MS, "count": 4, "disk": disk.number}
        with (
            stall("block_rq_complete", gap_milliseconds=0, **only) as stalls,
            running(Files, slow_threshold=STALL_MS * 800_000) as probe,
        ):
            did = child(group, DIRECT_READ, path, 10 * 65536)
            found = [e for e in told(probe, disk, 0.5) if e.fields["pid"] == did.pid]
            assert len(stalls) == 4
        found = [event for event in found if event.fields["device_ns"] >= STALL_MS * 1e6]
        assert len(found) >= 4 if disturbed() else len(found) == 4
        check_event(found[0], disk)


def test_every_request_of_a_slow_disk_is_an_event() -> None:
    """Of scsi_debug, which takes 20 ms for each."""
    with (
        cgroup("slow") as group,
        scsi_debug(ndelay=STALL_MS * 1_000_000) as disk,
        mounted(disk, "ext4") as folder,
    ):
        path = slow_file(folder)
        with running(Files, slow_threshold=STALL_MS * 800_000) as probe:
            did = child(group, DIRECT_READ, path, 10 * 65536)
            found = [e for e in told(probe, disk, 0.5) if e.fields["pid"] == did.pid]
        found = [event for event in found if event.fields["modes"] == ["direct"]]
        assert len(found) == 10
        check_event(found[0], disk)


# the commands


def huatuo(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "huatuo", "io", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def attached(command: subprocess.Popen[str], links: int) -> None:
    """Wait until the command has as many programs attached: links are among its descriptors."""
    for _ in range(600):
        assert command.poll() is None, command.communicate()
        names = []
        for fd in Path(f"/proc/{command.pid}/fd").iterdir():
            with suppress(OSError):
                names.append(str(fd.readlink()))
        if sum("bpf_link" in name or "bpf-link" in name for name in names) >= links:
            return
        time.sleep(0.1)
    raise AssertionError(f"not attached: {names}")


def test_io_top_shows_process_file_and_bytes() -> None:
    with cgroup("top") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = folder / "file"
        command = huatuo("top", "--json", "--duration", "12s", "--device", disk.path.name)
        attached(command, 4)
        did = child(group, DIRECT_WRITE, path, 4 * MIB)
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0, err
        (table,) = (json.loads(line) for line in out.splitlines())
        (use,) = (use for use in table["rows"] if use["pid"] == did.pid and use["writes"] > 1)
        assert use["written_bytes"] == did.write_bytes == 4 * MIB
        assert use["writes"] == 64
        assert use["file"] == str(path)
        assert use["filesystem"] == "ext4"
        assert use["modes"] == ["direct"]
        assert use["device"] == disk.path.name


def test_io_slow_tells_requests_and_fsyncs_as_they_end() -> None:
    """With a threshold of nothing: the fsync of a file, and the requests that it waited for."""
    with cgroup("slow") as group, loop(128) as disk, mounted(disk, "ext4") as folder:
        path = folder / "file"
        command = huatuo("slow", "--json", "--threshold", "1us", "--duration", "12s",
                         "--device", disk.path.name)  # fmt: skip
        attached(command, 10)
        did = child(group, WRITE_AND_SYNC, path, 65536)
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0, err
        events = [json.loads(line) for line in out.splitlines()]
        mine = [event for event in events if event["fields"]["pid"] == did.pid]
        (sync,) = (event for event in mine if event["kind"] == "slow_syncs")
        assert sync["fields"]["path"] == str(path)
        written = sum(
            event["fields"]["size_bytes"]
            for event in mine
            if event["kind"] == "slow_requests" and event["fields"]["path"] == "/file"
        )
        assert written == 65536
