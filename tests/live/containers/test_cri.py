"""Pods of a real containerd, made over CRI as a kubelet makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources.asking import Answers, Asking
from huatuo.enrich.containers.sources.chosen import sources_of
from huatuo.kernel.cgroup_events import CgroupEvents
from huatuo.kernel.host import Host
from huatuo.model.event import Container
from huatuo.settings import ContainerSettings
from tests.live.containers.cri import ask, kubelet
from tests.live.containers.runtimes import SLEEP, wait

pytestmark = pytest.mark.live

UID = "1b2c3d4e-0000-4000-8000-1234567890ab"
LABELS = {
    "app": "shop",
    "team": "payments",
    "pod-template-hash": "7d9f8c6b5",
    "io.kubernetes.pod.name": "shop-7d9f8c6b5-x2x4z",
}
KEPT = Kept("app te*", "owner")


def test_pod_is_what_was_asked_for(host: Host, rootfs: Path, tmp_path: Path) -> None:
    """At once from the bundle: its names; when CRI has been asked: its labels."""
    inventory, asking = informed(host)
    with kubelet(host, rootfs, tmp_path) as node:
        sandbox = node.pod(
            "shop-7d9f8c6b5-x2x4z", "prod", UID, labels=LABELS, annotations={"owner": "ann"}
        )
        app = node.container(sandbox, "app", SLEEP, cores=0.25, memory=48 << 20)
        inventory.refresh()
        early = found(inventory, app)
        assert (early.name, early.namespace, early.pod) == ("app", "prod", "shop-7d9f8c6b5-x2x4z")
        assert not early.labels
        ask(asking)
        late = found(inventory, app)
        assert (late.name, late.namespace, late.pod) == ("app", "prod", "shop-7d9f8c6b5-x2x4z")
        assert (late.pod_uid, late.qos, late.type) == (UID, "burstable", "normal")
        assert late.labels == {"app": "shop", "team": "payments"}
        assert late.annotations == {"owner": "ann"}
        assert late.workload == "Deployment/shop"
        assert late.image == "localhost/huatuo-busybox:1"
        assert late.runtime == "containerd"
        assert late.started.startswith("20")
        pause = found(inventory, sandbox)
        assert (pause.name, pause.type, pause.pod) == ("pause", "pause", "shop-7d9f8c6b5-x2x4z")
        wait(lambda: bool(limited(inventory, app).memory_limit_bytes), "its limits")
        assert limited(inventory, app).memory_limit_bytes == 48 << 20
        assert limited(inventory, app).cpu_limit == 0.25


@pytest.mark.usefixtures("need_bpf")
def test_container_that_ends_within_a_second_gets_its_labels(
    host: Host, rootfs: Path, tmp_path: Path
) -> None:
    """The kernel tells of its cgroup; CRI still lists it when it is asked after the end."""
    inventory, asking = informed(host)
    with kubelet(host, rootfs, tmp_path) as node:
        sandbox = node.pod("job-1", "batch", UID, labels={"app": "job", "job-name": "job"})
        events = CgroupEvents(host)
        inventory.follow(events)
        asking_wanted: list[bool] = []
        inventory.tell_of_containers(lambda: asking_wanted.append(True))
        brief = node.container(sandbox, "brief", ["/bin/sleep", "0.2"], cores=1, memory=32 << 20)
        wait(lambda: bool(gone(inventory, brief)), "its end")
        assert asking_wanted
        assert found(inventory, brief).name == "brief"
        ask(asking)
        after = found(inventory, brief)
        assert (after.name, after.pod, after.workload) == ("brief", "job-1", "Job/job")
        assert after.labels == {"app": "job"}
        assert after.gone
        events.close()


def informed(host: Host) -> tuple[Inventory, Asking]:
    answers = Answers()
    inventory = Inventory(host, kept=KEPT, answers=answers)
    return inventory, Asking(sources_of(host, ContainerSettings(), KEPT), answers, inventory)


def found(inventory: Inventory, container_id: str) -> Container:
    (only,) = [each for each in inventory.containers() if each.id == container_id]
    return only


def gone(inventory: Inventory, container_id: str) -> str:
    inventory.look_again()
    return "".join(each.gone for each in inventory.containers() if each.id == container_id)


def limited(inventory: Inventory, container_id: str) -> Container:
    inventory.refresh()
    return found(inventory, container_id)
