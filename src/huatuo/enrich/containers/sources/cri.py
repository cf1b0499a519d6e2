"""CRI v1, the API that the kubelet itself uses: containerd, CRI-O, cri-dockerd.

/runtime.v1.RuntimeService: ListContainers and ListPodSandbox, which also list what has ended until
the kubelet removes it. Labels and annotations of a container are its pod's and its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from huatuo.enrich.containers.base import Details, Kept
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.sources.grpc import Socket
from huatuo.enrich.containers.sources.protobuf import Message
from huatuo.enrich.containers.workload import workload_of

__all__ = ["SOCKETS", "Cri"]

_SERVICE = "/runtime.v1.RuntimeService"
SOCKETS = (  # below /run
    "containerd/containerd.sock",
    "crio/crio.sock",
    "k3s/containerd/containerd.sock",
    "cri-dockerd.sock",
)


class Cri:
    def __init__(self, socket: Socket, kept: Kept) -> None:
        self._socket, self._kept = socket, kept
        self._runtime = ""
        self.name = f"CRI at {socket.path}"

    async def containers(self) -> Mapping[str, Details]:
        try:
            if not self._runtime:
                version = Message(await self._socket.call(f"{_SERVICE}/Version"))
                self._runtime = version.text(2)  # containerd · cri-o · docker
            pods = Message(await self._socket.call(f"{_SERVICE}/ListPodSandbox"))
            found = Message(await self._socket.call(f"{_SERVICE}/ListContainers"))
            return self._details(pods, found)
        except ValueError as error:
            raise SourceError(f"{self._socket.path}: not the answer of a CRI: {error}") from error

    def _details(self, pods: Message, found: Message) -> dict[str, Details]:
        """As in k8s.io/cri-api, pkg/apis/runtime/v1/api.proto."""
        details: dict[str, Details] = {}
        labels: dict[str, dict[str, str]] = {}
        for pod in pods.messages(1):
            labels[pod.text(1)], details[pod.text(1)] = pod.texts(5), self._pod(pod)
        for container in found.messages(1):
            whose = details.get(container.text(2), Details())
            own = labels.get(container.text(2), {}) | container.texts(8)
            image = container.message(4).text(1)
            details[container.text(1)] = replace(
                whose,
                name=container.message(3).text(1),
                image="" if image.startswith("sha256:") else image,
                type="normal" if whose.pod else "",
                labels=self._kept.labels(own),
                annotations={**whose.annotations, **self._kept.annotations(container.texts(9))},
                started=_rfc3339(container.integer(7)),
            )
        return details

    def _pod(self, pod: Message) -> Details:
        metadata, labels = pod.message(2), pod.texts(5)
        return Details(
            name="pause",
            runtime=self._runtime,
            pod=metadata.text(1),
            namespace=metadata.text(3),
            pod_uid=metadata.text(2),
            workload=workload_of(metadata.text(1), labels),
            type="pause",
            labels=self._kept.labels(labels),
            annotations=self._kept.annotations(pod.texts(6)),
            started=_rfc3339(pod.integer(4)),
        )

    def close(self) -> None:
        self._socket.close()


def _rfc3339(nanoseconds: int) -> str:
    try:
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        when = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{when:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z" if seconds > 0 else ""
