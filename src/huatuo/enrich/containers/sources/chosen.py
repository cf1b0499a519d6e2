"""Which daemons are asked: those at the usual sockets, and what the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.enrich.containers.base import Kept
from huatuo.enrich.containers.sources.base import Source
from huatuo.enrich.containers.sources.containerd import ContainerdApi
from huatuo.enrich.containers.sources.cri import SOCKETS, Cri
from huatuo.enrich.containers.sources.pods import Pods
from huatuo.enrich.containers.sources.socket import Socket
from huatuo.kernel.host import Host
from huatuo.settings import ContainerSettings

__all__ = ["sources_of"]


def sources_of(host: Host, settings: ContainerSettings, kept: Kept) -> list[Source]:
    """The most telling first. Raises ConfigError if the settings make no sense."""
    found: list[Source] = [Pods(settings, kept)] if settings.pods else []
    for socket in _sockets(host, settings.sockets):
        found.append(Cri(socket, kept))
        if socket.path.name == "containerd.sock":
            found.append(ContainerdApi(socket, kept))
    return found


def _sockets(host: Host, words: str) -> Iterator[Socket]:
    for word in words.split():
        if word == "auto":
            yield from (Socket(host.run / name, required=False) for name in SOCKETS)
        else:
            yield Socket(Path(word))
