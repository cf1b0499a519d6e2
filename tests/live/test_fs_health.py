"""fs.health beside the file systems' own counters; errors made by their own triggers."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from huatuo.probes.fs.health import Health
from tests.live.conftest import HOST, need
from tests.live.disk import loop, mounted, output
from tests.probes.tree import samples

pytestmark = pytest.mark.live


def now() -> dict[str, dict[tuple[object, ...], float]]:
    if missing := Health.unavailable(HOST):
        pytest.skip(missing)
    return samples(Health(HOST))


def test_errors_of_ext4_are_on_record() -> None:
    """Three by its own trigger; dumpe2fs reads the count from the disk."""
    with loop() as disk:
        with mounted(disk, "ext4", "errors=continue") as _:
            trigger = HOST.sys / "fs/ext4" / disk.path.name / "trigger_fs_error"
            need(trigger.exists(), f"{trigger}: no such file")
            key = (disk.path.name, "ext4")
            assert now()["errors_total"][key] == 0
            for _number in range(3):
                trigger.write_text("a test of huatuo")
            assert now()["errors_total"][key] == 3
        said = output("dumpe2fs", "-h", disk.path)
        assert re.search(r"^FS Error count: +3$", said, re.MULTILINE)
        assert (disk.path.name, "ext4") not in now().get("errors_total", {}), "it is not mounted"


def test_commits_and_errors_of_btrfs() -> None:
    """Each sync of something new is a commit; `btrfs device stats` has the errors of the disk."""
    with loop(128) as disk, mounted(disk, "btrfs") as folder:
        name = disk.path.name
        before = now()
        need((name,) in before.get("commits_total", {}), "this kernel does not count them")
        began = time.monotonic()
        for number in range(5):
            (folder / str(number)).write_bytes(bytes(4096))
            subprocess.run(["btrfs", "filesystem", "sync", folder], check=True)
        elapsed = time.monotonic() - began
        after = now()
        assert after["commits_total"][name,] - before["commits_total"][name,] >= 5
        spent = after["commit_seconds_total"][name,] - before["commit_seconds_total"][name,]
        assert spent <= elapsed + 0.1
        assert after["longest_commit_seconds"][name,] <= after["commit_seconds_total"][name,]
        stats = re.findall(r"\.(\w+)_errs +(\d+)", output("btrfs", "device", "stats", folder))
        kinds = {kind.removesuffix("_io"): float(count) for kind, count in stats}
        errors = {k[1]: v for k, v in after["errors_total"].items() if k[0] == name}
        assert errors == kinds
