"""fs.errors against errors made on purpose: by file systems' own triggers, and by failing disks."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from huatuo.model.event import Event
from huatuo.probes.fs.errors import Errors
from tests.live.conftest import HOST, metric, need, row, running
from tests.live.disk import Disk, flakey, loop, mounted, output, small_tmpfs, told

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

FOUND = "huatuo_fs_errors_found_total"
MIB = 1 << 20
XFS_GOING_DOWN = 0x8004587D  # _IOR('X', 125, __u32), fs/xfs/libxfs/xfs_fs.h


def by_source(probe: Errors, disk: Disk, seconds: float = 1.5) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in told(probe, disk, seconds):
        found.setdefault(str(event.fields["source"]), []).append(event)
    return found


def total(probe: Errors, disk: Disk, source: str) -> int:
    found = metric(probe, FOUND)
    return int(found.values[row(found, device=disk.number, source=source)].sum())


def trigger(disk: Disk) -> None:
    """Make ext4 say that it found an error."""
    file = HOST.sys / "fs/ext4" / disk.path.name / "trigger_fs_error"
    need(file.exists(), f"{file}: no such file")
    file.write_text("a test of huatuo")


def errors_on_record(disk: Disk) -> int:
    return int((HOST.sys / "fs/ext4" / disk.path.name / "errors_count").read_text())


def test_what_ext4_finds_wrong_is_an_event_with_its_place() -> None:
    """Three by its own trigger: three events and counts, none of them a second time by the log."""
    with (
        loop() as disk,
        mounted(disk, "ext4", "errors=continue"),
        running(Errors) as probe,
    ):
        for _ in range(3):
            trigger(disk)
        found = by_source(probe, disk)
        assert found.keys() == {"ext4"}
        assert len(found["ext4"]) == total(probe, disk, "ext4") == errors_on_record(disk) == 3
        event = found["ext4"][0]
        assert event.fields["message"] == "trigger_test_error"
        assert event.fields["line"] > 0
        assert event.fields["pid"] == os.getpid()
        assert f"ext4 on {disk.path.name} found an error in trigger_test_error" in event.title


def test_a_file_system_that_turns_read_only_is_an_event_at_once() -> None:
    with (
        loop() as disk,
        mounted(disk, "ext4", "errors=remount-ro") as folder,
        running(Errors) as probe,
    ):
        trigger(disk)
        found = by_source(probe, disk)
        name = disk.path.name
        assert len(found["ext4"]) == len(found["read_only"]) == 1
        assert found["read_only"][0].title == f"{folder} (ext4 on {name}) is read-only now"
        for event in found.get("log", []):
            assert event.title.startswith(f"Aborting journal on device {name}-8")
        with pytest.raises(OSError, match=r"Read-only|error"):  # the latter on 6.12
            (folder / "file").touch()
        probe._suspect(disk.number)  # as each further error of it does
        assert "read_only" not in by_source(probe, disk, 0.5), "it was before"
        account = probe.account()
        assert account.produced == account.delivered >= 2


def test_a_remount_by_hand_is_told_too() -> None:
    with loop() as disk, mounted(disk, "ext4") as folder, running(Errors) as probe:
        by_source(probe, disk, 0.2)
        output("mount", "-o", "remount,ro", folder)
        probe._look_at = 0.0  # not in five seconds
        found = by_source(probe, disk, 0.5)
        assert {source: len(events) for source, events in found.items()} == {"read_only": 1}
        assert total(probe, disk, "read_only") == 1


def test_an_unmounted_file_system_did_not_turn_read_only() -> None:
    with loop() as disk, running(Errors) as probe:
        with mounted(disk, "ext4"):
            probe._look_at = 0.0
            by_source(probe, disk, 0.2)
        probe._look_at = 0.0
        assert by_source(probe, disk, 0.5) == {}


def test_xfs_that_shuts_itself_down() -> None:
    """By its own ioctl, without writing the log."""
    with loop(320) as disk, mounted(disk, "xfs") as folder, running(Errors) as probe:
        need(any("xfs_force_shutdown" in hook for hook in probe.hooks), "no tracepoint of it")
        fd = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(fd, XFS_GOING_DOWN, array.array("I", [2]))
        os.close(fd)
        found = by_source(probe, disk)
        assert len(found["xfs"]) == total(probe, disk, "xfs") == 1
        assert "xfs" in found["xfs"][0].title
        assert "shut itself down" in found["xfs"][0].title
        assert "log" not in found, "the log says the same"
        with pytest.raises(OSError, match="error"):
            (folder / "file").touch()


def write_too_much(folder: Path, mebibytes: int) -> tuple[int, int]:
    """Buffered, in one file; (error of fsync, inode of the file)."""
    fd = os.open(folder / "file", os.O_CREAT | os.O_WRONLY)
    inode = os.fstat(fd).st_ino
    try:
        for _ in range(mebibytes):
            os.write(fd, bytes(MIB))
        os.fsync(fd)
    except OSError as error:
        return error.errno or 0, inode
    finally:
        os.close(fd)
    return 0, inode


def test_data_that_the_disk_refuses_is_lost_and_who_asks_is_told() -> None:
    """Written to a file system whose disk has no room behind it; fsync says EIO."""
    with (
        small_tmpfs(24) as backing,
        loop(64, backing) as disk,
        mounted(disk, "ext4") as folder,
        running(Errors) as probe,
    ):
        failed, inode = write_too_much(folder, 32)
        assert failed in (errno.EIO, errno.ENOSPC)
        found = by_source(probe, disk)
        lost = [event for event in found["writeback"] if event.fields["inode"] == inode]
        assert 1 <= len(lost) <= 3, "a file is an event once a second"
        assert lost[0].title == (
            f"data of /file (ext4 on {disk.path.name}) could not be written and is lost: "
            f"{lost[0].fields['error']}"
        )
        assert total(probe, disk, "writeback") >= len(lost), "every page counts"
        (event,) = (event for event in found["reported"] if event.fields["inode"] == inode)
        assert event.fields["pid"] == os.getpid()
        assert event.fields["error"] == errno.errorcode[failed]
        assert event.fields["path"] == str(folder / "file")
        assert "was told that written data" in event.title


def test_a_disk_itself_that_cannot_be_written() -> None:
    with small_tmpfs(1) as backing, loop(16, backing) as disk, running(Errors) as probe:
        with disk.path.open("r+b", buffering=0) as file:
            file.seek(2 * MIB)
            file.write(bytes(2 * MIB))
            with pytest.raises(OSError, match=r"error|space"):
                os.fsync(file.fileno())
        found = by_source(probe, disk)
        assert found["writeback"][0].fields["filesystem"] == "block"
        assert found["reported"][0].fields["comm"] in Path("/proc/self/comm").read_text()
        assert "the device itself" in found["writeback"][0].title


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_disk_that_fails_every_write(kind: str) -> None:
    """Of dm-flakey: the file system itself says that it stops, and mountinfo or a write agrees."""
    with (
        loop(320) as disk,
        flakey(disk) as (mapped, fail),
        mounted(mapped, kind) as folder,
        running(Errors) as probe,
    ):
        (folder / "before").write_bytes(bytes(4096))
        subprocess.run(["sync", "-f", folder], check=True)
        fail()
        with suppress(OSError):
            (folder / "after").write_bytes(bytes(4096))
        subprocess.run(["sync", "-f", folder], check=False, capture_output=True)
        found = by_source(probe, mapped, 3)
        with pytest.raises(OSError, match=r"error|Read-only"):
            write_and_sync(folder / "refused")
        said = found.get(kind, []) + found.get("log", []) + found.get("read_only", [])
        assert said, f"only {found.keys()}"
        assert all(event.fields["filesystem"] == kind for event in said)


def write_and_sync(path: Path) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.write(fd, b"x")
        os.fsync(fd)
    finally:
        os.close(fd)


def test_lines_of_the_log_are_events_once_and_bounded() -> None:
    """Where nothing else speaks: a line about a disk, repeated with other numbers."""
    with loop() as disk, running(Errors) as probe:
        name = disk.path.name
        with Path("/dev/kmsg").open("w") as log:
            for number in range(5):
                log.write(f"<3>F2FS-fs ({name}): inconsistent node block, nid:{number}\n")
                log.flush()
            log.write(f"<6>F2FS-fs ({name}): mounted with checkpoint 7\n")
        found = by_source(probe, disk, 0.5)
        assert [event.fields["filesystem"] for event in found["log"]] == ["f2fs"]
        assert re.match(rf"F2FS-fs \({name}\): inconsistent", found["log"][0].title)
        account = probe.account()
        assert account.suppressed["repeated"] == 4
        assert account.produced == account.delivered + 4
