"""All runtimes whose state on disk can be read, the most telling first: so they are asked."""

from __future__ import annotations

from huatuo.enrich.containers.base import Kept, Runtime
from huatuo.enrich.containers.containerd import Containerd
from huatuo.enrich.containers.docker import Docker
from huatuo.enrich.containers.machines import AnyFullId, Lxc, Nspawn
from huatuo.enrich.containers.oci import Crun, Runc
from huatuo.enrich.containers.podman import Podman
from huatuo.enrich.containers.state import State
from huatuo.kernel.host import Host

__all__ = ["nested_runtimes", "runtimes_of"]


def runtimes_of(host: Host, kept: Kept) -> list[Runtime]:
    """Those of the host itself."""
    state = State(host.root, host.run if host.run != host.root / "run" else None)
    return [
        *_managed(state, kept),
        Runc(state, host),
        Crun(state),
        Lxc(),
        Nspawn(),
        AnyFullId(),
    ]


def nested_runtimes(state: State, kept: Kept) -> list[Runtime]:
    """Those inside a container."""
    return _managed(state, kept)


def _managed(state: State, kept: Kept) -> list[Runtime]:
    return [Docker(state, kept), Podman(state, kept), Containerd(state, kept)]
