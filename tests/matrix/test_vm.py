"""The matrix runner's own promises: output, exit codes, isolation, and what happens on trouble."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import initramfs, vm
from .kernels import KERNELS, Kernel, MatrixError, find, installed

NONCE = "0123456789abcdef"


@pytest.fixture(name="kernel", scope="module")
def _kernel() -> Kernel:
    """A kernel that can be booted here without the network."""
    if (reason := vm.missing()) is not None:
        pytest.skip(reason)
    for kernel in reversed(KERNELS):
        if installed(kernel) is not None:
            return kernel
    pytest.skip("no kernel fetched; get them with: python -m tests.matrix fetch")


def shell(kernel: Kernel, script: str, **options: object) -> vm.Result:
    return vm.run(kernel, ["sh", "-c", script], **options)  # type: ignore[arg-type]


def test_command_sees_the_host_and_its_writes_stay_in_the_guest(
    kernel: Kernel, tmp_path: Path
) -> None:
    seen: list[str] = []
    here = Path(__file__).resolve()
    script = f"""
        pwd; uname -r; id -u; hostname; echo "$HUATUO_KERNEL"
        test -f {here} && echo checkout
        echo changed > {here}
        echo kept > "$HUATUO_RESULTS/note"
        echo error >&2
        echo reopened > /dev/stdout
        modprobe dummy && test -d /sys/module/dummy && echo module
        test -s /sys/kernel/btf/vmlinux && echo btf
        mkdir /sys/fs/cgroup/a && cat /sys/fs/cgroup/a/cgroup.events | head -1
        test -e /sys/fs/cgroup/a/memory.max && echo memory
        cat /sys/class/net/lo/operstate
        ls -d /sys/kernel/tracing/events/sched /sys/kernel/debug/tracing /sys/fs/bpf /dev/pts
        stat -f -c %T /tmp /run /dev/shm /sys/fs/bpf
        sleep 1000 &
        printf unfinished
        exit 42
    """
    before = here.read_bytes()
    result = shell(kernel, script, results=tmp_path, on_line=seen.append)
    files = installed(kernel)
    assert files is not None
    assert result.returncode == 42
    assert result.output.splitlines() == [
        *(str(vm.CHECKOUT), files.release, "0", "huatuo-" + kernel.name.replace(".", "-")),
        *(kernel.name, "checkout", "error", "reopened", "module", "btf", "populated 0", "memory"),
        "unknown",
        *(
            "/dev/pts",
            "/sys/fs/bpf",
            "/sys/kernel/debug/tracing",
            "/sys/kernel/tracing/events/sched",
        ),
        *("tmpfs", "tmpfs", "tmpfs", "bpf_fs"),
        "unfinished",
    ]
    assert seen == result.output.splitlines()
    assert result.boot_seconds is not None
    assert result.boot_seconds < result.seconds
    assert here.read_bytes() == before
    assert (tmp_path / "note").read_text() == "kept\n"


def test_panic_shows_the_console(kernel: Kernel) -> None:
    result = shell(kernel, "echo before; sleep 0.2; echo c > /proc/sysrq-trigger; sleep 60")
    assert result.returncode == vm.TROUBLE
    assert result.output.startswith("before\nmatrix: the machine died while running the command")
    assert "Kernel panic - not syncing: sysrq triggered crash" in result.output


def test_timeout_ends_the_machine(kernel: Kernel) -> None:
    boot = shell(kernel, "true").boot_seconds
    assert boot is not None
    result = shell(kernel, "echo before; sleep 1000", timeout_seconds=2 * boot)
    assert result.returncode == vm.TIMED_OUT
    assert result.output.startswith("before\nmatrix: the machine timed out while running")
    assert result.seconds < 2 * boot + 5


def test_machine_without_memory_does_not_boot(kernel: Kernel) -> None:
    result = shell(kernel, "true", memory="24M")
    assert result.returncode == vm.TROUBLE
    assert "the machine died while booting" in result.output
    assert result.boot_seconds is None


def test_cgroup_v1_and_hybrid_at_the_same_time(kernel: Kernel) -> None:
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
    with ThreadPoolExecutor() as pool:
        v1 = pool.submit(shell, kernel, script, cgroup="v1")
        hybrid = pool.submit(shell, kernel, script, cgroup="hybrid")
    assert v1.result().returncode == hybrid.result().returncode == 0
    assert "cpu,cpuacct:/\n" in v1.result().output
    assert "0::/\n" not in v1.result().output
    assert "cpu,cpuacct:/\n" in hybrid.result().output
    assert "0::/\n" in hybrid.result().output


def test_console_is_shown_from_the_crash_on() -> None:
    calm, crash = ["calm"] * 100, ["Kernel panic - not syncing"]
    assert vm._first_shown([]) == 0
    assert vm._first_shown(calm) == 60
    assert vm._first_shown(calm + crash + calm) == 100
    assert vm._first_shown(calm + crash) == 61
    assert vm._first_shown(crash + calm * 4) == 201


def test_unknown_kernel_names_the_known_ones() -> None:
    assert find("bookworm") is find("6.1")
    with pytest.raises(MatrixError, match=r"no kernel '2\.4'.* 6\.1, "):
        find("2.4")


def test_notes_are_found_wherever_they_stand() -> None:
    guest = vm._Guest(NONCE, None)
    for piece in (f"\x1e{NONCE} sta", "rted\none\ntw", "o\n", f"three\x1e{NONCE} 7\n"):
        assert guest.code is None
        guest._feed(piece)
    assert guest.booted is not None
    assert guest.code == 7
    assert guest.lines == ["one", "two", "three"]


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/virtio_pci.ko\n")
    (tmp_path / "modules.dep").write_text(
        "fs/9p.ko.xz: net/9pnet.ko.xz fs/netfs.ko.xz\n"
        "net/9pnet.ko.xz:\nfs/netfs.ko.xz:\nnet/9pnet_virtio.ko.xz: net/9pnet.ko.xz\n"
    )
    files = initramfs.module_files(tmp_path, ("virtio_pci", "9pnet_virtio", "9p"))
    names = [path.name for path in files]
    assert names == ["9pnet.ko.xz", "9pnet_virtio.ko.xz", "netfs.ko.xz", "9p.ko.xz"]
    with pytest.raises(MatrixError, match="has no module overlay"):
        initramfs.module_files(tmp_path, ("overlay",))


def test_archive_parts_are_aligned() -> None:
    archive = b"".join(initramfs.cpio_archive({"init": (stat.S_IFREG | 0o755, b"#!/bin/sh")}))
    assert len(archive) % 4 == 0
    assert archive.count(b"070701") == 2
    assert b"init\0" in archive
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")


def test_environment_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/p", "SECRET": "x", "PYTHONPATH": "src"})
    environment = vm._environment(find("6.1"), has_results=True)
    assert "SECRET" not in environment
    assert environment["PYTHONPATH"] == "src"
    assert environment["HUATUO_RESULTS"] == vm.RESULTS
    assert environment["PATH"].startswith("/p:")
