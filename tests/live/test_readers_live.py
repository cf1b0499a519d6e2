"""Readers beside other sources of the same numbers, and beside loads of known size."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.kernel.cgroupfs import Cgroup, hierarchies
from huatuo.kernel.host import Host
from huatuo.probes.block.devices import Devices
from huatuo.probes.cpu.cgroup import CpuCgroup
from huatuo.probes.cpu.load import Load
from huatuo.probes.cpu.usage import Usage
from huatuo.probes.irq.interrupts import Interrupts
from huatuo.probes.memory.cgroup import MemoryCgroup
from huatuo.probes.memory.huge import Huge
from huatuo.probes.memory.info import Info
from huatuo.probes.memory.nodes import Nodes
from huatuo.probes.memory.slab import Slab
from huatuo.probes.memory.vmstat import Vmstat
from huatuo.probes.memory.zones import Zones
from huatuo.probes.net.cgroup import NetCgroup
from huatuo.probes.net.protocols import Protocols
from huatuo.probes.net.sockets import Sockets
from huatuo.probes.netdev.cgroup import NetdevCgroup
from huatuo.probes.netdev.stats import Stats
from huatuo.probes.reader import Reader
from huatuo.probes.task.cgroup import TaskCgroup
from huatuo.probes.task.pressure import Pressure
from tests.live.conftest import Group, cgroup, need
from tests.probes.tree import samples

pytestmark = pytest.mark.live

HOST = Host()
MIB = 1 << 20
Samples = dict[str, dict[tuple[object, ...], float]]


def now(cls: type[Reader], *targets: Cgroup) -> Samples:
    """All samples of a reader on this machine; skips with its reason where it cannot run."""
    if missing := cls.unavailable(HOST):
        pytest.skip(missing)
    probe = cls(HOST)
    probe.targets = lambda: targets
    found = samples(probe)
    assert probe.collect_errors == 0
    return found


def output(*argv: str) -> str:
    need(shutil.which(argv[0]), f"{argv[0]} is not installed")
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def target(group: Group, controller: str) -> Cgroup:
    """A test's cgroup as the readers of that controller are given it."""
    root = hierarchies(HOST).controller(controller)
    assert root is not None
    return Cgroup(group.id, "/" + str(group.directory.relative_to(root)))


@contextmanager
def child(group: Group, code: str) -> Iterator[subprocess.Popen[str]]:
    """Python code in the cgroup; it prints a line when ready, and ends when killed."""
    with group.start([sys.executable, "-u", "-c", code]) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == "ready"
        yield process
        process.kill()


# the host


def test_cpu_time_is_all_of_the_time() -> None:
    outer = time.monotonic()
    before, inner = now(Usage)["seconds_total"], time.monotonic()
    time.sleep(1.5)
    at_least, after = time.monotonic() - inner, now(Usage)["seconds_total"]
    at_most = time.monotonic() - outer
    spent = (sum(after.values()) - sum(before.values())) / HOST.cpus
    assert at_least * 0.9 <= spent <= at_most * 1.1


def busy_seconds(cpu: int) -> float:
    """With what the hypervisor took, which the process's own clock includes."""
    seconds = now(Usage)["seconds_total"]
    return sum(seconds[str(cpu), state] for state in ("user", "system", "irq", "softirq", "steal"))


def test_a_busy_loop_is_time_of_its_cpu() -> None:
    cpu = max(os.sched_getaffinity(0))
    before = busy_seconds(cpu)
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {cpu})
        end = time.thread_time() + 1.0
        while time.thread_time() < end:
            pass
        os._exit(0)
    os.waitpid(pid, 0)
    assert busy_seconds(cpu) - before >= 0.9


def test_forks_and_switches_are_counted() -> None:
    before = now(Usage)
    for _ in range(20):
        subprocess.run(["true"], check=True)
    after = now(Usage)
    assert after["forks_total"][()] - before["forks_total"][()] >= 20
    assert after["context_switches_total"][()] - before["context_switches_total"][()] >= 20
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert after["boot_time_seconds"][()] == pytest.approx(boot, abs=5)


def test_load_is_what_the_c_library_says() -> None:
    found = now(Load)
    assert found["average_1m"][()] == pytest.approx(os.getloadavg()[0], abs=0.3)
    threads = output("ps", "-eL", "--no-headers").count("\n")
    assert found["tasks"][()] == pytest.approx(threads, abs=20)


def test_memory_is_what_free_says() -> None:
    words = output("free", "--bytes").splitlines()[1].split()
    found = now(Info)
    assert found["total_bytes"][()] == int(words[1])
    assert found["available_bytes"][()] == pytest.approx(int(words[6]), rel=0.05)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found["total_bytes"][()] == pages


def test_faults_of_an_allocation_are_counted() -> None:
    size = 64 * MIB
    before = now(Vmstat)["faults_total"][("minor",)]
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        assert now(Vmstat)["faults_total"][("minor",)] - before >= size // mmap.PAGESIZE


def test_bytes_written_to_a_disk_are_counted(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    where = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    disk = where.parent.name if (where / "partition").exists() else where.name
    before = now(Devices)
    need((disk, "write") in before["bytes_total"], f"{tmp_path} is not on a disk")
    file = os.open(tmp_path / "block", os.O_CREAT | os.O_WRONLY)
    os.write(file, os.urandom(16 * MIB))
    os.fsync(file)
    os.close(file)
    after = now(Devices)
    key = (disk, "write")
    assert after["bytes_total"][key] - before["bytes_total"][key] >= 16 * MIB
    assert after["operation_seconds_total"][key] > before["operation_seconds_total"][key]
    sectors = int(Path(f"/sys/block/{disk}/stat").read_text().split()[6])
    assert after["bytes_total"][key] == pytest.approx(sectors * 512, rel=0.05)


def test_devices_are_those_of_ip() -> None:
    links = json.loads(output("ip", "-s", "-j", "link"))
    found = now(Stats)
    for link in links:
        device, statistics = link["ifname"], link.get("stats64") or link["stats"]
        assert found["mtu_bytes"][device,] == link["mtu"]
        assert found["up"][device,] == (link["operstate"] in ("UP", "UNKNOWN"))
        received = found["bytes_total"][device, "receive"]
        assert received == pytest.approx(statistics["rx"]["bytes"], rel=0.01, abs=1e6)


def test_traffic_on_loopback_has_its_size() -> None:
    size, count = 1000, 100
    before, before_udp = now(Stats), now(Protocols)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(b"x" * size, receiver.getsockname())
                receiver.recv(size)
    after, after_udp = now(Stats), now(Protocols)
    key = ("lo", "transmit")
    moved = after["bytes_total"][key] - before["bytes_total"][key]
    assert count * (size + 28) <= moved <= 5 * count * (size + 28), "others use lo, too"
    udp = ("ipv4", "receive")
    datagrams = after_udp["udp_datagrams_total"][udp] - before_udp["udp_datagrams_total"][udp]
    assert datagrams >= count


def test_a_closed_port_is_counted_and_sockets_are_those_of_ss() -> None:
    before = now(Protocols)["udp_closed_port_total"][("ipv4",)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    assert now(Protocols)["udp_closed_port_total"][("ipv4",)] > before
    in_use = now(Sockets)["in_use"]["udp", "ipv4"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        assert now(Sockets)["in_use"]["udp", "ipv4"] == pytest.approx(in_use + 1, abs=2)
    total = next(line for line in output("ss", "-s").splitlines() if line.startswith("TCP:"))
    allocated = now(Sockets)["tcp_allocated"][()] + now(Sockets)["tcp_time_wait"][()]
    assert allocated == pytest.approx(int(total.split()[1]), abs=20)


def test_timer_interrupts_go_on() -> None:
    before = now(Interrupts)
    time.sleep(0.5)
    after = now(Interrupts)
    assert sum(after["cpu_handled_total"].values()) > sum(before["cpu_handled_total"].values())
    assert sum(after["softirqs_total"].values()) > sum(before["softirqs_total"].values())


def test_pressure_rises_when_more_tasks_run_than_cpus() -> None:
    """On each CPU: the kernel weighs CPUs without waiters, too (kernel/sched/psi.c)."""
    before = now(Pressure)["some_seconds_total"][("cpu",)]
    code = "import time\ne=time.monotonic()+1.5\nwhile time.monotonic()<e: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3 * HOST.cpus)]
    for hog in hogs:
        hog.wait()
    assert now(Pressure)["some_seconds_total"][("cpu",)] - before > 1.0


def test_free_blocks_and_zones_add_up_to_free_memory() -> None:
    """Apart from pages that the CPUs keep for themselves; the kernel's sum beside ours."""
    zones = now(Zones)
    vmstat = HOST.read_pairs(HOST.proc / "vmstat")
    free = vmstat["nr_free_pages"] * HOST.page_size
    blocks = sum(count << int(order) for (_, _, order), count in pages(zones["free_blocks"]))
    assert blocks * HOST.page_size == pytest.approx(free, abs=64 * MIB)
    assert sum(zones["free_bytes"].values()) == pytest.approx(free, abs=64 * MIB)
    for (node, zone, order), share in zones["unusable_ratio"].items():
        next_order = zones["unusable_ratio"].get((node, zone, str(int(str(order)) + 1)), 1)
        assert 0 <= share <= next_order <= 1


def pages(blocks: dict[tuple[object, ...], float]) -> list[tuple[tuple[str, ...], int]]:
    return [(tuple(map(str, key)), int(count)) for key, count in blocks.items()]


def test_nodes_have_the_memory_of_their_zones_and_count_allocations() -> None:
    before, zones = now(Nodes), now(Zones)
    assert sum(before["total_bytes"].values()) == sum(zones["managed_bytes"].values())
    touch(64 * MIB)
    after = now(Nodes)
    for family in ("allocated_pages_total", "placed_pages_total"):
        grown = sum(after[family].values()) - sum(before[family].values())
        assert grown >= 64 * MIB // HOST.page_size, family


def touch(size: int, advice: int = mmap.MADV_NOHUGEPAGE) -> None:
    """Fault in so much memory, and give it back."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(advice)
        for page in range(0, size, HOST.page_size):
            memory[page] = 1


def test_huge_pages_of_known_number() -> None:
    """16 aligned ones in 34 MiB; the kernel's own count beside ours."""
    before, counts = now(Huge), now(Vmstat)["huge_page_faults_total"]
    policy = next(iter(before["policy_info"]))
    need(policy[0] != "never", "transparent huge pages are switched off")
    need("events_total" in before, "this kernel does not count them by size")
    touch(34 * MIB, mmap.MADV_HUGEPAGE)
    after, counts_after = now(Huge), now(Vmstat)["huge_page_faults_total"]
    size = (
        f"{int((HOST.sys / 'kernel/mm/transparent_hugepage/hpage_pmd_size').read_text()) >> 10}kB"
    )
    wanted = (size, "anon_fault_alloc")
    grown = after["events_total"][wanted] - before["events_total"].get(wanted, 0)
    theirs = sum(counts_after.values()) - sum(counts.values())
    assert grown + after["events_total"].get((size, "anon_fault_fallback"), 0) >= 16
    assert grown == pytest.approx(theirs, abs=4)


def test_slab_caches_add_up_and_grow_with_what_is_in_them(tmp_path: Path) -> None:
    info, before = now(Info), now(Slab)
    slab = sum(info["slab_bytes"].values())
    assert sum(before["cache_bytes"].values()) == pytest.approx(slab, rel=0.15)
    assert len(before["cache_bytes"]) == 21
    for number in range(20_000):  # each leaves a dentry that says so
        (tmp_path / str(number)).exists()
    after = now(Slab)
    grown = after["cache_objects"]["dentry",] - before["cache_objects"]["dentry",]
    assert 15_000 < grown < 60_000


# containers


BUSY = """
import time
print("ready")
end = time.monotonic() + 2.0
used = 0.0
while time.monotonic() < end:
    began = time.thread_time()
    while time.thread_time() - began < 0.02:
        pass
    time.sleep(0.02)
print(time.process_time())
time.sleep(60)
"""


def test_cpu_of_a_cgroup_is_that_of_its_process() -> None:
    trees = hierarchies(HOST)
    with cgroup("usage", "cpuacct" if "cpuacct" in trees.v1 else "cpu") as group:
        aim = target(group, "cpuacct")
        with child(group, BUSY) as process:
            assert process.stdout
            used = float(process.stdout.readline())
            found = now(CpuCgroup, aim)
    assert 0.3 < used < 1.5
    measured = sum(found["usage_seconds_total"].values())
    assert measured == pytest.approx(used, abs=0.1, rel=0.1)


def test_a_quota_is_a_limit_and_throttles() -> None:
    with cgroup("quota", "cpu") as group:
        aim = target(group, "cpu")
        if (group.directory / "cpu.max").exists():
            group.write("cpu.max", "20000 100000")
        else:
            group.write("cpu.cfs_period_us", 100000)
            group.write("cpu.cfs_quota_us", 20000)
        group.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
        found = now(CpuCgroup, aim)
    assert found["limit_cores"] == {(aim.id,): pytest.approx(0.2)}
    assert found["throttled_periods_total"][aim.id,] >= 8
    assert found["throttled_seconds_total"][aim.id,] > 0.2


ALLOCATE = f"""
import mmap, time
memory = mmap.mmap(-1, {64 * MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(0, {64 * MIB}, 4096):
    memory[page] = 1
print("ready")
time.sleep(60)
"""


def test_memory_of_a_cgroup_is_what_was_allocated() -> None:
    with cgroup("memory") as group:
        limit = "memory.max" if (group.directory / "memory.max").exists() else ""
        group.write(limit or "memory.limit_in_bytes", 256 * MIB)
        aim = target(group, "memory")
        with child(group, ALLOCATE):
            found = now(MemoryCgroup, aim)
    assert found["anon_bytes"][aim.id,] == pytest.approx(64 * MIB, rel=0.15, abs=8 * MIB)
    assert 64 * MIB <= found["used_bytes"][aim.id,] <= 128 * MIB
    assert found["working_set_bytes"][aim.id,] <= found["used_bytes"][aim.id,]
    assert found["limit_bytes"] == {(aim.id,): 256 * MIB}


def test_tasks_of_a_cgroup_and_refused_forks() -> None:
    with cgroup("pids", "pids") as group:
        group.write("pids.max", 3)
        aim = target(group, "pids")
        code = (
            "import os,time\n"
            "for _ in range(5):\n"
            "  try:\n"
            "    if os.fork() == 0: time.sleep(60)\n"
            "  except OSError: pass\n"
            "print('ready'); time.sleep(60)"
        )
        with child(group, code):
            found = now(TaskCgroup, aim)
    assert found["tasks"] == {(aim.id,): 3}
    assert found["tasks_limit"] == {(aim.id,): 3}
    assert found["refused_forks_total"] == {(aim.id,): 3}


def test_a_namespace_has_its_own_traffic() -> None:
    need(os.geteuid() == 0, "a network namespace needs root")
    need(shutil.which("unshare") and shutil.which("ip"), "unshare or ip is not installed")
    code = (
        "import socket,subprocess,time\n"
        "subprocess.run('ip link set lo up; ip link add d0 type veth peer d1; "
        "ip link set d0 up; ip link set d1 up; ip addr add 10.9.8.7/24 dev d0; "
        "ip neigh add 10.9.8.1 lladdr 02:00:00:00:00:01 dev d0',"
        "shell=True, check=True)\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for _ in range(50): s.sendto(b'x' * 972, ('10.9.8.1', 9))\n"
        "c = socket.create_server(('127.0.0.1', 0))\n"
        "held = [socket.create_connection(c.getsockname()) for _ in range(4)]\n"
        "print('ready'); time.sleep(60)"
    )
    with cgroup("netns") as group:
        aim = target(group, "memory")
        with group.start(["unshare", "-n", sys.executable, "-u", "-c", code]) as process:
            assert process.stdout
            line = process.stdout.readline().strip()
            need(line == "ready", f"no veth device here: {line}")
            traffic, sockets = now(NetdevCgroup, aim), now(NetCgroup, aim)
            process.kill()
    sent = traffic["bytes_total"][aim.id, "d0", "transmit"]
    assert 50 * 1014 <= sent <= 50 * 1014 + 5000, "50 frames, and what IPv6 says on its own"
    assert sockets["tcp_established"] == {(aim.id,): 8}
    assert sockets["tcp_connects_total"] == {(aim.id,): 4}
