"""What is said when BPF cannot run, on hosts made of a few files."""

from __future__ import annotations

from pathlib import Path

from huatuo.kernel.features import bpf_unavailable
from huatuo.kernel.host import Host
from huatuo.probes.running import ProbeSet

ALL, NONE = "000001ffffffffff", "0000000000000000"
BPF_AND_PERFMON = f"{1 << 39 | 1 << 38:016x}"


def host(tmp_path: Path, capabilities: str, btf: bool) -> Host:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    if btf:
        (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(b"\x9f\xeb")
    return Host(proc=tmp_path / "proc", sys=tmp_path / "sys")


def test_no_btf(tmp_path: Path) -> None:
    assert "no BTF" in bpf_unavailable(host(tmp_path, ALL, btf=False))


def test_no_privileges(tmp_path: Path) -> None:
    assert "CAP_BPF" in bpf_unavailable(host(tmp_path, NONE, btf=True))


def test_root_and_the_two_capabilities_are_enough(tmp_path: Path) -> None:
    assert bpf_unavailable(host(tmp_path / "a", ALL, btf=True)) == ""
    assert bpf_unavailable(host(tmp_path / "b", BPF_AND_PERFMON, btf=True)) == ""


def test_the_agent_goes_on_without_bpf_and_says_why(tmp_path: Path) -> None:
    """Everything by BPF is unavailable with the reason; nothing raises."""
    bare = host(tmp_path, NONE, btf=False)
    (bare.proc / "self/mountinfo").write_text("")
    probes = ProbeSet(bare)
    probes.start()
    try:
        entry = probes.entries["cpu.sched"]
        assert entry.status == "unavailable"
        assert "no BTF" in entry.reason
        assert probes.collect() is not None
    finally:
        probes.stop()
