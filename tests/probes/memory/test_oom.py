"""What memory.oom adds to a record in user space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huatuo.kernel.host import Host
from huatuo.model.record import RecordBatch
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.memory.oom import Oom


def batch(**columns: Any) -> RecordBatch:
    schema = super(Oom, Oom).event_schemas()["oom_kills"]
    rows = np.zeros(1, schema.dtype)
    for name, value in columns.items():
        rows[name] = value
    return RecordBatch("memory.oom", "oom_kills", schema, rows)


def host(root: Path, mounts: str) -> Host:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    return Host(proc=root / "proc", sys=root / "sys", root=root)


V2 = "30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
V1 = "31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize(
    ("mounts", "tree", "events"),
    [
        (V2, "sys/fs/cgroup", "memory.events"),
        (V1, "sys/fs/cgroup/memory", "memory.oom_control"),
    ],
)
def test_reads_the_accounts_of_victim_and_domain(
    tmp_path: Path, mounts: str, tree: str, events: str
) -> None:
    pod = tmp_path / tree / "pod"
    app = pod / "app"
    app.mkdir(parents=True)
    (app / "memory.stat").write_text("anon 4096\nfile 0\n")
    (app / events).write_text("oom_kill_disable 0\noom_kill 1\n")
    (pod / "memory.stat").write_text("anon 8192\n")
    probe = Oom(host(tmp_path, mounts))
    ids = {"victim_cgroup": app.stat().st_ino, "domain_cgroup": pod.stat().st_ino}
    found = probe.decode(batch(**ids))
    assert found.schema == Oom.event_schemas()["oom_kills"]
    row = found.rows[0]
    assert row["victim_cgroup"] == app.stat().st_ino
    assert row["victim_memory_stat"] == b"anon 4096\nfile 0\n"
    assert b"oom_kill 1" in row["victim_memory_events"]
    assert row["domain_memory_stat"] == b"anon 8192\n"
    assert row["domain_memory_events"] == b""


def test_a_cgroup_that_is_gone_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    probe = Oom(host(tmp_path, V2))
    row = probe.decode(batch(victim_cgroup=999, domain_cgroup=0)).rows[0]
    assert row["victim_memory_stat"] == b""


def test_a_storm_walks_the_tree_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    monkeypatch.setattr(
        "huatuo.probes.memory.oom.identities", lambda host: walks.append(host) or iter(())
    )
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    probe = Oom(host(tmp_path, V2))
    for number in range(5):
        probe.decode(batch(victim_cgroup=1000 + number))
    assert len(walks) == 1


def fields(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "victim_comm": "java",
        "victim_pid": 7,
        "trigger_comm": "java",
        "trigger_pid": 7,
        "victim_anon_bytes": 60 << 20,
        "victim_file_bytes": 3 << 20,
        "victim_shmem_bytes": 1 << 20,
        "domain_limit_bytes": 64 << 20,
        "scope": "memcg",
        "victim_memory_stat": "anon 4096\nfi",
        "victim_memory_events": "oom_kill 1\n",
        "domain_memory_stat": "",
        "domain_memory_events": "",
    }
    return given | changes


def test_describe_parses_the_accounts() -> None:
    found = fields()
    assert Oom.describe(found) == (
        "java[7] was killed with 64 MiB in memory: its memory limit of 64 MiB was reached"
    )
    assert found["victim_memory_after_kill"] == {"stat": {"anon": 4096}, "events": {"oom_kill": 1}}
    assert "domain_memory_after_kill" not in found
    assert "victim_memory_stat" not in found


def test_title_of_a_kill_for_the_host() -> None:
    title = Oom.describe(fields(scope="host", trigger_comm="dd", trigger_pid=9))
    assert title.endswith("the host ran out of memory, by an allocation of dd[9]")


def test_the_loaders_variable_is_no_setting() -> None:
    names = {setting.name for setting in Oom.settings_schema()}
    assert "page_size" not in names
    assert issubclass(Oom, BpfProbe)
