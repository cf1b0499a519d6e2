"""OTLP profiles beside the messages of PyPI's opentelemetry-proto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2
from opentelemetry.proto.profiles.v1development import profiles_pb2

from huatuo.export import otlp_messages as proto
from huatuo.export import otlp_profiles
from huatuo.export.wire import WireError
from huatuo.model.profile import FrameKind, Line, Location, Stack
from tests.export.profiles import INLINED, MAIN, NS, START, TOTAL, profile, stack_lists
from tests.export.test_pprof import contents
from tests.serve.memory_profiles import Row, merged, rows_of

Stacks = Sequence[tuple[Stack, int]]
Request = profiles_service_pb2.ExportProfilesServiceRequest


def rows_in(data: bytes, now_ns: int = 0) -> list[Row]:
    found = otlp_profiles.read(data, now_ns)
    return [row for samples in found.samples for row in rows_of(samples)]


def theirs(data: bytes):  # type: ignore[no-untyped-def]
    """(request, the only profile, its dictionary), after the checks that the format asks for."""
    request = Request.FromString(data)
    known = Request.FromString(data)
    known.DiscardUnknownFields()
    assert known.ByteSize() == request.ByteSize()
    tables = request.dictionary
    assert tables.string_table[0] == ""
    for table, message in (
        (tables.mapping_table, profiles_pb2.Mapping()),
        (tables.location_table, profiles_pb2.Location()),
        (tables.function_table, profiles_pb2.Function()),
        (tables.attribute_table, profiles_pb2.KeyValueAndUnit()),
        (tables.stack_table, profiles_pb2.Stack()),
    ):
        assert table[0] == message
        assert len({entry.SerializeToString(deterministic=True) for entry in table}) == len(table)
    assert len(tables.link_table) == 1
    return request, request.resource_profiles[0].scope_profiles[0].profiles[0], tables


def stack_of(tables, sample) -> tuple[Location, ...]:  # type: ignore[no-untyped-def]
    """A sample's stack as ours, put together from their objects."""
    texts = tables.string_table

    def attributes(indices):  # type: ignore[no-untyped-def]
        pairs = [tables.attribute_table[index] for index in indices]
        return {texts[pair.key_strindex]: pair.value.string_value for pair in pairs}

    found = []
    for index in tables.stack_table[sample.stack_index].location_indices:
        location = tables.location_table[index]
        mapping = tables.mapping_table[location.mapping_index]
        functions = [(tables.function_table[line.function_index], line) for line in location.lines]
        lines = tuple(
            Line(texts[function.name_strindex], texts[function.filename_strindex], line.line)
            for function, line in functions
        )
        build = attributes(mapping.attribute_indices).get("process.executable.build_id.gnu", "")
        kind = FrameKind(attributes(location.attribute_indices)["profile.frame.type"])
        name = texts[mapping.filename_strindex]
        assert mapping.memory_start <= location.address <= mapping.memory_limit
        found.append(Location(kind, name, location.address, build, lines))
    return tuple(found)


@settings(max_examples=60)
@given(stack_lists())
def test_their_messages_hold_our_profile(stacks: Stacks) -> None:
    one = profile(stacks)
    _, written, tables = theirs(otlp_profiles.write(one))
    found: Counter[tuple[Location, ...]] = Counter()
    for sample in written.samples:
        found[stack_of(tables, sample)] += sum(sample.values)
    assert found == contents(one)
    texts = tables.string_table
    assert texts[written.sample_type.type_strindex] == "cpu"
    assert texts[written.sample_type.unit_strindex] == "nanoseconds"
    assert texts[written.period_type.type_strindex] == "cpu"
    assert (written.time_unix_nano, written.duration_nano) == (START, 10 * NS)


@settings(max_examples=60)
@given(stack_lists())
def test_what_they_write_again_gives_the_profile_back(stacks: Stacks) -> None:
    one = profile(stacks)
    request, _, _ = theirs(otlp_profiles.write(one))
    assert contents(merged("cpu", rows_in(request.SerializeToString()))) == contents(one)
    read = proto.ExportRequest.from_json(json_format.MessageToDict(request))
    assert read.encode() == otlp_profiles.write(one)


def test_label_sets_are_resources_and_share_one_dictionary() -> None:
    sets = [{"container": "web", "pod": "web-1", "comm": "nginx"}, {"container": "db"}, {}]
    data = otlp_profiles.request([(labels, profile()) for labels in sets]).encode()
    request, _, tables = theirs(data)
    shown = [
        {pair.key: pair.value.string_value for pair in one.resource.attributes}
        for one in request.resource_profiles
    ]
    assert shown[0] == {
        "container.name": "web", "service.name": "web", "k8s.pod.name": "web-1",
        "process.command": "nginx",
    }  # fmt: skip
    assert len(tables.stack_table) == 7  # each stack once, and the empty one
    found = rows_in(data)
    assert sum(value for _, value, _, _ in found) == 3 * TOTAL
    labels = {frozenset(row[3].items()) for row in found}
    assert frozenset({("container", "web"), ("pod", "web-1"), ("comm", "nginx"),
                      ("service_name", "web")}) in labels  # fmt: skip


def foreign() -> proto.ExportRequest:
    """As the OpenTelemetry eBPF profiler sends it: counts of samples with timestamps, attributes
    of the thread at each sample, interpreted frames, no symbols for native ones."""
    texts = ["", "samples", "count", "cpu", "nanoseconds", "/usr/bin/python3.11", "app.py", "run",
             "profile.frame.type", "process.executable.build_id.gnu", "thread.name"]  # fmt: skip

    def attribute(key: str, value: str) -> proto.KeyValueAndUnit:
        return proto.KeyValueAndUnit(texts.index(key), proto.AnyValue(string_value=value))

    dictionary = proto.Dictionary(
        mapping_table=[proto.Mapping(), proto.Mapping(0x1000, 0x9000, 0, 5, [3])],
        location_table=[
            proto.Location(),
            proto.Location(1, 0x4242, [], [1]),
            proto.Location(0, 0, [proto.Line(1, 12)], [2]),
        ],
        function_table=[proto.Function(), proto.Function(7, 0, 6)],
        link_table=[proto.Link()],
        string_table=texts,
        attribute_table=[
            proto.KeyValueAndUnit(),
            attribute("profile.frame.type", "native"),
            attribute("profile.frame.type", "cpython"),
            attribute("process.executable.build_id.gnu", "c0ffee"),
            attribute("thread.name", "worker"),
        ],
        stack_table=[proto.Stack(), proto.Stack([1, 2])],
    )
    written = proto.Profile(
        sample_type=proto.ValueType(1, 2),
        samples=[proto.Sample(1, [4], timestamps_unix_nano=[START, START + NS])],
        period_type=proto.ValueType(3, 4),
        period=50_000_000,
        time_unix_nano=START,
    )
    pairs = [proto.KeyValue("container.name", proto.AnyValue(string_value="web"))]
    resource = proto.ResourceProfiles(proto.Resource(pairs), [proto.ScopeProfiles(None, [written])])
    return proto.ExportRequest([resource], dictionary)


def test_counts_with_timestamps_become_time() -> None:
    found = rows_in(foreign().encode())
    assert [(row[0], row[1]) for row in found] == [(START, 50_000_000), (START + NS, 50_000_000)]
    assert found[0][3] == {"container": "web", "thread": "worker"}
    native, python = found[0][2].locations
    assert native == Location(FrameKind.NATIVE, "/usr/bin/python3.11", 0x4242, "c0ffee")
    assert python.kind is FrameKind.RUNTIME
    assert python.lines == (Line("run", "app.py", 12),)


def test_types_that_are_none_of_ours_are_named() -> None:
    request = foreign()
    request.resource_profiles[0].scope_profiles[0].profiles[0].period_type = None
    assert otlp_profiles.parse(request).ignored == ["samples/count"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.stack_table[1].location_indices.append(9), "location 9"),
        (lambda one: one.stack_table.pop(), "stack 1"),
        (lambda one: one.function_table.pop(), "function 1"),
        (lambda one: one.mapping_table.pop(), "mapping 1"),
        (lambda one: one.string_table.pop(), "text 10"),
        (lambda one: one.attribute_table.pop(), "attribute 4"),
    ],
)
def test_references_that_lead_nowhere_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    request = foreign()
    assert request.dictionary is not None
    change(request.dictionary)
    with pytest.raises(WireError, match=message):
        otlp_profiles.parse(request)


def test_inlined_lines_stay_in_order() -> None:
    data = otlp_profiles.write(profile([(Stack((INLINED, MAIN)), 1)]))
    ((_, _, stack, _),) = rows_in(data)
    assert stack.locations == (INLINED, MAIN)
