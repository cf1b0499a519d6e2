"""containerd's own API, for containers that no kubelet made: ctr, nerdctl, buildkit.

/containerd.services.namespaces.v1.Namespaces/List and containers.v1.Containers/List in each. Their
images and labels are nowhere else but in containerd's database.
"""

from __future__ import annotations

from collections.abc import Mapping

from huatuo.enrich.containers.base import Details, Kept, Mark
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.sources.protobuf import Message
from huatuo.enrich.containers.sources.socket import Socket

__all__ = ["ContainerdApi"]

_OTHERS = ("k8s.io", "moby")  # CRI says more of them, and docker's state on disk
_MOST = 64  # namespaces


class ContainerdApi:
    def __init__(self, socket: Socket, kept: Kept) -> None:
        self._socket, self._kept = socket, kept
        self.name = f"containerd at {socket.path}"

    async def containers(self) -> Mapping[str, Details]:
        found: dict[str, Details] = {}
        try:
            namespaces = await self._call("namespaces.v1.Namespaces")
            for scope in [entry.text(1) for entry in namespaces.messages(1)][:_MOST]:
                if scope not in _OTHERS:
                    listed = await self._call("containers.v1.Containers", scope)
                    for container in listed.messages(1):
                        key, details = self._details(scope, container)
                        found[key] = details
        except ValueError as error:
            where = self._socket.path
            raise SourceError(f"{where}: not the answer of containerd: {error}") from error
        return found

    async def _call(self, service: str, scope: str = "") -> Message:
        metadata = {"containerd-namespace": scope} if scope else None
        return Message(
            await self._socket.call(f"/containerd.services.{service}/List", b"", metadata)
        )

    def _details(self, scope: str, container: Message) -> tuple[str, Details]:
        """As in containerd's api/services/containers/v1/containers.proto."""
        name, labels = container.text(1), container.texts(2)
        return Mark("", name, "containerd", name, scope).key, Details(
            name=labels.get("nerdctl/name", ""),
            image=container.text(3),
            labels=self._kept.labels(labels),
        )

    def close(self) -> None:
        self._socket.close()
