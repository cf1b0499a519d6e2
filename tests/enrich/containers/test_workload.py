"""Names of pods and labels as Kubernetes' own controllers give them."""

from __future__ import annotations

import pytest

from huatuo.enrich.containers.kubepods import pod_of
from huatuo.enrich.containers.workload import workload_of

UID = "1b2c3d4e-0000-4000-8000-1234567890ab"
UNDERSCORED = UID.replace("-", "_")
SLICE = f"kubepods-burstable-pod{UNDERSCORED}.slice"
BEST = f"kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UNDERSCORED}.slice"
STATIC = "0123456789abcdef0123456789abcdef"  # of a pod from a file: a hash


@pytest.mark.parametrize(
    ("pod", "labels", "workload"),
    [
        ("web-7d9f8c6b5-x2x4z", {"pod-template-hash": "7d9f8c6b5"}, "Deployment/web"),
        ("my-web-1-7d9f8c6b5-x2x4z", {"pod-template-hash": "7d9f8c6b5"}, "Deployment/my-web-1"),
        ("db-0", {"statefulset.kubernetes.io/pod-name": "db-0"}, "StatefulSet/db"),
        ("cni-x2x4z", {"pod-template-generation": "1", "app": "cni"}, "DaemonSet/cni"),
        ("backup-28390-x2x4z", {"job-name": "backup-28390"}, "Job/backup-28390"),
        ("b-1", {"batch.kubernetes.io/job-name": "b"}, "Job/b"),
        ("web-7d9f8c6b5-x2x4z", {}, ""),
        ("web", {"pod-template-hash": "7d9f8c6b5"}, ""),
        ("-7d9-x", {"pod-template-hash": "7d9"}, ""),
        ("db", {"statefulset.kubernetes.io/pod-name": "db"}, ""),
    ],
)
def test_workload_of_a_pod(pod: str, labels: dict[str, str], workload: str) -> None:
    assert workload_of(pod, labels) == workload


@pytest.mark.parametrize(
    ("path", "uid", "qos"),
    [
        (f"/kubepods/burstable/pod{UID}/{'a' * 64}", UID, "burstable"),
        (f"/kubepods/besteffort/pod{UID}", UID, "besteffort"),
        (f"/kubepods/pod{UID}/x", UID, "guaranteed"),
        (
            f"/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{'a' * 64}.scope",
            UID,
            "burstable",
        ),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-x.scope", UID, "guaranteed"),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{BEST}/cri-containerd-x.scope",
            UID,
            "besteffort",
        ),
        (
            f"/system.slice/containerd.service/{SLICE}:cri-containerd:{'a' * 64}",
            UID,
            "burstable",
        ),
        (f"/kubepods/burstable/pod{STATIC}/x", STATIC, "burstable"),
        (f"/docker/{'a' * 64}/kubelet/kubepods/pod{UID}/x", UID, "guaranteed"),
        (f"/podman/pod{UID}", "", ""),
        (f"/kubepods/pod{UID}0/x", "", ""),
        ("/kubepods/burstable", "", ""),
    ],
)
def test_pod_of_a_cgroup(path: str, uid: str, qos: str) -> None:
    assert pod_of(path) == (uid, qos)
