"""A double of a kubelet's /pods and of the Kubernetes API: a real server, with TLS and tokens, that
answers with objects as Kubernetes writes them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from huatuo.enrich.containers.base import Details, Kept
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.sources.pods import Pods
from huatuo.errors import ConfigError
from huatuo.settings import ContainerSettings

A, B, C, D, E = (letter * 64 for letter in "abcde")
TOKEN = "a.b.c"
KEPT = Kept("app", "owner")

WEB = {
    "metadata": {
        "name": "web-7d9f8c6b5-x2x4z",
        "namespace": "prod",
        "uid": "1b2c3d4e-0000-4000-8000-1234567890ab",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app": "web", "pod-template-hash": "7d9f8c6b5"},
        "annotations": {"owner": "ann", "kubernetes.io/config.source": "api"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-7d9f8c6b5",
                "uid": "7",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    },
    "spec": {
        "nodeName": "node-7",
        "initContainers": [
            {"name": "migrate", "image": "shop/migrate:1"},
            {"name": "proxy", "image": "mesh/proxy:3", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "app", "image": "shop/app:2", "resources": {}}],
        "ephemeralContainers": [{"name": "debugger", "image": "busybox"}],
    },
    "status": {
        "phase": "Running",
        "qosClass": "Burstable",
        "startTime": "2026-01-02T03:04:05Z",
        "initContainerStatuses": [
            {
                "name": "migrate",
                "containerID": f"containerd://{A}",
                "state": {"terminated": {"exitCode": 0, "startedAt": "2026-01-02T03:04:06Z"}},
                "lastState": {},
            },
            {
                "name": "proxy",
                "containerID": f"containerd://{B}",
                "state": {"running": {"startedAt": "2026-01-02T03:04:07Z"}},
                "lastState": {},
            },
        ],
        "containerStatuses": [
            {
                "name": "app",
                "containerID": f"containerd://{C}",
                "imageID": "sha256:77",
                "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 1,
                        "containerID": f"containerd://{D}",
                        "startedAt": "2026-01-02T03:09:07Z",
                    }
                },
            }
        ],
        "ephemeralContainerStatuses": [
            {"name": "debugger", "containerID": f"containerd://{E}", "state": {"running": {}}}
        ],
    },
}
STATIC = {
    "metadata": {
        "name": "etcd-node-7",
        "namespace": "kube-system",
        "uid": "7c",
        "ownerReferences": [{"kind": "Node", "name": "node-7", "controller": True}],
    },
    "spec": {"nodeName": "node-7", "containers": [{"name": "etcd", "image": "etcd:3"}]},
    "status": {
        "qosClass": "BestEffort",
        "containerStatuses": [{"name": "etcd", "containerID": f"cri-o://{A}", "state": None}],
    },
}
PENDING = {"metadata": {"name": "new", "labels": None}, "spec": {"containers": None}, "status": {}}


class Server:
    """Answers every GET with the pods, if the token is right where one is wanted."""

    def __init__(self, pods: object, token: str = "") -> None:
        outer = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if token and self.headers["Authorization"] != f"Bearer {token}":
                    self.send_error(401)
                    return
                body = pods if isinstance(pods, bytes) else json.dumps(pods).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self.http.server_address[1]

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
        if tls is not None:
            self.http.socket = tls.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = Thread(target=self.http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            thread.join()
            self.http.server_close()


def pod_list(*pods: object) -> dict[str, object]:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}


def asked(where: str, **more: str) -> Mapping[str, Details]:
    source = Pods(ContainerSettings(pods=where, **more), KEPT)
    return asyncio.run(source.containers())


def test_every_container_of_a_pod_with_its_kind() -> None:
    with Server(pod_list(WEB, PENDING)).running() as server:
        found = asked(f"http://127.0.0.1:{server.port}")
    assert server.asked == ["/pods"]
    kinds = {key[0]: (each.name, each.type, each.image) for key, each in found.items()}
    assert kinds == {
        "a": ("migrate", "init", "shop/migrate:1"),
        "b": ("proxy", "sidecar", "mesh/proxy:3"),
        "c": ("app", "normal", "shop/app:2"),
        "d": ("app", "normal", "shop/app:2"),  # the one that crashed before
        "e": ("debugger", "ephemeral", "busybox"),
    }
    for each in found.values():
        assert (each.pod, each.namespace, each.node) == ("web-7d9f8c6b5-x2x4z", "prod", "node-7")
        assert (each.workload, each.qos) == ("Deployment/web", "burstable")
        assert (each.labels, each.annotations) == ({"app": "web"}, {"owner": "ann"})
    assert found[B].started == "2026-01-02T03:04:07Z"
    assert found[D].started == "2026-01-02T03:09:07Z"


def test_static_pod_has_no_workload() -> None:
    with Server(pod_list(STATIC)).running() as server:
        (only,) = asked(f"http://127.0.0.1:{server.port}").values()
    assert (only.name, only.workload, only.qos) == ("etcd", "", "besteffort")


def test_address_of_the_api_is_used_as_it_is() -> None:
    with Server(pod_list()).running() as server:
        path = "/api/v1/pods?fieldSelector=spec.nodeName=node-7"
        assert asked(f"http://127.0.0.1:{server.port}{path}") == {}
    assert server.asked == [path]


def test_token_is_sent_and_certificate_is_verified(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key, token = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "token"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    token.write_text("old")
    with Server(pod_list(WEB), TOKEN).running(tls) as server:
        where = f"https://localhost:{server.port}/pods"
        named = {"pods_ca_file": str(certificate), "pods_token_file": str(token)}
        source = Pods(ContainerSettings(pods=where, **named), KEPT)
        with pytest.raises(SourceError, match="401"):
            asyncio.run(source.containers())
        token.write_text(f"{TOKEN}\n")  # as the kubelet renews it
        assert len(asyncio.run(source.containers())) == 5
        seen = len(server.asked)
        with pytest.raises(SourceError, match="pods_ca_file"):
            asked(where, pods_token_file=str(token))
        with pytest.raises(SourceError, match="pods_ca_file"):
            asked(where.replace("localhost", "127.0.0.1"), **named)
        assert len(server.asked) == seen  # the token went to nobody


@pytest.mark.parametrize("answer", [b"", b"[]", b"{", b'{"items": 7}', b'{"items": [{"spec": 1}]}'])
def test_what_is_no_list_of_pods(answer: bytes) -> None:
    with (
        Server(answer).running() as server,
        pytest.raises(SourceError, match="not a list of pods"),
    ):
        asked(f"http://127.0.0.1:{server.port}")


def test_nobody_listens() -> None:
    with pytest.raises(SourceError, match="refused"):
        asked("http://127.0.0.1:1/pods")


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("kubelet", {}),
        ("ftp://x/", {}),
        ("http://127.0.0.1:10255/pods", {"pods_token_file": "/token"}),
    ],
)
def test_settings_that_make_no_sense(where: str, more: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="pods"):
        Pods(ContainerSettings(pods=where, **more), KEPT)
