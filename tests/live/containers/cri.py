"""A kubelet's part towards containerd: pods and containers made over CRI, with messages by hand.

Field numbers are those of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto. Pods are of the host's
network, so that no network plugin is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huatuo.enrich.containers.sources.asking import Asking
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.sources.protobuf import Message
from huatuo.enrich.containers.sources.socket import Socket
from huatuo.kernel.host import Host
from tests.enrich.containers.sources.messages import message
from tests.live.conftest import need
from tests.live.containers.runtimes import call, end, tool, wait

__all__ = ["Kubelet", "ask", "kubelet"]

_IMAGE = "localhost/huatuo-busybox:1"
_CONFIG = """
version = 2
root = "{tmp}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    Root = "{run}/containerd/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{tmp}/cni"
"""


@dataclass
class Kubelet:
    """Makes pods as a kubelet with the cgroupfs driver does."""

    socket: Path
    ctr: list[str]
    made: list[str] = field(default_factory=list)
    _configs: dict[str, bytes] = field(default_factory=dict)  # of pods, by the sandbox's id

    def pod(self, name: str, namespace: str, uid: str, **more: Mapping[str, str]) -> str:
        """`labels` and `annotations`; returns the sandbox's id."""
        network = message(f1=2, f2=1, f3=2)  # the host's network, its own processes
        config = message(
            f1=message(f1=name, f2=uid, f3=namespace),
            f6=more.get("labels", {}),
            f7=more.get("annotations", {}),
            f8=message(f1=f"/kubepods/burstable/pod{uid}", f2=message(f1=network)),
        )
        sandbox = self.ask("RunPodSandbox", message(f1=config)).text(1)
        self.made.append(sandbox)
        self._configs[sandbox] = config
        return sandbox

    def container(self, pod: str, name: str, argv: list[str], cores: float, memory: int) -> str:
        """Started in a pod with these limits; returns its id."""
        resources = message(f1=100_000, f2=int(cores * 100_000), f4=memory)
        config = message(
            f1=message(f1=name),
            f2=message(f1=_IMAGE),
            f3=argv,
            f9={"io.kubernetes.container.name": name},
            f15=message(f1=resources),
        )
        request = message(f1=pod, f2=config, f3=self._configs[pod])
        created = self.ask("CreateContainer", request).text(1)
        self.ask("StartContainer", message(f1=created))
        return created

    def stop(self, container: str) -> None:
        self.ask("StopContainer", message(f1=container, f2=0))

    def ask(self, method: str, request: bytes) -> Message:
        async def remote() -> bytes:
            socket = Socket(self.socket)
            try:
                return await socket.call(f"/runtime.v1.RuntimeService/{method}", request)
            finally:
                socket.close()
                await asyncio.sleep(0)  # closes it

        return Message(asyncio.run(remote()))


@contextmanager
def kubelet(host: Host, rootfs: Path, tmp_path: Path) -> Iterator[Kubelet]:
    """Over a containerd of its own, at the usual place below the host's run."""
    program, ctr = tool("containerd"), tool("ctr")
    tool("runc")
    socket = host.run / "containerd/containerd.sock"
    (tmp_path / "cri.toml").write_text(
        _CONFIG.format(tmp=tmp_path, run=host.run, socket=socket, image=_IMAGE)
    )
    base = [ctr, "--address", str(socket)]
    with (
        (tmp_path / "cri.log").open("w") as log,
        subprocess.Popen(
            [program, "--config", tmp_path / "cri.toml"], stdout=log, stderr=log
        ) as daemon,
    ):
        made = Kubelet(socket, base)
        try:
            wait(socket.exists, "containerd's socket")
            _import(base, rootfs, tmp_path / "image.tar")
            wait(lambda: _answers(made), "CRI")
            yield made
        finally:
            for pod in made.made:
                for method in ("StopPodSandbox", "RemovePodSandbox"):
                    made.ask(method, message(f1=pod))
            daemon.terminate()
            daemon.wait(30)


def _answers(kubelet: Kubelet) -> bool:
    try:
        return bool(kubelet.ask("Version", b"").text(2))
    except SourceError as error:
        need("has no" not in str(error), "this containerd is built without CRI")
        return False


def _import(base: list[str], rootfs: Path, archive: Path) -> None:
    """The root file system as an image, in the form that `docker save` writes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "600"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(archive, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    end(*base, "namespaces", "create", "k8s.io")
    call(*base, "--namespace", "k8s.io", "images", "import", "--snapshotter", "native", archive)


def ask(asking: Asking) -> None:
    """Ask all daemons once."""

    async def once() -> None:
        await asking.ask()
        asking.close()
        await asyncio.sleep(0)  # closes it

    asyncio.run(once())
    assert asking.problems == {}
