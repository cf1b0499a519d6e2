"""Pods as Kubernetes describes them: a kubelet's /pods, or the API's /api/v1/pods of this node.

They know what no runtime does: who made a pod, its class of service, which containers are init
containers, sidecars or ephemeral, and the node's name. Certificates are verified; the token is
read at every request, for it is renewed in its file.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from huatuo.enrich.containers.base import Details, Kept
from huatuo.enrich.containers.sources.base import SourceError
from huatuo.enrich.containers.workload import workload_of
from huatuo.errors import ConfigError
from huatuo.settings import ContainerSettings

__all__ = ["Pods"]

_TIMEOUT_SECONDS = 10.0
_LARGEST = 64 << 20


class _Owner(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Declared(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    image: str = ""
    restart_policy: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    containers: list[_Declared] | None = None
    init_containers: list[_Declared] | None = None
    ephemeral_containers: list[_Declared] | None = None


class _Phase(msgspec.Struct, frozen=True, rename="camel"):
    started_at: str | None = None
    container_id: str = msgspec.field(default="", name="containerID")


class _State(msgspec.Struct, frozen=True):
    running: _Phase | None = None
    terminated: _Phase | None = None


class _ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    state: _State | None = None
    last_state: _State | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    qos_class: str = ""
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()
    status: _Status = _Status()


class _List(msgspec.Struct, frozen=True):
    items: list[_Pod] | None = None


class Pods:
    """Raises ConfigError if the settings make no sense."""

    def __init__(self, settings: ContainerSettings, kept: Kept) -> None:
        self._settings, self._kept = settings, kept
        self._where = urlsplit(settings.pods)
        if self._where.scheme not in ("http", "https") or not self._where.hostname:
            raise ConfigError(
                f'[containers] pods = "{settings.pods}": expected an address, for example '
                "https://127.0.0.1:10250/pods"
            )
        if settings.pods_token_file and self._where.scheme != "https":
            raise ConfigError("[containers] pods_token_file: a token is sent over https only")
        self.name = f"pods at {settings.pods}"

    async def containers(self) -> Mapping[str, Details]:
        try:
            return await asyncio.to_thread(self._ask)
        except msgspec.MsgspecError as error:
            raise SourceError(f"not a list of pods: {error}") from error
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message
            raise SourceError(f"{reason}; is [containers] pods_ca_file right?") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(str(error) or type(error).__name__) from error

    def _ask(self) -> dict[str, Details]:
        connection = self._connection()
        path = self._where.path or "/pods"
        if self._where.query:
            path += f"?{self._where.query}"
        try:
            connection.request("GET", path, headers=self._headers())
            with connection.getresponse() as answer:
                if answer.status != 200:
                    raise SourceError(f"HTTP {answer.status} {answer.reason}"[:200])
                data = answer.read(_LARGEST + 1)
        finally:
            connection.close()
        if len(data) > _LARGEST:
            raise SourceError(f"more than {_LARGEST} bytes")
        pods = msgspec.json.decode(data, type=_List).items or ()
        return {key: details for pod in pods for key, details in self._of(pod)}

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._where.hostname or "", self._where.port
        if self._where.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        settings = self._settings
        trusted = ssl.create_default_context(cafile=settings.pods_ca_file or None)
        if settings.pods_cert_file:
            trusted.load_cert_chain(settings.pods_cert_file, settings.pods_key_file or None)
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=trusted)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self._settings.pods_token_file:
            token = Path(self._settings.pods_token_file).read_text().strip()
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _of(self, pod: _Pod) -> Iterator[tuple[str, Details]]:
        metadata, spec, status = pod.metadata, pod.spec, pod.status
        common = Details(
            pod=metadata.name,
            namespace=metadata.namespace,
            pod_uid=metadata.uid,
            node=spec.node_name,
            workload=_workload(metadata),
            qos=status.qos_class.lower(),
            labels=self._kept.labels(metadata.labels),
            annotations=self._kept.annotations(metadata.annotations),
        )
        kinds = (
            ("normal", spec.containers, status.container_statuses),
            ("init", spec.init_containers, status.init_container_statuses),
            ("ephemeral", spec.ephemeral_containers, status.ephemeral_container_statuses),
        )
        for kind, declared, statuses in kinds:
            by_name = {each.name: each for each in declared or ()}
            for each in statuses or ():
                known = by_name.get(each.name, _Declared())
                is_sidecar = kind == "init" and known.restart_policy == "Always"
                for key, started in _runs(each):
                    yield (
                        key,
                        replace(
                            common,
                            name=each.name,
                            image=known.image,
                            type="sidecar" if is_sidecar else kind,
                            started=started,
                        ),
                    )

    def close(self) -> None:
        pass


def _runs(status: _ContainerStatus) -> Iterator[tuple[str, str]]:
    """(id, start) of the container that runs and of the one before, which may have crashed."""
    for state, container_id in ((status.last_state, ""), (status.state, status.container_id)):
        phase = (state and (state.running or state.terminated)) or _Phase()
        key = (container_id or phase.container_id).rpartition("//")[2]  # containerd://<id>
        if key:
            yield key, phase.started_at or ""


def _workload(metadata: _Metadata) -> str:
    labels = metadata.labels or {}
    owner = next((each for each in metadata.owner_references or () if each.controller), None)
    if owner is None or owner.kind == "Node":  # a static pod
        return workload_of(metadata.name, labels)
    if owner.kind == "ReplicaSet" and (found := labels.get("pod-template-hash")):
        return f"Deployment/{owner.name.removesuffix(f'-{found}')}"
    return f"{owner.kind}/{owner.name}"
