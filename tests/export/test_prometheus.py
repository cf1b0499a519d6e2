"""Which format a scrape gets; and a real Prometheus, where one is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from huatuo.export.prometheus import (
    OPENMETRICS,
    PROTOBUF,
    TEXT,
    negotiate,
    openmetrics,
    protobuf,
    text,
)
from huatuo.model.meaning import Role
from huatuo.model.metric import Column, Metric

NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
PROMETHEUS_3 = (  # with native histograms
    f"{NATIVE};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", (TEXT, text)),
        ("*/*", (TEXT, text)),
        ("text/html", (TEXT, text)),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", (TEXT, text)),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", (OPENMETRICS, openmetrics)),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.5", (TEXT, text)),
        (f"{NATIVE};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", (PROTOBUF, protobuf)),
        (f"{NATIVE};q=0.2,text/plain;version=0.0.4;q=0.3", (TEXT, text)),
        ("application/vnd.google.protobuf;proto=other.Message", (TEXT, text)),
        (f"{NATIVE};q=nonsense", (TEXT, text)),
        ("text/plain;q=0", (TEXT, text)),
        (";;;,=,;q", (TEXT, text)),
        (PROMETHEUS_3, (PROTOBUF, protobuf)),
    ],
)
def test_negotiation(accept: str, expected: object) -> None:
    assert negotiate(accept) == expected


def page() -> list[Metric]:
    slots = np.zeros((1, 27), np.uint64)
    slots[0, 12] = 100  # [2^-9, 2^-8) s: 2 to 4 ms
    return [
        Metric.of("huatuo_kills_total", Role.COUNTER, "kills", {('we"b',): 3.0}, ["container"]),
        Metric(
            "huatuo_wait_seconds",
            Role.HISTOGRAM,
            "waiting",
            slots,
            {"container": Column(["web"])},
            np.array([0.3]),
        ),
    ]


class Scraped(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content_type, render = negotiate(self.headers.get("Accept", ""))
        body = render(page())
        self.server.formats.append(content_type)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def target() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scraped)
    server.formats = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("features", "expected"), [([], ""), (["native-histograms"], PROTOBUF)])
def test_real_prometheus(
    target: ThreadingHTTPServer, tmp_path: Path, features: list[str], expected: str
) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: huatuo\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{target.server_port}']}}]\n"
    )
    arguments = [f"--enable-feature={name}" for name in features]
    process = subprocess.Popen(
        [
            prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *arguments,
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert await_value(port, 'huatuo_kills_total{container="we\\"b"}') == 3
        series = "huatuo_wait_seconds" if features else "huatuo_wait_seconds_bucket"
        median = await_value(port, f"histogram_quantile(0.5, {series})")
        assert 2**-9 <= median <= 2**-8
        assert expected in target.formats[-1]  # type: ignore[attr-defined]
    finally:
        process.terminate()
        process.wait(timeout=20)


def await_value(port: int, query: str) -> float:
    """The answer of an instant query, once there is one."""
    address = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            found = []
        if found:
            return float(found[0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(f"no answer to {query}")
