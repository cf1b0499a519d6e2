"""CRI v1, the API that the kubelet itself uses: containerd, CRI-O, cri-dockerd.

/runtime.v1.RuntimeService: ListContainers and ListPodSandbox, which also list what has ended until
the kubelet removes it. Labels and annotations of a container are its pod's and its own. None of it
changes, so a container is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from huatuo.enrich.containers.base import Details, Kept
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.sources.protobuf import Message, leading_text
from huatuo.enrich.containers.sources.socket import Socket
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
        self._known: dict[str, Details] = {}
        self.name = f"CRI at {socket.path}"

    async def containers(self) -> Mapping[str, Details]:
        try:
            if not self._runtime:
                version = Message(await self._socket.call(f"{_SERVICE}/Version"))
                self._runtime = version.text(2)  # containerd · cri-o · docker
            found = Message(await self._socket.call(f"{_SERVICE}/ListContainers"))
            pods = Message(await self._socket.call(f"{_SERVICE}/ListPodSandbox"))  # all of theirs
            self._known = self._details(pods, found)
            return self._known
        except ValueError as error:
            raise SourceError(f"{self._socket.path}: not the answer of a CRI: {error}") from error

    def _details(self, pods: Message, found: Message) -> dict[str, Details]:
        """As in k8s.io/cri-api, pkg/apis/runtime/v1/api.proto."""
        details: dict[str, Details] = {}
        for data in pods.parts(1):
            key = leading_text(data)
            details[key] = self._known.get(key) or self._pod(Message(data))
        for data in found.parts(1):
            key = leading_text(data)
            details[key] = self._known.get(key) or self._container(Message(data), details)
        return details

    def _container(self, container: Message, pods: Mapping[str, Details]) -> Details:
        whose = pods.get(container.text(2), Details())
        image = container.message(4).text(1)
        return replace(
            whose,
            name=container.message(3).text(1),
            image="" if image.startswith("sha256:") else image,
            type="normal" if whose.pod else "",
            labels={**whose.labels, **self._kept.labels(container.texts(8))},
            annotations={**whose.annotations, **self._kept.annotations(container.texts(9))},
            started=_rfc3339(container.integer(7)),
        )

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
