"""No wrong owner, ever: processes say in each of 100,000 records which container they are in, while
containers come, nest, go within milliseconds and come again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from huatuo.enrich.containers.inventory import Inventory
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.cgroupfs import identity_is_v1
from huatuo.kernel.object import BpfObject
from tests.live.conftest import HOST, cgroup

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("need_bpf")]

WORKERS, LIVES = 4, 110
AN_INNER = 5_000_000
RATE = 100_000_000
# One life after the other: a container, one with a cgroup of its own inside, one with another
# container inside; each fifth is one that was there before. The process names itself after where
# it is, 240 times.
WORKER = f"""
import ctypes, os, sys, time
root, worker, lives = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rename = ctypes.CDLL(None).prctl

def enter(directory):
    with open(directory + "/cgroup.procs", "w") as file:
        file.write("0")

def say(number, times):
    name = b"own-%d" % number
    for _ in range(times):
        rename(15, name, 0, 0, 0)

for life in range(lives):
    number = worker * 10_000 + life - (life % 5 == 4)
    top = f"{{root}}/docker-{{number:064x}}.scope"
    os.mkdir(top)
    where, owner = top, number
    if life % 3 == 1:
        where = top + "/inner"
    elif life % 3 == 2:
        owner = number + {AN_INNER}
        where = f"{{top}}/{{owner:064x}}"
    if where != top:
        os.mkdir(where)
    enter(where)
    say(owner, 200)
    enter(top)
    say(number, 40)
    enter(root)
    if where != top:
        os.rmdir(where)
    os.rmdir(top)
    time.sleep(0.005)
"""


def test_no_record_has_a_wrong_owner() -> None:
    tunables = {
        "max_per_second": RATE,
        "max_per_second_per_container": RATE,
        "cgroup_v1": identity_is_v1(HOST),
    }
    inventory = Inventory(HOST)
    events = CgroupEvents(HOST)
    inventory.follow(events)
    seen, wrong, living = 0, [], 0
    object_file = Path(__file__).parents[1] / "inject/owned.bpf.o"
    with cgroup("owners") as group, BpfObject(object_file, tunables) as opened:
        ring = opened.rings["names"]
        argv = [sys.executable, "-c", WORKER, str(group.directory)]
        workers = [
            subprocess.Popen([*argv, str(number), str(LIVES)]) for number in range(1, WORKERS + 1)
        ]
        running = True
        while running:
            running = any(worker.poll() is None for worker in workers)
            time.sleep(0.005)
            inventory.look_again()
            rows = ring.drain()
            owners, named = owners_of(inventory, rows), numbers(rows)
            seen += len(rows)
            wrong += [(n, o) for n, o in zip(named, owners, strict=True) if o != f"{n:064x}"]
            living += running and len(rows) > 0
        _, account = opened.maps["account"].read()
    events.close()
    assert [worker.returncode for worker in workers] == [0] * WORKERS
    assert seen == WORKERS * LIVES * 240 >= 100_000
    assert int(account["produced"][0]) == seen
    assert wrong == []
    assert living > 2  # looks while containers came and went


def numbers(rows: npt.NDArray[np.void]) -> list[int]:
    return [int(name.partition(b"\0")[0].removeprefix(b"own-")) for name in rows["name"].tolist()]


def owners_of(inventory: Inventory, rows: npt.NDArray[np.void]) -> list[str]:
    """Ids of the containers, one for each record; looked up once for each cgroup."""
    unique, at = np.unique(rows["cgroup"], return_inverse=True)
    owners = [owner.id for owner in inventory.owners(unique.tolist())]
    return [owners[index] for index in at.tolist()]
