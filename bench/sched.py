"""cpu.sched under the worst case there is: a pinned pipe ping-pong, two switches per round trip.

Beside it libbpf-tools' runqlat, the tool a user would pick instead, if it is installed (Debian
package: bpfcc-tools has only the Python one; bpftrace is used where libbpf-tools is missing).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.compare import Comparison, alternate, table
from huatuo.kernel.host import Host
from huatuo.probes.base import discover

LOOPS = 200_000
_BPFTRACE = """
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @q[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
  if (args->prev_state == 0) { @q[args->prev_pid] = nsecs; }
  $t = @q[args->next_pid];
  if ($t) { @usecs = hist((nsecs - $t) / 1000); delete(@q[args->next_pid]); }
}
"""


def pipe_round_trip_ns() -> float:
    """One `perf bench sched pipe`, both ends pinned on one CPU."""
    result = subprocess.run(
        ["taskset", "-c", "1", "perf", "bench", "sched", "pipe", "-l", str(LOOPS)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"([0-9.]+) usecs/op", result.stdout)
    assert found, result.stdout
    return float(found[1]) * 1000


@contextmanager
def probe(name: str) -> Iterator[None]:
    """A probe of ours, loaded and attached."""
    running = discover()[name](Host())
    running.start()
    try:
        yield
    finally:
        running.stop()


@contextmanager
def bpftrace() -> Iterator[None]:
    """The classic one: stamp at wakeup, histogram at switch."""
    with subprocess.Popen(["bpftrace", "-e", _BPFTRACE], stdout=subprocess.DEVNULL) as child:
        time.sleep(3)
        yield
        child.terminate()


def run(rounds: int = 9) -> list[Comparison]:
    variants = {"huatuo cpu.sched": lambda: probe("cpu.sched")}
    if shutil.which("bpftrace"):
        variants["bpftrace run-queue latency"] = bpftrace
    return alternate(pipe_round_trip_ns, variants, rounds)


if __name__ == "__main__":
    print(table("perf bench sched pipe, pinned", "ns per round trip", run()))
