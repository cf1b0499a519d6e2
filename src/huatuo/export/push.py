"""Profiles sent on: to Pyroscope (push.v1 or /ingest) or to any OTLP/HTTP endpoint.

The agent hands over each window's profiles with `offer`, which only encodes and queues, and calls
`send` in a thread whenever it says so. What cannot be sent is tried again a few times, less and
less often; the queue is bounded, and what falls out of it is the oldest and is counted.
"""

from __future__ import annotations

import http.client
import random
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from huatuo.errors import ConfigError
from huatuo.export import otlp_messages, otlp_profiles, pprof
from huatuo.export import pyroscope_messages as pyroscope
from huatuo.export.compression import compressed
from huatuo.export.wire import WireError
from huatuo.model.profile import Profile
from huatuo.settings import PushSettings

__all__ = ["Pushed", "Pusher"]

Labelled = tuple[Mapping[str, str], Profile]

_SECOND = 1_000_000_000
_RETRIED = (408, 429, 500, 502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds
_READ = 64 << 10  # of an answer at most
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_HOST = "host"  # the service of what runs in no container


@dataclass(slots=True)
class Pushed:
    """Profiles so far: `sent` and taken; `failed`: refused by the other side; `dropped`: the queue
    was full or they were tried too often. `retries` counts requests."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    retries: int = 0
    bytes: int = 0


class _Request(NamedTuple):
    path: str
    headers: Mapping[str, str]
    body: bytes
    profiles: int


class Pusher:
    """`offer` and `send` may be called from different threads; `send` from one at a time."""

    def __init__(self, settings: PushSettings) -> None:
        """Opens no connection. Raises ConfigError."""
        self.settings = settings
        self.pushed = Pushed()
        self.problem = ""  # what the last attempt said, if it failed
        self._format = _formats(settings.protocol)
        self._url = urlsplit(settings.url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ConfigError(
                f'push url = "{settings.url}": expected http://host:port or https://…'
            )
        self._headers = _headers(settings)
        self._tls = _tls(settings) if self._url.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._queue: deque[_Request] = deque()
        self._front: _Request | None = None  # taken from the queue, being sent or tried again
        self._queued = 0  # bytes, of the one in front too
        self._lock = threading.Lock()
        self._tries = 0  # of the one in front
        self._next = 0.0  # monotonic time before which nothing is tried

    def offer(self, profiles: Sequence[Labelled]) -> None:
        """Encode and queue; those without values are skipped. Never waits for the network."""
        wanted = [one for one in profiles if one[1].total > 0]
        for request in self._format(wanted, self.settings.max_request) if wanted else ():
            with self._lock:
                self._queue.append(request)
                self._queued += len(request.body)
                while self._queued > self.settings.max_queue and self._queue:
                    dropped = self._queue.popleft()
                    self._queued -= len(dropped.body)
                    self.pushed.dropped += dropped.profiles

    def send(self) -> float:
        """Send what is queued and due. Seconds after which to call again; infinite when nothing is
        left to send."""
        while True:
            with self._lock:
                if self._front is None and self._queue:
                    self._front = self._queue.popleft()
                request = self._front
            if request is None:
                self._disconnect()  # until there is something again the server may have hung up
                return float("inf")
            pause = self._next - time.monotonic()
            if pause > 0:
                return pause
            self._try(request)

    def _try(self, request: _Request) -> None:
        try:
            status, answer, after = self._exchange(request)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            self._failed(request, f"{self.settings.url}: {error or type(error).__name__}", 0.0)
            return
        if status in _RETRIED:
            self._failed(request, self._said(status, answer), after)
        elif 200 <= status < 300:
            self._taken(request, answer)
        else:
            self.problem = self._said(status, answer)
            self.pushed.failed += request.profiles
            self._done(request)

    def _taken(self, request: _Request, answer: bytes) -> None:
        rejected, self.problem = 0, ""
        if self.settings.protocol == "otlp":
            rejected, self.problem = _rejected(answer)
        rejected = min(rejected, request.profiles)
        self.pushed.sent += request.profiles - rejected
        self.pushed.failed += rejected
        self.pushed.bytes += len(request.body)
        self._done(request)

    def _done(self, request: _Request) -> None:
        self._tries, self._next = 0, 0.0
        with self._lock:
            self._front = None
            self._queued -= len(request.body)

    def _failed(self, request: _Request, problem: str, after: float) -> None:
        self.problem = problem
        self.pushed.retries += 1
        self._tries += 1
        pause = min(_FIRST_PAUSE * 2 ** (self._tries - 1), _LONGEST_PAUSE)
        if self._tries >= self.settings.max_tries:
            with self._lock:
                self.pushed.dropped += request.profiles
            self._done(request)
        # agents that lost the same server must not all come back at once
        self._next = time.monotonic() + max(after, pause * random.uniform(0.5, 1.0))

    def _exchange(self, request: _Request) -> tuple[int, bytes, float]:
        """(status, answer, seconds the server wants to be left alone)."""
        connection = self._connection or self._connect()
        self._connection = connection
        route = request.path.partition("?")[0]
        path = self._url.path.rstrip("/").removesuffix(route) + request.path
        headers = {**self._headers, **request.headers, **_authorization(self.settings)}
        connection.request("POST", path, request.body, headers)
        response = connection.getresponse()
        answer = response.read(_READ)
        if response.will_close or not response.isclosed():
            self._disconnect()
        after = response.headers.get("retry-after", "")
        return response.status, answer, min(float(after), 3600.0) if after.isdecimal() else 0.0

    def _connect(self) -> http.client.HTTPConnection:
        host, port = str(self._url.hostname), self._url.port
        timeout = self.settings.timeout / _SECOND
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _said(self, status: int, answer: bytes) -> str:
        text = "".join(
            c if c.isprintable() else " " for c in answer[:200].decode("utf-8", "replace")
        )
        return f"{self.settings.url} answers {status}: {text.strip()}"

    def close(self) -> None:
        self._disconnect()


# -- settings --------------------------------------------------------------------------------------


def _headers(settings: PushSettings) -> dict[str, str]:
    headers = {"user-agent": "huatuo"}
    for pair in filter(None, settings.headers.split(",")):
        name, equals, value = pair.partition("=")
        value = unquote(value.strip())
        if not equals or not name.strip().isascii() or not value.isprintable():
            raise ConfigError(
                f'push headers = "{settings.headers}": expected name=value,name=value'
            )
        headers[name.strip().lower()] = value
    if settings.tenant:
        headers["x-scope-orgid"] = settings.tenant
    return headers


def _authorization(settings: PushSettings) -> dict[str, str]:
    """Read each time: tokens are renewed. A file that is missing is as bad as no network."""
    if not settings.token_file:
        return {}
    return {"authorization": f"Bearer {Path(settings.token_file).read_text().strip()}"}


def _tls(settings: PushSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"push: certificates cannot be loaded: {error}") from None
    return context


# -- what is sent ----------------------------------------------------------------------------------


def _formats(protocol: str) -> Any:
    known = {"pyroscope": _push_requests, "pyroscope-ingest": _ingest_requests,
             "otlp": _otlp_requests}  # fmt: skip
    if protocol not in known:
        raise ConfigError(f'push protocol = "{protocol}": expected one of {", ".join(known)}')
    return known[protocol]


def _pyroscope_labels(labels: Mapping[str, str], profile: Profile) -> dict[str, str]:
    kept = {name: value for name, value in labels.items() if value and _LABEL.fullmatch(name)}
    kept.setdefault("service_name", kept.get("container", _HOST))
    return kept | {"__name__": profile.type.family}


def _push_requests(profiles: Sequence[Labelled], most: int) -> Iterator[_Request]:
    """Several series in one message, up to `most` bytes."""
    batch: list[pyroscope.RawProfileSeries] = []
    size = 0
    for labels, profile in profiles:
        data = pprof.write(profile)
        if batch and size + len(data) > most:
            yield _push_request(batch)
            batch, size = [], 0
        pairs = sorted(_pyroscope_labels(labels, profile).items())
        labelled = [pyroscope.LabelPair(name, value) for name, value in pairs]
        batch.append(pyroscope.RawProfileSeries(labelled, [pyroscope.RawSample(data)]))
        size += len(data)
    yield _push_request(batch)


def _push_request(batch: list[pyroscope.RawProfileSeries]) -> _Request:
    headers = {"content-type": "application/proto", "connect-protocol-version": "1"}
    body = pyroscope.PushRequest(batch).encode()
    return _Request("/push.v1.PusherService/Push", headers, body, len(batch))


def _ingest_requests(profiles: Sequence[Labelled], _most: int) -> Iterator[_Request]:
    """One profile each: the labels stand in the address."""
    for labels, profile in profiles:
        named = _pyroscope_labels(labels, profile)
        app = _plain(named.pop("service_name"))
        pairs = ",".join(f"{name}={_plain(value)}" for name, value in sorted(named.items())
                         if not name.startswith("__"))  # fmt: skip
        query = urlencode(
            {
                "name": f"{app}{{{pairs}}}",
                "from": profile.start_ns // _SECOND,
                "until": -(-profile.end_ns // _SECOND),
                "format": "pprof",
                "spyName": "huatuo",
            },
            quote_via=quote,
        )
        headers = {"content-type": "application/octet-stream"}
        yield _Request(f"/ingest?{query}", headers, pprof.write(profile), 1)


def _plain(value: str) -> str:
    """There is no way to quote in these labels."""
    return re.sub(r"[{},=\s]", "_", value)


def _otlp_requests(profiles: Sequence[Labelled], most: int) -> Iterator[_Request]:
    """All in one message with one dictionary; in halves while it is too large."""
    body = compressed(otlp_profiles.request(profiles).encode())
    if len(body) > most and len(profiles) > 1:
        half = len(profiles) // 2
        yield from _otlp_requests(profiles[:half], most)
        yield from _otlp_requests(profiles[half:], most)
        return
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    yield _Request("/v1development/profiles", headers, body, len(profiles))


def _rejected(answer: bytes) -> tuple[int, str]:
    """(profiles that were not taken, why)."""
    try:
        partial = otlp_messages.ExportResponse.decode(answer).partial_success
    except WireError:
        return 0, ""
    return (partial.rejected_profiles, partial.error_message) if partial else (0, "")
