"""Profiles sent on: over real sockets, to our own server and to one that misbehaves."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from huatuo.errors import ConfigError
from huatuo.export import otlp_messages, pprof
from huatuo.export import pyroscope_messages as pyroscope
from huatuo.export.push import Pusher
from huatuo.serve.app import create_app
from huatuo.serve.server import serve
from huatuo.settings import PushSettings
from tests.export.profiles import TOTAL, profile
from tests.serve.fake_node import FakeNode
from tests.serve.test_receive import kept

WEB = {"container": "web", "pod": "web-1", "comm": "nginx"}
TOKEN = "s3cret"


@contextmanager
def huatuo(node: FakeNode, token: str = "") -> Iterator[str]:
    """Our own server, in a thread of its own; its address."""
    ready: list[str] = []
    loop = asyncio.new_event_loop()
    app = create_app(node, token=token)
    task = loop.create_task(
        serve(app, "127.0.0.1", 0, started=lambda host, port: ready.append(f"http://{host}:{port}"))
    )

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 10
    while not ready and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


Answer = tuple[int, dict[str, str], bytes]


class Stub:
    """An HTTP server that notes what it gets and answers what it is told, the last answer again."""

    def __init__(self, answers: list[Answer], tls: ssl.SSLContext | None = None) -> None:
        self.answers = answers
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stub.got.append((self.path, headers, body))
                status, extra, content = stub.answers[min(len(stub.got), len(stub.answers)) - 1]
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **extra}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]

    def __enter__(self) -> Stub:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


OK: Answer = (200, {}, b"")


def pusher(port: int, **options: Any) -> Pusher:
    return Pusher(PushSettings(url=f"http://127.0.0.1:{port}", **options))


def send_all(one: Pusher, most_seconds: float = 20.0) -> None:
    """As the agent does it: call again when it says so."""
    deadline = time.monotonic() + most_seconds
    while (pause := one.send()) != float("inf") and time.monotonic() < deadline:
        time.sleep(pause)


# -- to our own server: asked for again ------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["pyroscope", "pyroscope-ingest", "otlp"])
def test_what_was_sent_is_there(protocol: str, tmp_path: Path) -> None:
    node = FakeNode(empty=True)
    (tmp_path / "token").write_text(TOKEN + "\n")
    with huatuo(node, TOKEN) as url:
        settings = PushSettings(url=url, protocol=protocol, token_file=str(tmp_path / "token"))
        one = Pusher(settings)
        one.offer([(WEB, profile()), ({"container": "db"}, profile(name="resident")),
                   (WEB, profile([]))])  # fmt: skip
        assert one.send() == float("inf")
    assert (one.pushed.sent, one.pushed.failed, one.pushed.dropped) == (2, 0, 0)
    assert one.problem == ""
    found = kept(node)
    assert sum(row[2] for row in found if row[0] == "cpu") == TOTAL
    assert sum(row[2] for row in found if row[0] == "resident") == TOTAL
    assert {tuple(row[3].items()) for row in found if row[0] == "cpu"} == {
        (("comm", "nginx"), ("container", "web"), ("pod", "web-1"))
    }


def test_without_the_token_it_is_refused_and_not_tried_again() -> None:
    node = FakeNode(empty=True)
    with huatuo(node, TOKEN) as url:
        one = Pusher(PushSettings(url=url))
        one.offer([(WEB, profile())])
        assert one.send() == float("inf")
    assert (one.pushed.sent, one.pushed.failed, one.pushed.retries) == (0, 1, 0)
    assert "401" in one.problem
    assert kept(node) == []


# -- what is on the wire ---------------------------------------------------------------------------


def test_the_requests_of_each_protocol() -> None:
    with Stub([OK]) as stub:
        for protocol in ("pyroscope", "pyroscope-ingest", "otlp"):
            one = pusher(stub.port, protocol=protocol, tenant="team-a", headers="x-more=a%20b")
            one.offer([(WEB, profile())])
            one.send()
    (push, ingest, otlp) = stub.got
    assert all(headers["x-scope-orgid"] == "team-a" for _, headers, _ in stub.got)
    assert all(headers["x-more"] == "a b" for _, headers, _ in stub.got)
    assert push[0] == "/push.v1.PusherService/Push"
    assert push[1]["content-type"] == "application/proto"
    (series,) = pyroscope.PushRequest.decode(push[2]).series
    labels = {pair.name: pair.value for pair in series.labels}
    assert labels == {**WEB, "service_name": "web", "__name__": "process_cpu"}
    (samples,) = pprof.read(series.samples[0].raw_profile).samples
    assert int(samples.values.sum()) == TOTAL
    assert ingest[0].startswith(
        "/ingest?name=web%7Bcomm%3Dnginx%2Ccontainer%3Dweb%2Cpod%3Dweb-1%7D&from=1767225600&until="
    )
    assert otlp[0] == "/v1development/profiles"
    assert otlp[1]["content-encoding"] == "gzip"


def test_a_path_in_the_address_is_kept() -> None:
    with Stub([OK]) as stub:
        for path in ("/base", "/base/", "/base/v1development/profiles"):
            settings = PushSettings(url=f"http://127.0.0.1:{stub.port}{path}", protocol="otlp")
            one = Pusher(settings)
            one.offer([(WEB, profile())])
            one.send()
    assert [path for path, _, _ in stub.got] == ["/base/v1development/profiles"] * 3


@pytest.mark.parametrize(("protocol", "most"), [("pyroscope", 2500), ("otlp", 650)])
def test_requests_have_a_size(protocol: str, most: int) -> None:
    with Stub([OK]) as stub:
        one = pusher(stub.port, protocol=protocol, max_request=most)
        one.offer([({"container": f"c{i}"}, profile()) for i in range(12)])
        one.send()
    assert one.pushed.sent == 12
    assert len(stub.got) > 1
    assert all(len(body) <= most + 1000 for _, _, body in stub.got)  # and labels
    assert one.pushed.bytes == sum(len(body) for _, _, body in stub.got)


# -- what goes wrong -------------------------------------------------------------------------------


def test_an_overloaded_server_is_asked_again() -> None:
    with Stub([(503, {}, b"busy"), (429, {"retry-after": "1"}, b""), OK]) as stub:
        one = pusher(stub.port)
        one.offer([(WEB, profile())])
        begin = time.monotonic()
        pause = one.send()
        assert 0.4 < pause <= 1.0
        assert one.problem.endswith("answers 503: busy")
        send_all(one)
    assert time.monotonic() - begin > pause + 0.9  # it was told to wait a second
    assert (one.pushed.sent, one.pushed.retries, one.pushed.failed) == (1, 2, 0)
    assert one.problem == ""
    assert len({body for _, _, body in stub.got}) == 1


def test_nobody_there_is_tried_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stub([OK]) as gone:
        pass
    one = pusher(gone.port, max_tries=6)
    one.offer([(WEB, profile())])
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pauses = []
    while (pause := one.send()) != float("inf"):
        pauses.append(pause)
        now[0] += pause
    assert len(pauses) == 5
    assert all(0.5 * 2**i <= pause <= 2**i for i, pause in enumerate(pauses))
    assert (one.pushed.sent, one.pushed.dropped, one.pushed.retries) == (0, 1, 6)
    assert str(gone.port) in one.problem


def test_a_server_that_does_not_answer_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # nobody accepts
        one = pusher(listening.getsockname()[1], timeout=200_000_000)
        one.offer([(WEB, profile())])
        begin = time.monotonic()
        assert one.send() <= 1.0
        assert time.monotonic() - begin < 2
    assert "timed out" in one.problem


def test_what_is_refused_does_not_hold_up_the_rest() -> None:
    with Stub([(400, {}, b'{"code":"invalid_argument","message":"no"}'), OK]) as stub:
        one = pusher(stub.port, protocol="pyroscope-ingest")
        one.offer([(WEB, profile()), ({"container": "db"}, profile())])
        assert one.send() == float("inf")
    assert (one.pushed.sent, one.pushed.failed) == (1, 1)


def test_a_partial_success_is_counted() -> None:
    partial = otlp_messages.PartialSuccess(1, "too old")
    answer = otlp_messages.ExportResponse(partial).encode()
    with Stub([(200, {}, answer)]) as stub:
        one = pusher(stub.port, protocol="otlp")
        one.offer([(WEB, profile()), ({"container": "db"}, profile())])
        one.send()
    assert (one.pushed.sent, one.pushed.failed, one.problem) == (1, 1, "too old")


def test_the_queue_is_bounded_and_the_oldest_goes() -> None:
    with Stub([OK]) as stub:
        one = pusher(stub.port, protocol="pyroscope-ingest", max_queue=5000)
        for i in range(50):
            one.offer([({"container": f"c{i}"}, profile())])
        waiting = sum(len(request.body) for request in one._queue)
        assert 3000 < waiting <= 5000
        one.send()
    assert one.pushed.sent + one.pushed.dropped == 50
    assert one.pushed.dropped > 30
    assert stub.got[-1][0].startswith("/ingest?name=c49")


def test_offers_during_sending_are_all_accounted_for() -> None:
    """One thread offers, another sends, to a server that fails now and then."""
    answers = [(503 if i % 5 == 0 else 200, {}, b"") for i in range(1, 500)]
    with Stub(answers) as stub:
        one = pusher(stub.port, protocol="pyroscope-ingest", max_queue=20_000)
        done = threading.Event()

        def sending() -> None:
            while not done.is_set() or one._queued:
                one._next = 0.0  # no pauses here
                one.send()

        thread = threading.Thread(target=sending)
        thread.start()
        for i in range(200):
            one.offer([({"container": f"c{i}"}, profile())])
        done.set()
        thread.join(30)
    assert one.pushed.sent + one.pushed.dropped == 200
    assert one._queued == 0


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": ""}, "expected http://host:port"),
        ({"url": "pyroscope:4040"}, "expected http://host:port"),
        ({"url": "ftp://x"}, "expected http://host:port"),
        (
            {"url": "http://x", "protocol": "grpc"},
            "expected one of pyroscope, pyroscope-ingest, otlp",
        ),
        ({"url": "http://x", "headers": "novalue"}, "expected name=value"),
        ({"url": "http://x", "headers": "a=b%0d%0aevil: c"}, "expected name=value"),
        ({"url": "https://x", "ca_file": "/nowhere"}, "certificates cannot be loaded"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pusher(PushSettings(**options))


def test_a_missing_token_file_is_told_and_tried_again() -> None:
    with Stub([OK]) as stub:
        one = pusher(stub.port, token_file="/nowhere/token")
        one.offer([(WEB, profile())])
        assert one.send() <= 1.0
    assert "/nowhere/token" in one.problem
    assert stub.got == []


def test_certificates(tmp_path: Path) -> None:
    """A certificate of ours is trusted where it is named, and nowhere else."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def send(**options: str) -> Pusher:
        one = Pusher(PushSettings(url=f"https://localhost:{stub.port}", **options))
        one.offer([(WEB, profile())])
        one.send()
        return one

    with Stub([OK], tls) as stub:
        assert send(ca_file=str(certificate)).pushed.sent == 1
        refused = send()
    assert refused.pushed.sent == 0
    assert "CERTIFICATE_VERIFY_FAILED" in refused.problem
