"""Making data safe: fsync and the journals behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from huatuo.model.meaning import MEANINGS, Role
from huatuo.model.metric import Column, Metric
from huatuo.model.units import show_duration
from huatuo.probes.bpf import BpfProbe

__all__ = ["Sync"]

_PHASES = {
    "locking_ns": "waiting for operations under way",
    "flushing_ns": "writing data",
    "logging_ns": "writing the journal",
}


class Sync(BpfProbe):
    """How long fsync takes, by container, device and file system, and how long journals commit.

    A database's commit is an fsync; a slow one is an event with process, file and the journal's
    commit that it waited for. Journal commits (jbd2: ext4) have a histogram per device and are
    events when slow, with the phase that took the time; so are tasks that wait long to enter a
    journal: in ext4 while a commit locks it, in xfs for space in the log. What is not done yet
    shows as the age of the oldest fsync in progress.
    Hooks: vfs_fsync_range() (fs/sync.c) and the system calls fsync and fdatasync, by fentry or
    kprobe; where the kernel allows neither, ext4:ext4_sync_file_enter and _exit, so fsyncs of ext4
    only. jbd2:jbd2_start_commit and jbd2_run_stats; xfs:xfs_log_grant_sleep and _wake;
    wait_transaction_locked() of jbd2 by kprobe.
    Kernels: those of modules are attached when the module is there.
    Cost: about 1.5 µs per fsync, twice that where function and system call are both seen, and 1.3
    µs per commit.
    """

    priority = 80
    optional = ("sync_begins", "sync", "fsync_begins", "fsync", "fdatasync_begins", "fdatasync")
    late: ClassVar[Mapping[str, str]] = {
        "ext4_sync_begins": "ext4",
        "ext4_sync_ends": "ext4",
        "commit_begins": "jbd2",
        "commit_ends": "jbd2",
        "ext4_wait_begins": "jbd2",
        "ext4_wait_ends": "jbd2",
        "xfs_wait_begins": "xfs",
        "xfs_wait_ends": "xfs",
    }
    titles: ClassVar[Mapping[str, str]] = {
        "slow_syncs": "{operation} of {path} took {duration_ns}",
        "slow_commits": "the journal of {disk} took {duration_ns} to commit",
        "journal_stalls": "{comm}[{tid}] waited {duration_ns} for the journal of {filesystem}",
    }
    subjects: ClassVar[Mapping[str, str]] = {"slow_syncs": "cgroup", "journal_stalls": "cgroup"}

    @property
    def sees_all(self) -> bool:
        """Whether fsyncs of every file system are seen, and not of ext4 only."""
        return self._running().is_attached("sync")

    def is_wanted(self, role: str) -> bool:
        return not (role.startswith("ext4_sync") and self.sees_all)

    def collect(self) -> Iterator[Metric]:
        yield from super().collect()
        yield from self._oldest()

    def _oldest(self) -> Iterator[Metric]:
        """An fsync that hangs is in no histogram until it ends."""
        _, found = self._running().maps["in_progress"].read()
        if not len(found):
            return
        disks, codes = np.unique(found["disk"], return_inverse=True)
        since = np.full(len(disks), self.host.now_ns(), np.float64)
        np.minimum.at(since, codes, found["since"].astype(np.float64))
        yield Metric(
            "huatuo_fs_sync_oldest_seconds",
            Role.GAUGE,
            "age of the oldest fsync in progress",
            (self.host.now_ns() - since) / 1e9,
            {"device": Column(disks, MEANINGS["disk_t"])},
        )

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """Titles of fsyncs and commits: what the time went to."""
        if "locking_ns" in fields:
            return _commit(fields)
        if "operation" not in fields:
            return ""
        file = fields.get("path") or f"inode {fields['inode']}"
        took = show_duration(fields["duration_ns"] / 1e9)
        where = f"{file} on {fields['disk']} ({fields['filesystem']})"
        title = f"{fields['operation']} of {where} took {took}"
        if fields["result"]:
            title += f" and failed with error {-fields['result']}"
        if fields["commit_ns"]:
            title += f"; the journal's commit took {show_duration(fields['commit_ns'] / 1e9)} of it"
        return title


def _commit(fields: Mapping[str, Any]) -> str:
    took = show_duration(fields["duration_ns"] / 1e9)
    title = f"the journal of {fields['disk']} took {took} to commit {fields['handles']} operations"
    phase = max(_PHASES, key=lambda name: int(fields[name]))
    share = min(round(100 * fields[phase] / max(fields["duration_ns"], 1)), 100)
    return f"{title}, {share} % of it {_PHASES[phase]}" if share else title
