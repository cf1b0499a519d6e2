"""What the kubelet's cgroups say of a pod: its uid and its class of service.

/kubepods/burstable/pod<uid>/<id> with the cgroupfs driver, with systemd's
kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, with _ for ->.slice/<id>.scope,
and <that slice>:cri-containerd:<id> where the two are mixed. kind's begin with kubelet-kubepods.
"""

from __future__ import annotations

import re

__all__ = ["pod_of"]

_POD = re.compile(
    r"kubepods(?:[-/.](?:slice|kubelet|kubepods|(?P<qos>burstable|besteffort)))*[-/]"
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)


def pod_of(path: str) -> tuple[str, str]:
    """(uid, class of service) of the pod that a cgroup belongs to; ("", "") if to none."""
    found = _POD.search(path) if "kubepods" in path else None
    if found is None:
        return "", ""
    return found["uid"].replace("_", "-"), found["qos"] or "guaranteed"
