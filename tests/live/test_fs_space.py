"""fs.space beside df, on file systems that are filled to a known degree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from huatuo.probes.fs.space import Space
from tests.live.conftest import HOST
from tests.live.disk import loop, mounted, output, small_tmpfs
from tests.probes.tree import samples

pytestmark = pytest.mark.live

MIB = 1 << 20


def now(mount: Path) -> dict[str, float]:
    """What is said about one mount point."""
    if missing := Space.unavailable(HOST):
        pytest.skip(missing)
    return {
        name: value
        for name, by_key in samples(Space(HOST)).items()
        for (target, *_), value in by_key.items()
        if target == str(mount)
    }


def df(mount: Path) -> dict[str, int]:
    fields = {"size_bytes": "size", "available_bytes": "avail", "inodes": "itotal"}
    fields["free_inodes"] = "iavail"
    said = output("df", "-B1", f"--output={','.join(fields.values())}", mount)
    return dict(zip(fields, map(int, said.splitlines()[1].split()), strict=True))


def test_what_a_file_takes_and_what_df_says() -> None:
    """A file of 20 MiB and 50 empty ones on ext4."""
    with loop(64) as disk, mounted(disk, "ext4") as folder:
        before = now(folder)
        with (folder / "file").open("wb") as file:
            file.write(bytes(20 * MIB))
        for number in range(49):
            (folder / str(number)).touch()
        subprocess.run(["sync", "-f", folder], check=True)
        after = now(folder)
        taken = before["free_bytes"] - after["free_bytes"]
        assert 20 * MIB <= taken <= 20 * MIB + 64 * 1024, "and blocks that say where the file is"
        assert before["free_inodes"] - after["free_inodes"] == 50
        assert before["available_bytes"] < before["free_bytes"], "root's share"
        assert df(folder).items() <= after.items()


def test_a_full_tmpfs() -> None:
    with small_tmpfs(4) as folder:
        assert now(folder)["available_bytes"] == 4 * MIB
        with pytest.raises(OSError, match="No space"):
            (folder / "file").write_bytes(bytes(5 * MIB))
        assert now(folder)["available_bytes"] == 0


def test_a_second_mount_is_the_same_file_system_and_read_only_is_told() -> None:
    with loop(64) as disk, mounted(disk, "ext4") as folder, small_tmpfs(1) as second:
        output("mount", "--bind", folder, second)
        try:
            assert not now(second).keys() & {"size_bytes", "free_bytes"}
            assert now(folder)["read_only"] == 0
            output("mount", "-o", "remount,ro", folder)
            assert now(folder)["read_only"] == 1
        finally:
            output("umount", second)
