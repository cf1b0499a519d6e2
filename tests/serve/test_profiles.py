"""The endpoints of profiles, over a store whose samples are known."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from huatuo.export import pprof
from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.profile import Stack
from huatuo.serve.answers import (
    Audit,
    Flame,
    FlameNodes,
    Heatmap,
    ImportedProfiles,
    Problem,
    ProfileTypeRow,
    ProfileTypes,
)
from huatuo.serve.params import rfc3339
from huatuo.serve.routes.profiles import flame_answer
from tests.export.profiles import MAIN, NS, PYTHON, STACKS, START, TOTAL, profile, rows
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode
from tests.serve.memory_profiles import samples_of

API = "/api/v1/profiles"
RANGE = f"start={rfc3339(START)}&end={rfc3339(START + 60 * NS)}"


def node() -> FakeNode:
    """`web` runs all stacks, `db` the first two later and slower; `web`'s memory is seen twice."""
    found = FakeNode(empty=True)
    web = [(*row[:3], {"container": "web", "comm": "nginx"}) for row in rows()]
    db = [
        (at + 20 * NS, 2 * value, stack, {"container": "db"}) for at, value, stack, _ in rows()[:2]
    ]
    found.store.profiles.append(samples_of("cpu", web + db))
    memory = [(START + i * NS, (1 + i) << 20, STACKS[0][0], {"container": "web"}) for i in (0, 1)]
    found.store.profiles.append(samples_of("resident", memory))
    return found


@pytest.fixture(scope="module")
def ask() -> Get:
    return client_of(node())


def flame(answer: httpx.Response) -> Flame:
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Flame)


def values(found: Flame, column: str = "self_") -> dict[tuple[str, ...], int]:
    """Path → value, where there is one."""
    paths: list[tuple[str, ...]] = []
    for parent, name in zip(found.nodes.parent, found.nodes.name, strict=True):
        paths.append((*paths[parent], found.names[name]) if parent >= 0 else ())
    numbers = getattr(found.nodes, column)
    return {path: value for path, value in zip(paths, numbers, strict=True) if value}


def test_types_in_the_range(ask: Get) -> None:
    found = msgspec.json.decode(ask(f"{API}?{RANGE}").content, type=ProfileTypes)
    assert [(t.name, t.unit, t.is_gauge) for t in found.types] == [
        ("cpu", "nanoseconds", False), ("resident", "bytes", True),
    ]  # fmt: skip
    assert ask(f"{API}?start=-1m").json() == {"types": []}


def test_labels(ask: Get) -> None:
    answer = ask(f"{API}/labels?{RANGE}&type=cpu")
    assert answer.json() == {"labels": {"comm": ["nginx"], "container": ["db", "web"]}}
    answer = ask(f'{API}/labels?{RANGE}&type=cpu&q={{container="db"}}')
    assert answer.json() == {"labels": {"container": ["db"]}}


def test_the_flame_graph_has_every_sample_at_its_place(ask: Get) -> None:
    found = flame(ask(f'{API}/flame?{RANGE}&q={{container="web"}}'))
    assert values(found) == {
        ("main", "work", "std::min<int>(int, int)"): 5_000_000,
        ("main", "work", "std::min<int>(int, int)", "libc.so.6+0x8612b"): 3_000_000,
        ("main", "libc.so.6+0x8612b", "do_syscall_64"): 2_000_000,
        ("main", "libc.so.6+0x8612b", "do_syscall_64", "nft_do_chain"): 1_000_000,
        ("main", "handle", "handle"): 7_000_000,
        ("handle", "[anon]+0x7fffaa001000"): 4_000_000,
    }
    assert (found.total, found.samples, found.unit) == (TOTAL, 6, "nanoseconds")
    assert found.nodes.total[0] == TOTAL
    assert found.base_total is None
    kinds = {
        found.names[n]: found.kinds[k]
        for n, k in zip(found.nodes.name, found.nodes.kind, strict=True)
    }
    assert kinds["nft_do_chain"] == "kernel"
    assert kinds["handle"] == "runtime"
    assert kinds[""] == ""
    at = [found.names[n] for n in found.nodes.name].index("work")
    assert found.mappings[found.nodes.mapping[at]] == "app"
    assert (found.files[found.nodes.file[at]], found.nodes.line[at]) == ("app.c", 20)


def test_the_line_is_where_most_of_the_value_was() -> None:
    elsewhere = MAIN._replace(address=0x1044, lines=(MAIN.lines[0]._replace(line=77),))
    found = flame_answer([profile([(Stack((MAIN,)), 1), (Stack((PYTHON, elsewhere)), 2)])], 0)
    at = [found.names[n] for n in found.nodes.name].index("main")
    assert found.nodes.line[at] == 77


def test_the_audit_says_what_is_incomplete(ask: Get) -> None:
    audit = flame(ask(f'{API}/flame?{RANGE}&q={{container="web"}}')).audit
    assert audit.complete_ratio == pytest.approx(1 - 1_000_000 / TOTAL)
    assert audit.statuses == {"too_deep": 1_000_000}
    assert audit.reasons == {"too_deep": "it is deeper than is walked"}
    assert (audit.accounted_ratio, audit.lost) == (None, None)
    assert flame(ask(f"{API}/flame?start=-1m")).audit.complete_ratio is None


def test_the_audit_asks_the_metrics() -> None:
    """More of that in test_audit.py."""
    one = FakeNode(empty=True)
    rows = [(START + NS, NS // 20, STACKS[0][0], {"container": "c"})] * 40
    one.store.profiles.append(samples_of("cpu", rows))
    name = "huatuo_cpu_cgroup_usage_seconds_total"
    for second in range(0, 11, 2):
        sample = {("c", "user"): 2.5 * second / 10, ("other", "user"): 77.0 * second}
        families = [Metric.of(name, Role.COUNTER, "", sample, ["container", "state"])]
        one.store.append_metrics(START + second * NS, families)
    span = f"start={rfc3339(START)}&end={rfc3339(START + 10 * NS)}"
    audit = flame(client_of(one)(f'{API}/flame?{span}&q={{container="c"}}')).audit
    assert audit.accounted_ratio == pytest.approx(0.8)
    assert flame(client_of(one)(f'{API}/flame?{span}&q={{comm="c"}}')).audit.accounted_ratio is None


def test_two_profiles_side_by_side(ask: Get) -> None:
    found = flame(ask(f'{API}/flame?{RANGE}&q={{container="db"}}&base_q={{container="web"}}'))
    work = ("main", "work", "std::min<int>(int, int)")
    assert values(found)[work] == 10_000_000
    assert values(found, "base_self")[work] == 5_000_000
    assert (found.total, found.base_total) == (16_000_000, TOTAL)
    assert ("main", "handle") not in values(found, "total")
    assert values(found, "base_total")[("main", "handle")] == 7_000_000


def test_a_base_of_another_time(ask: Get) -> None:
    early, late = rfc3339(START), rfc3339(START + 15 * NS)
    found = flame(ask(f"{API}/flame?{RANGE}&base_start={early}&base_end={late}"))
    assert (found.total, found.base_total) == (TOTAL + 16_000_000, TOTAL)


def test_pruned_functions_stand_in_other(ask: Get) -> None:
    found = flame(ask(f"{API}/flame?{RANGE}&max_nodes=4"))
    assert sum(found.nodes.self_) == found.total == TOTAL + 16_000_000
    assert "(other)" in found.names
    named = [found.names[n] for n in found.nodes.name if found.names[n] != "(other)"]
    assert len(named) == 4
    assert found.dropped == 8  # of 11 functions in their context and the root


def test_a_gauge_is_averaged(ask: Get) -> None:
    assert flame(ask(f"{API}/flame?{RANGE}&type=resident")).total == 3 << 19


def test_heatmap(ask: Get) -> None:
    """Samples of time count over the time before them: the first of all 5 ms before `START`."""
    around = f"start={rfc3339(START - NS)}&end={rfc3339(START + 59 * NS)}"
    answer = ask(f"{API}/heatmap?{around}&step=10s")
    found = msgspec.json.decode(answer.content, type=Heatmap)
    assert (found.start_ns, found.step_ns) == (START - NS, 10 * NS)
    assert found.values == [TOTAL, 0, 16_000_000, 0, 0, 0, 0]
    assert ask(f"{API}/heatmap?{around}&step=10").json() == answer.json()
    before = f"start={rfc3339(START - 4_000_000)}&end={rfc3339(START)}"
    near = msgspec.json.decode(ask(f"{API}/heatmap?{before}&step=1ms").content, type=Heatmap)
    assert near.values == [1_000_000] * 4 + [0]
    memory = ask(f"{API}/heatmap?{RANGE}&type=resident&step=1s").json()["values"]
    assert memory[:3] == [1 << 20, 2 << 20, 0]
    usual = msgspec.json.decode(ask(f"{API}/heatmap?{around}").content, type=Heatmap)
    assert sum(usual.values) == sum(found.values)
    assert 60 <= len(usual.values) <= 241
    empty = msgspec.json.decode(ask(f"{API}/heatmap?start=-1h").content, type=Heatmap)
    assert not any(empty.values)
    assert len(empty.values) == 3600 * 10**9 // empty.step_ns + 1


@pytest.mark.parametrize(
    ("form", "suffix"),
    [("pprof", ".pb.gz"), ("folded", ".folded"), ("speedscope", ".speedscope.json"),
     ("firefox", ".firefox.json"), ("otlp", ".otlp.pb")],
)  # fmt: skip
def test_files(form: str, suffix: str, ask: Get) -> None:
    answer = ask(f'{API}/export?{RANGE}&format={form}&q={{container="web"}}')
    assert answer.status_code == 200
    name = f'attachment; filename="huatuo-cpu-20260101T000000Z{suffix}"'
    assert answer.headers["content-disposition"] == name
    if form == "pprof":
        (samples,) = pprof.read(answer.content).samples
        assert int(samples.values.sum()) == TOTAL
    if form == "folded":
        assert sum(int(line.rsplit(" ")[-1]) for line in answer.text.splitlines()) == TOTAL


@pytest.mark.parametrize("answer", [ProfileTypeRow, Flame, FlameNodes, Audit, Heatmap])
def test_the_decision_record_names_every_field(answer: type[msgspec.Struct]) -> None:
    text = (Path(__file__).parents[2] / "docs/decisions/0007-profiling.md").read_text()
    for name in answer.__struct_encode_fields__:
        assert f"`{name}`" in text, name


# -- import ----------------------------------------------------------------------------------------


def test_what_was_exported_can_be_imported(ask: Get) -> None:
    data = ask(f'{API}/export?{RANGE}&q={{container="web"}}').content
    other = client_of(FakeNode(empty=True))
    answer = other(f"{API}/import?label.container=copy", method="POST", content=data)
    found = msgspec.json.decode(answer.content, type=ImportedProfiles)
    assert (found.samples, found.ignored) == ({"cpu": 6}, [])
    copy = flame(other(f'{API}/flame?{RANGE}&q={{container="copy"}}'))
    assert copy.nodes == flame(ask(f'{API}/flame?{RANGE}&q={{container="web"}}')).nodes


def test_folded_stacks_of_any_type_and_time() -> None:
    one = client_of(FakeNode(empty=True))
    for data in (b"main;work 42\nmain 8\n", gzip.compress(b"main;work 42\nmain 8\n")):
        answer = one(f"{API}/import?type=lock&time={rfc3339(START)}", method="POST", content=data)
        assert answer.json() == {"samples": {"lock": 2}, "ignored": []}
    found = flame(one(f"{API}/flame?{RANGE}&type=lock"))
    assert values(found) == {("main", "work"): 84, ("main",): 16}
    assert one(f"{API}/import", method="POST", content=b"f 1").json()["samples"] == {"cpu": 1}
    assert flame(one(f"{API}/flame?start=-1m&end=%2B1m")).total == 1


@pytest.mark.parametrize(
    ("content", "query", "status", "error"),
    [
        (b"main work", "", 400, "bad_profile"),
        (b"\x0a\x7f", "", 400, "bad_profile"),
        (b"main 1", "format=pprof", 400, "bad_profile"),
        (gzip.compress(bytes(40 << 20)), "", 413, "too_large"),
        (gzip.compress(b"main 1")[:-9], "", 400, "bad_profile"),
        (bytes(17 << 20), "", 413, "too_large"),
        (b"main 1", "type=gpu", 400, "bad_parameter"),
        (b"main 1", "lable.x=y", 400, "unknown_parameter"),
        (pprof.proto.Profile(
            sample_type=[pprof.proto.ValueType(1, 2)], string_table=["", "wall", "ns"]
        ).encode(), "", 400, "nothing_known"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_profile(content: bytes, query: str, status: int, error: str) -> None:
    answer = client_of(FakeNode(empty=True))(
        f"{API}/import?{query}", method="POST", content=content
    )
    problem = msgspec.json.decode(answer.content, type=Problem)
    assert (answer.status_code, problem.error) == (status, error), problem
    assert problem.hint


def test_a_body_may_be_sent_compressed() -> None:
    one = client_of(FakeNode(empty=True))
    data = gzip.compress(b"main 1\n")
    for encoding, status in (("gzip", 200), ("br", 415)):
        answer = one(f"{API}/import", method="POST", content=data, content_encoding=encoding)
        assert answer.status_code == status


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("flame?type=gpu", "type='gpu': must be one of cpu, blocked"),
        ("flame?q={container=web}", "expected a quoted text after container="),
        ("flame?q={a=~%22(b%2B)%2B%22}", "can take forever"),
        ("flame?base_q={", "base_q='{': expected a label's name"),
        ("flame?max_nodes=0", "must be between 1 and 1000000"),
        ("flame?start=-500d", "at most 400 days"),
        ("flame?base_start=-900d", "at most 400 days"),
        ("flame?base_start=-1h&base_end=-2h", "must be before base_end"),
        ("heatmap?step=1ms", "more than 20000 steps"),
        ("heatmap?step=soon", "not a duration"),
        ("heatmap?step=0", "not a duration"),
        ("export?format=svg", "must be one of pprof, folded"),
    ],
)
def test_parameters_are_checked(path: str, what: str, ask: Get) -> None:
    answer = ask(f"{API}/{path}")
    assert answer.status_code == 400
    assert what in answer.json()["what"]
    assert answer.json()["hint"]


def test_a_large_tree_is_answered_in_time() -> None:
    """100,000 functions in their context, as columns of JSON."""
    rng = np.random.default_rng(1)
    frames = [
        MAIN._replace(address=i, lines=(MAIN.lines[0]._replace(function=f"f{i}"),))
        for i in range(500)
    ]
    stacks = [
        (Stack(tuple(frames[i] for i in rng.integers(0, 500, 12))), 1 + n) for n in range(10_000)
    ]
    one = FakeNode(empty=True)
    one.store.profiles.append(samples_of("cpu", rows(stacks, step_ns=1)))
    begin = time.process_time()
    found = flame(client_of(one)(f"{API}/flame?{RANGE}&max_nodes=1000000"))
    assert len(found.nodes.parent) > 100_000
    assert found.total == sum(value for _, value in stacks)
    assert time.process_time() - begin < 10  # seconds; most of it is the store's double
