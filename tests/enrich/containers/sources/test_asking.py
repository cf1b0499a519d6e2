"""Daemons that are asked: a real gRPC server on a socket speaks CRI and containerd's API as CRI-O,
an old containerd and a broken one would; and when it is that they are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from huatuo.enrich.containers.base import Details, Kept
from huatuo.enrich.containers.inventory import Inventory
from huatuo.enrich.containers.sources import asking as asking_module
from huatuo.enrich.containers.sources import grpc
from huatuo.enrich.containers.sources.asking import Answers, Asking
from huatuo.enrich.containers.sources.base import SourceAbsent, SourceError
from huatuo.enrich.containers.sources.chosen import sources_of
from huatuo.enrich.containers.sources.containerd import ContainerdApi
from huatuo.enrich.containers.sources.cri import Cri
from huatuo.enrich.containers.sources.socket import Socket
from huatuo.settings import ContainerSettings
from tests.enrich.conftest import Layout
from tests.enrich.containers.sources.messages import message

A, B = "a" * 64, "b" * 64
KEPT = Kept("app tier", "owner")
CRI = "/runtime.v1.RuntimeService"
NAMESPACES = "/containerd.services.namespaces.v1.Namespaces/List"
CONTAINERS = "/containerd.services.containers.v1.Containers/List"

CRIO = {
    f"{CRI}/Version": message(f1="0.1.0", f2="cri-o", f3="1.30.1", f4="v1"),
    f"{CRI}/ListPodSandbox": message(
        f1=message(
            f1=A,
            f2=message(f1="db-0", f2="uid-1", f3="prod"),
            f4=1_767_323_045_000_000_000,
            f5={"app": "db", "statefulset.kubernetes.io/pod-name": "db-0"},
            f6={"owner": "ann"},
        )
    ),
    f"{CRI}/ListContainers": message(
        f1=[
            message(
                f1=B,
                f2=A,
                f3=message(f1="postgres"),
                f4=message(f1="sha256:0123"),
                f7=1_767_323_046_000_000_007,
                f8={"tier": "back", "io.kubernetes.container.name": "postgres"},
                f9={"owner": "bob"},
            ),
            message(f1="c" * 64, f2="of a pod that is gone", f3=message(f1="old")),
        ]
    ),
}


class _Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:  # noqa: ARG002
        return data


class Daemon:
    """Answers each method with fixed bytes, or fails with a status."""

    def __init__(self, answers: Mapping[str, bytes | dict[str, bytes] | Status]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def __mapping__(self) -> dict[str, Handler]:
        return {
            name: Handler(self._handler(name), Cardinality.UNARY_UNARY, bytes, bytes)
            for name in self.answers
        }

    def _handler(self, name: str) -> Callable[[Stream[bytes, bytes]], Awaitable[None]]:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            self.asked.append(name)
            await stream.recv_message()
            answer = self.answers[name]
            if isinstance(answer, dict):
                answer = answer[str((stream.metadata or {})["containerd-namespace"])]
            if isinstance(answer, Status):
                raise GRPCError(answer, "starting")
            await stream.send_message(answer)

        return handle


@asynccontextmanager
async def listening(daemon: Daemon, path: Path) -> AsyncIterator[None]:
    server = Server([daemon], codec=_Bytes())
    await server.start(path=str(path))
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        path.unlink(missing_ok=True)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        await work
        await asyncio.sleep(0.01)  # lets connections close

    asyncio.run(whole())


def test_cri_as_crio_answers(tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(Daemon(CRIO), tmp_path / "s"):
            source = Cri(Socket(tmp_path / "s"), KEPT)
            found = await source.containers()
            source.close()
        assert found[A] == Details(
            name="pause",
            runtime="cri-o",
            pod="db-0",
            namespace="prod",
            pod_uid="uid-1",
            workload="StatefulSet/db",
            type="pause",
            labels={"app": "db"},
            annotations={"owner": "ann"},
            started="2026-01-02T03:04:05.000000000Z",
        )
        assert found[B] == Details(
            name="postgres",
            runtime="cri-o",
            pod="db-0",
            namespace="prod",
            pod_uid="uid-1",
            workload="StatefulSet/db",
            type="normal",
            labels={"app": "db", "tier": "back"},
            annotations={"owner": "bob"},
            started="2026-01-02T03:04:06.000000007Z",
        )
        assert (found["c" * 64].name, found["c" * 64].pod) == ("old", "")

    run(work())


def test_containerd_without_cri_has_its_own_api(tmp_path: Path) -> None:
    daemon = Daemon(
        {
            f"{CRI}/Version": Status.UNIMPLEMENTED,
            NAMESPACES: message(f1=[message(f1=name) for name in ("default", "k8s.io", "moby")]),
            CONTAINERS: {
                "default": message(
                    f1=[
                        message(f1="job", f2={"app": "batch"}, f3="img:1", f5=b"\x0a\x01x"),
                        message(f1=A, f2={"nerdctl/name": "web"}, f3="nginx:1"),
                    ]
                )
            },
        }
    )

    async def work() -> None:
        async with listening(daemon, tmp_path / "s"):
            named, usual = Socket(tmp_path / "s"), Socket(tmp_path / "s", required=False)
            found = await ContainerdApi(named, KEPT).containers()
            with pytest.raises(SourceAbsent, match=r"runtime\.v1\.RuntimeService"):
                await Cri(usual, KEPT).containers()
            with pytest.raises(SourceError, match=r"runtime\.v1\.RuntimeService") as raised:
                await Cri(named, KEPT).containers()
            assert not isinstance(raised.value, SourceAbsent)
            named.close()
            usual.close()
        job, web = found["containerd/default/job"], found[A]
        assert (job.image, job.labels) == ("img:1", {"app": "batch"})
        assert (web.name, web.image) == ("web", "nginx:1")

    run(work())


@pytest.mark.parametrize("answer", [b"\x0a\xff", b"\xff" * 20, b"\x08\x01"])
def test_garbage_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    async def work() -> None:
        async with listening(Daemon(CRIO | {f"{CRI}/ListContainers": answer}), tmp_path / "s"):
            source = Cri(Socket(tmp_path / "s"), KEPT)
            with pytest.raises(SourceError, match="not the answer"):
                await source.containers()
            source.close()

    run(work())


def test_daemon_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "_TIMEOUT_SECONDS", 0.1)

    async def work() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass
            writer.close()

        async with await asyncio.start_unix_server(hang, tmp_path / "s"):
            source = Cri(Socket(tmp_path / "s"), KEPT)
            with pytest.raises(SourceError, match="Deadline exceeded"):
                await source.containers()
            source.close()

    run(work())


def test_no_daemon_is_a_problem_only_where_one_is_named(layout: Layout) -> None:
    async def work() -> None:
        usual = Asking(sources_of(layout.host, ContainerSettings(), KEPT), *informed(layout))
        await usual.ask()
        assert usual.problems == {}
        named = ContainerSettings(sockets=str(layout.host.run / "none.sock"))
        asking = Asking(sources_of(layout.host, named, KEPT), *informed(layout))
        await asking.ask()
        (problem,) = asking.problems.values()
        assert "none.sock" in problem

    run(work())


def test_answers_are_kept_while_a_daemon_restarts(layout: Layout) -> None:
    inode = layout.cgroup(f"/kubepods/podx/{B}")
    answers, inventory = informed(layout)
    path = layout.host.run / "crio/crio.sock"
    path.parent.mkdir(parents=True)

    async def work() -> None:
        asking = Asking(sources_of(layout.host, ContainerSettings(), KEPT), answers, inventory)
        daemon = Daemon(CRIO)
        async with listening(daemon, path):
            await asking.ask()
            assert inventory.owner(inode).name == "postgres"
            daemon.answers[f"{CRI}/ListContainers"] = Status.UNAVAILABLE
            await asking.ask()
            assert list(asking.problems.values()) == [f"{path}: starting"]
            assert inventory.owner(inode).name == "postgres"
        asking.close()
        await asking.ask()  # there is nobody: its socket has gone
        assert asking.problems == {}
        path.write_text("")  # and here is something else
        await asking.ask()
        assert "refused" in "".join(asking.problems.values())
        path.unlink()

        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_unix_server(hang_up, path):
            await asking.ask()
            assert "lost" in "".join(asking.problems.values())
            assert inventory.owner(inode).name == "postgres"
        path.unlink()
        async with listening(Daemon(CRIO), path):
            await asking.ask()
            assert asking.problems == {}
            asking.close()

    run(work())


def test_a_source_that_breaks_breaks_nothing_else(layout: Layout) -> None:
    inode = layout.cgroup(f"/kubepods/podx/{B}")
    answers, inventory = informed(layout)

    class Broken:
        name = "broken"

        async def containers(self) -> Mapping[str, Details]:
            raise AttributeError("inside of a library")

        def close(self) -> None:
            pass

    class Whole(Broken):
        name = "whole"

        async def containers(self) -> Mapping[str, Details]:
            return {B: Details(name="postgres")}

    async def work() -> None:
        asking = Asking([Broken(), Whole()], answers, inventory)
        await asking.ask()
        assert asking.problems == {"broken": "AttributeError: inside of a library"}

    run(work())
    assert inventory.owner(inode).name == "postgres"


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 5000, b"\xff" * 100])
def test_what_does_not_speak_grpc(tmp_path: Path, said: bytes) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    async def work() -> None:
        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            source = Cri(Socket(tmp_path / "s"), KEPT)
            with pytest.raises(SourceError):
                await source.containers()
            source.close()

    run(work())


def test_asks_when_a_container_comes_and_not_before(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "_TOGETHER_SECONDS", 0.01)
    monkeypatch.setattr(asking_module, "_AGAIN_SECONDS", 0.01)
    answers, inventory = informed(layout)
    inventory.refresh()

    class Spoken:
        """Knows a container only after it has come."""

        name = "spoken"
        asked = 0

        async def containers(self) -> Mapping[str, Details]:
            self.asked += 1
            return {B: Details(name="postgres", labels={"app": "db"})} if self.asked > 1 else {}

        def close(self) -> None:
            self.asked = -1

    async def work() -> None:
        source = Spoken()
        asking = asyncio.create_task(Asking([source], answers, inventory).run())
        await asyncio.sleep(0.1)
        assert source.asked == 1
        inode = layout.cgroup(f"/docker/{B}")
        inventory.refresh()
        assert inventory.owner(inode).name == B[:12]
        for _ in range(100):
            if inventory.owner(inode).name == "postgres":
                break
            await asyncio.sleep(0.01)
        assert inventory.owner(inode).labels == {"app": "db"}
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert source.asked == -1

    run(work())


def informed(layout: Layout) -> tuple[Answers, Inventory]:
    answers = Answers()
    return answers, Inventory(layout.host, kept=KEPT, answers=answers)
