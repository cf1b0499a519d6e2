"""What file systems remember about errors and commits, from /sys/fs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.kernel.procfs import parse_pairs
from huatuo.probes.reader import Reader, Reading, counter, gauge

__all__ = ["Health"]

_ERRORS = counter("errors", "errors on record, since the file system was made", "device", "kind")
_COMMITS = counter("commits", "transactions that btrfs committed since it was mounted", "device")
_COMMIT = counter("commit_seconds", "time of these commits, summed", "device")
_LONGEST = gauge("longest_commit_seconds", "the longest of these commits", "device")


class Health(Reader):
    """Errors that ext4 and btrfs have on record, and how long btrfs takes to commit.

    ext4 keeps its count on disk until fsck clears it, btrfs counts reads, writes, flushes,
    checksums and generations per disk; either survives a reboot, so what happened before the
    agent came is here too. The errors as they happen are in fs.errors.
    Reads: errors_count in /sys/fs/ext4, error_stats and commit_stats in /sys/fs/btrfs.
    Kernels: commit_stats since 6.1, error_stats since 5.14.
    Cost: one or two small files per file system.
    """

    priority = 60
    files = ("sys/fs",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return "" if (host.sys / "fs").is_dir() else f"{host.sys}/fs: not a directory"

    def parts(self) -> Iterator[Iterator[Reading]]:
        root = Path(self.paths["sys/fs"])
        for errors in root.glob("ext4/*/errors_count"):
            yield self._ext4(errors)
        for directory in root.glob("btrfs/*-*"):
            yield self._btrfs(directory)

    def _ext4(self, errors: Path) -> Iterator[Reading]:
        yield _ERRORS, (errors.parent.name, "ext4"), int(self.text(str(errors)))

    def _btrfs(self, directory: Path) -> Iterator[Reading]:
        disks = sorted(disk.name for disk in directory.glob("devices/*"))
        name = disks[0] if disks else directory.name
        for stats in sorted(directory.glob("devinfo/*/error_stats")):
            disk = name if len(disks) <= 1 else f"{name}:{stats.parent.name}"
            for kind, count in parse_pairs(self.text(str(stats))).items():
                yield _ERRORS, (disk, kind.removesuffix("_errs")), count
        commits = parse_pairs(self.optional(str(directory / "commit_stats")))
        if commits:
            yield _COMMITS, (name,), commits["commits"]
            yield _COMMIT, (name,), commits["total_commit_ms"] / 1e3
            yield _LONGEST, (name,), commits["max_commit_ms"] / 1e3
