"""Who made a pod, by the labels that Kubernetes' controllers put on what they make."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["workload_of"]

_HASH = "pod-template-hash"
_INDEX = re.compile(r"-[0-9]+")
_RANDOM = re.compile(r"-[a-z0-9]{5}")


def workload_of(pod: str, labels: Mapping[str, str]) -> str:
    """Deployment/web, StatefulSet/db, DaemonSet/agent, Job/backup-28390; "" if nobody is known.

    The name is in the pod's own: web-<hash>-<random>, db-<index>, agent-<random>.
    """
    job = labels.get("batch.kubernetes.io/job-name") or labels.get("job-name")
    if job:
        return f"Job/{job}"
    found = labels.get(_HASH, "")
    if found and (at := pod.rfind(f"-{found}-")) > 0:
        return f"Deployment/{pod[:at]}"
    base, dash, last = pod.rpartition("-")
    if "statefulset.kubernetes.io/pod-name" in labels and _INDEX.fullmatch(dash + last):
        return f"StatefulSet/{base}"
    if "pod-template-generation" in labels and _RANDOM.fullmatch(dash + last):
        return f"DaemonSet/{base}"
    return ""
