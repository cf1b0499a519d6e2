"""fs.space on a tree with a known table of mounts; their sizes are those of the tree's own disk."""

from __future__ import annotations

import os

from hypothesis import given, settings

from huatuo.kernel.mounts import parse_mount
from huatuo.probes.fs.space import Space
from tests.probes.tree import host, mangled, reader, samples, survives

SDA1, SDB1, SDC1, SDD1 = (8 << 20 | minor for minor in (1, 17, 33, 49))
SHM = 21


def test_each_file_system_once_and_none_without_space_of_its_own() -> None:
    """Not /proc, an image, a user's tmpfs, the second mount of /, nor what another one hides."""
    found = samples(reader(Space, "fs_space"))
    assert found["unreachable"] == {
        ("/", SDA1, "ext4"): 0,
        ("/dev/shm", SHM, "tmpfs"): 0,
        ("/data", SDB1, "ext4"): 0,
        ("/with blank", SDC1, "xfs"): 0,
        ("/gone", SDD1, "xfs"): 1,
    }
    assert {key[1] for key, value in found["read_only"].items() if value} == {SDB1}


def test_sizes_are_what_the_system_call_says() -> None:
    found = samples(reader(Space, "fs_space"))
    truth = os.statvfs(host("fs_space").root / "data")
    key = ("/data", SDB1, "ext4")
    assert found["size_bytes"][key] == truth.f_blocks * truth.f_frsize
    assert found["inodes"].get(key, 0) == truth.f_files
    assert ("/gone", SDD1, "xfs") not in found["size_bytes"]


def test_a_read_only_mount_of_a_writable_file_system() -> None:
    mount = parse_mount(r"9 1 8:1 /a /b\011c ro,nosuid shared:1 master:2 - ext4 /dev/sda1 rw")
    assert (mount.root, mount.target, mount.number) == ("/a", "/b\tc", SDA1)
    assert (mount.read_only, mount.filesystem_read_only) == (True, False)
    stopped = parse_mount("9 1 8:1 / /a rw - ext4 /dev/sda1 rw,emergency_ro")
    assert stopped.filesystem_read_only


@settings(deadline=None, max_examples=30)
@given(mangled())
def test_garbage_is_survived(how: tuple[float, float, str, bool]) -> None:
    survives(Space, "fs_space", how)
