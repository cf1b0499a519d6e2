"""The same questions to the store that the agent has, written and read on a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.export import pprof
from huatuo.store.embedded import EmbeddedStore
from tests.export.profiles import STACKS, START, TOTAL, profile
from tests.export.test_flamebearer import expected, positive
from tests.serve.conftest import Get, client_of
from tests.serve.fake_node import FakeNode
from tests.serve.grafana import DataSource, Explore
from tests.serve.test_profiles import API, RANGE, flame
from tests.serve.test_pyroscope import CPU, FROM, TO, stacks_of
from tests.serve.test_receive import push


@pytest.fixture
def get(tmp_path: Path) -> Iterator[Get]:
    node = FakeNode(empty=True)
    store = EmbeddedStore(tmp_path, max_bytes=64 << 20, max_age_seconds=1e10)
    node.store = store  # type: ignore[assignment]
    yield client_of(node)
    store.close()


def test_pushed_stored_and_asked_for(get: Get) -> None:
    push(get, pprof.write(profile()), __name__="process_cpu", service_name="web", region="eu")
    push(get, pprof.write(profile()), __name__="process_cpu", service_name="db")
    source = DataSource(get)
    assert source.profile_types(FROM, TO) == [(CPU, "process_cpu - cpu")]
    assert source.label_names("{}", FROM, TO) == ["region", "service_name"]
    assert source.label_values("service_name", '{region!=""}', FROM, TO) == ["web"]
    found = source.get_profile(CPU, '{service_name=~"w.*"}', FROM, TO)
    assert stacks_of(found) == positive(expected(STACKS)[0])
    series = source.get_series(CPU, "{}", FROM, TO, ["service_name"], 15)
    assert series == {(("service_name", name),): [(FROM, TOTAL)] for name in ("web", "db")}
    assert Explore(get).list(FROM, TO) == {("web", CPU), ("db", CPU)}


def test_a_file_comes_out_as_it_went_in(get: Get) -> None:
    data = pprof.write(profile())
    answer = get(f"{API}/import?label.container=web", method="POST", content=data)
    assert answer.json() == {"samples": {"cpu": 6}, "ignored": []}
    shown = flame(get(f"{API}/flame?{RANGE}"))
    assert (shown.total, shown.samples) == (TOTAL, 6)
    again = pprof.read(get(f"{API}/export?{RANGE}").content)
    (samples,), (first,) = again.samples, pprof.read(data).samples
    assert int(samples.values.sum()) == TOTAL
    assert set(samples.stacks) == set(first.stacks)
    assert set(samples.times.tolist()) == {START}


def test_functions_without_addresses_stay_apart(get: Get) -> None:
    """The store knows a location by its address and build id; folded stacks have neither."""
    for _ in range(2):
        get(f"{API}/import?time={START // 10**9}", method="POST", content=b"a;b 1\na;c 2\nd 4\n")
    shown = flame(get(f"{API}/flame?{RANGE}"))
    totals = {shown.names[n]: shown.nodes.total[i] for i, n in enumerate(shown.nodes.name)}
    assert totals == {"": 14, "a": 6, "b": 2, "c": 4, "d": 8}
