"""Profiles taken in: as Pyroscope's clients and OpenTelemetry's send them.

push.v1 as pyroscope-rs sends it (src/session.rs: protobuf, gzip'd), /ingest as pyroscope-go
(upstream/remote/remote.go: a form with the profile and sample_type_config) and pyroscope-nodejs
(src/pyroscope-api-exporter.ts), OTLP with the messages of PyPI's opentelemetry-proto.
"""

from __future__ import annotations

import gzip
import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

from huatuo.export import otlp_profiles, pprof
from huatuo.model.profile import PROFILE_TYPES
from tests.export.profiles import NS, START, TOTAL, profile
from tests.export.test_flamebearer import expected, positive
from tests.export.test_pprof import foreign
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode
from tests.serve.grafana import PUSH, DataSource, RpcError, call
from tests.serve.test_pyroscope import CPU, FROM, STACKS, TO, stacks_of

PUSHER = "/push.v1.PusherService/"


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(empty=True)


@pytest.fixture
def get(node: FakeNode) -> Get:
    return client_of(node)


def kept(node: FakeNode) -> list[tuple[str, int, int, dict[str, str]]]:
    """(type, time, value, labels) of all that arrived."""
    return [(s.type, s.time, s.value, dict(s.labels)) for s in node.store.profiles.samples]


def push(get: Get, data: bytes, **labels: str) -> None:
    pairs = [PUSH["LabelPair"](name=name, value=value) for name, value in labels.items()]
    sample = PUSH["RawSample"](raw_profile=data, ID="734FD599")
    series = PUSH["RawProfileSeries"](labels=pairs, samples=[sample])
    call(get, "Push", PUSH["PushRequest"](series=[series]), PUSH["PushResponse"], PUSHER)


# -- push.v1 ---------------------------------------------------------------------------------------


def test_what_is_pushed_can_be_asked_for(node: FakeNode, get: Get) -> None:
    push(get, pprof.write(profile()), __name__="process_cpu", service_name="shop", region="eu")
    found = DataSource(get).get_profile(CPU, '{service_name="shop",region="eu"}', FROM, TO)
    assert stacks_of(found) == positive(expected(STACKS)[0])
    assert {tuple(row[3].items()) for row in kept(node)} == {
        (("container", "shop"), ("region", "eu"))
    }


def test_many_profiles_in_one_push_are_bounded_together(node: FakeNode, get: Get) -> None:
    unknown = b"\xfa\x01\xff\xff\xff\x05" + bytes((12 << 20) - 1)  # a field of 12 MiB, skipped
    data = gzip.compress(pprof.message(profile()).encode() + unknown)
    sample = PUSH["RawSample"](raw_profile=data)
    series = PUSH["RawProfileSeries"](samples=[sample] * 3)
    with pytest.raises(RpcError, match="together are larger than") as refused:
        call(get, "Push", PUSH["PushRequest"](series=[series]), PUSH["PushResponse"], PUSHER)
    assert refused.value.code == "resource_exhausted"
    assert kept(node) == []


def test_a_container_beside_a_service_keeps_its_name(node: FakeNode, get: Get) -> None:
    push(get, pprof.write(profile()), service_name="ns/app", container="app")
    push(get, pprof.write(profile()), container="alone")
    assert {tuple(row[3].items()) for row in kept(node)} == {
        (("container", "ns/app"), ("container_name", "app")), (("container", "alone"),),
    }  # fmt: skip


def test_the_block_profile_is_time_off_the_cpu(node: FakeNode, get: Get) -> None:
    data = foreign(("contentions", "count"), ("delay", "nanoseconds")).encode()
    push(get, data, __name__="block", service_name="x")
    push(get, data, __name__="mutex", service_name="x")
    assert {row[0] for row in kept(node)} == {"blocked", "lock"}


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"nothing", "invalid_argument", "wire type"),
        (foreign(("goroutine", "count")).encode(), "invalid_argument", "goroutine/count"),
        (gzip.compress(bytes(40 << 20)), "resource_exhausted", "larger than"),
    ],
)
def test_what_cannot_be_pushed(
    data: bytes, code: str, message: str, node: FakeNode, get: Get
) -> None:
    with pytest.raises(RpcError, match=message) as refused:
        push(get, data, service_name="x")
    assert refused.value.code == code
    assert kept(node) == []


# -- /ingest ---------------------------------------------------------------------------------------


def form(**parts: bytes) -> tuple[bytes, str]:
    """As Go's mime/multipart writes it."""
    mark = "b1946ac92492d2347c6235b4d2611184"
    body = b"".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.pprof"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in parts.items()
    )
    return body + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def ingest(get: Get, query: str, content: bytes, content_type: str = "") -> int:
    answer = get(f"/ingest?{query}", method="POST", content=content, content_type=content_type)
    return int(answer.status_code)


def test_gos_client(node: FakeNode, get: Get) -> None:
    config = {"samples": {"units": "samples", "display-name": "cpu", "sampled": True}}
    data = foreign(("samples", "count"), ("cpu", "nanoseconds"), period=("cpu", "nanoseconds", 10))
    described = json.dumps(config).encode()
    body, kind = form(profile=gzip.compress(data.encode()), sample_type_config=described)
    times = f"from={START}&until={START + 10 * NS}"
    query = f"name=shop%7Bregion%3Deu%2Cenv%3Dprod%7D&{times}&spyName=gospy&sampleRate=100"
    assert ingest(get, query, body, kind) == 200
    labels = {"container": "shop", "env": "prod", "region": "eu"}
    assert kept(node) == [("cpu", START, 2, labels), ("cpu", START, 2, labels)]


def test_values_since_the_start_of_the_process_are_not_taken(node: FakeNode, get: Get) -> None:
    config = {"alloc_space": {"units": "bytes", "cumulative": True}, "inuse_space": {}}
    data = foreign(("alloc_space", "bytes"), ("inuse_space", "bytes")).encode()
    body, kind = form(profile=data, sample_type_config=json.dumps(config).encode())
    assert ingest(get, "name=shop&from=1767225600", body, kind) == 200
    assert {row[0] for row in kept(node)} == {"resident"}


def test_a_form_says_that_delays_are_blocks(node: FakeNode, get: Get) -> None:
    config = {"delay": {"units": "lock_nanoseconds", "display-name": "block_duration"}}
    body, kind = form(
        profile=foreign(("delay", "nanoseconds")).encode(),
        sample_type_config=json.dumps(config).encode(),
    )
    assert ingest(get, "name=shop", body, kind) == 200
    assert {row[0] for row in kept(node)} == {"blocked"}


def test_a_bare_pprof(node: FakeNode, get: Get) -> None:
    assert ingest(get, "name=shop&format=pprof", pprof.write(profile())) == 200
    assert sum(row[2] for row in kept(node)) == TOTAL


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("name=app.cpu&sampleRate=50", b"a;b 3\na 1\n",
         [("cpu", 60_000_000), ("cpu", 20_000_000)]),
        ("name=app&sampleRate=0", b"a;b 3\n", [("cpu", 30_000_000)]),
        ("name=app.cpu&format=lines", b"a;b\na;b\n", [("cpu", 10_000_000)] * 2),
        ("name=app.itimer&units=nanoseconds", b"a;b 3\n", [("cpu", 3)]),
        ("name=app.inuse_space&units=bytes", b"a;b 4096\n", [("resident", 4096)]),
        ("name=app.mutex_duration&units=lock_nanoseconds&format=folded", b"a 7\n", [("lock", 7)]),
        ("name=app.block_duration&units=lock_nanoseconds", b"a 7\n", [("blocked", 7)]),
        ("name=my.service", b"a 1\n", [("cpu", 10_000_000)]),
    ],
)  # fmt: skip
def test_folded_stacks(
    query: str, body: bytes, expected: list[tuple[str, int]], node: FakeNode, get: Get
) -> None:
    assert ingest(get, query + "&from=1767225600", body) == 200
    assert [(row[0], row[2]) for row in kept(node)] == expected
    assert {row[1] for row in kept(node)} == {START}
    assert kept(node)[0][3] == {"container": "my.service" if "my." in query else "app"}


@pytest.mark.parametrize(
    ("query", "content", "content_type", "status"),
    [
        ("", b"a 1", "", 400),
        ("name={a=b}", b"a 1", "", 400),
        ("name=x&format=jfr", b"FLR\0", "", 415),
        ("name=x&format=trie", b"", "binary/octet-stream+trie", 415),
        ("name=x&format=speedscope", b"{}", "", 415),
        ("name=x", b"a b c", "", 400),
        ("name=x&from=yesterday", b"a 1", "", 400),
        ("name=x&format=pprof", b"\x0a\x7f", "", 400),
        ("name=x&format=pprof", foreign(("wall", "ns")).encode(), "", 400),
        ("name=x", b"", "multipart/form-data", 400),
        ("name=x", b"--b\r\n\r\n--b--", "multipart/form-data; boundary=b", 400),
        ("name=x", b"nothing", "multipart/form-data; boundary=b", 400),
        ("name=x&format=jfr", form(jfr=b"FLR\0")[0], form()[1], 415),
        ("name=x", form(profile=b"x", sample_type_config=b"[")[0], form()[1], 400),
    ],
)
def test_what_is_not_ingested(
    query: str, content: bytes, content_type: str, status: int, node: FakeNode, get: Get
) -> None:
    assert ingest(get, query, content, content_type) == status
    assert kept(node) == []


def test_a_form_with_binary_contents_arrives_whole(node: FakeNode, get: Get) -> None:
    data = pprof.write(profile())
    assert b"\r" in data or b"\n" in data
    body, kind = form(profile=data)
    assert ingest(get, "name=x", body, kind) == 200
    assert sum(row[2] for row in kept(node)) == TOTAL


# -- OTLP ------------------------------------------------------------------------------------------

Response = profiles_service_pb2.ExportProfilesServiceResponse


def otlp(get: Get, body: bytes, content_type: str = "application/x-protobuf", **headers: str):  # type: ignore[no-untyped-def]
    return get(
        "/v1development/profiles", method="POST", content=body, content_type=content_type, **headers
    )


def their_request(labels: dict[str, str]):  # type: ignore[no-untyped-def]
    data = otlp_profiles.request([(labels, profile())]).encode()
    return profiles_service_pb2.ExportProfilesServiceRequest.FromString(data)


def test_otlp_in_protobuf_and_json(node: FakeNode, get: Get) -> None:
    request = their_request({"container": "shop", "pod": "shop-1"})
    answer = otlp(get, gzip.compress(request.SerializeToString()), content_encoding="gzip")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert Response.FromString(answer.content) == Response()
    answer = otlp(get, json_format.MessageToJson(request).encode(), "application/json")
    assert (answer.status_code, answer.json()) == (200, {})
    assert sum(row[2] for row in kept(node)) == 2 * TOTAL
    assert {tuple(row[3].items()) for row in kept(node)} == {
        (("container", "shop"), ("pod", "shop-1"))
    }
    found = DataSource(get).get_profile(CPU, '{service_name="shop"}', FROM, TO)
    assert found.total == 2 * TOTAL


def test_what_is_unknown_is_a_partial_success(node: FakeNode, get: Get) -> None:
    request = their_request({})
    texts = list(request.dictionary.string_table)
    request.dictionary.string_table[texts.index("cpu")] = "goroutines"
    answer = otlp(get, request.SerializeToString())
    assert answer.status_code == 200
    found = Response.FromString(answer.content).partial_success
    assert found.rejected_profiles == 1
    assert "goroutines/nanoseconds" in found.error_message
    assert kept(node) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"\x0a\x7f", "application/x-protobuf", 400),
        (b"{", "application/json", 400),
        (b'{"resourceProfiles": 5}', "application/json", 400),
        (b"[" * (9 << 20), "application/json", 413),
        (b"", "text/plain", 415),
        (bytes(17 << 20), "application/x-protobuf", 413),
    ],
)
def test_damaged_otlp(body: bytes, content_type: str, status: int, get: Get) -> None:
    answer = otlp(get, body, content_type)
    assert answer.status_code == status
    if status == 400 and content_type == "application/json":
        assert answer.json()["message"]


def test_sending_needs_the_token_where_there_is_one(node: FakeNode) -> None:
    get = client_of(node, token="s3cret")
    for path in ("/ingest?name=x", "/pyroscope/ingest?name=x", "/v1development/profiles",
                 "/push.v1.PusherService/Push", "/api/v1/profiles/import"):  # fmt: skip
        assert get(path, method="POST", content=b"a 1").status_code == 401
    answer = get("/ingest?name=x", method="POST", content=b"a 1", authorization="Bearer s3cret")
    assert answer.status_code == 200
    assert set(PROFILE_TYPES) >= {row[0] for row in kept(node)}
