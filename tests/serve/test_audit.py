"""What a profile is compared with, over metrics that were made up for it second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from huatuo.model.meaning import Role
from huatuo.model.metric import Metric
from huatuo.model.profile import Stack, StackStatus
from huatuo.serve.answers import Audit
from huatuo.serve.audit import audit
from huatuo.serve.selector import parse_selector
from huatuo.store.base import Store
from huatuo.store.embedded import EmbeddedStore
from huatuo.store.profiles import ProfileQuery
from tests.export.profiles import NS, STACKS, START
from tests.serve.memory_profiles import samples_of
from tests.serve.memory_store import MemoryStore

STACK = STACKS[0][0]
COUNTER, GAUGE = Role.COUNTER, Role.GAUGE
CGROUP = "huatuo_cpu_cgroup_usage_seconds_total"
Write = Callable[..., None]


@pytest.fixture(params=["memory", "embedded"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    with_files = EmbeddedStore(tmp_path, max_bytes=64 << 20, max_age_seconds=1e10)
    yield with_files
    with_files.close()


def write(store: Store, second: float, *families: Metric) -> None:
    store.append_metrics(START + round(second * NS), families)


def counter(name: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    return Metric.of(name, COUNTER, "", values, labels)


def gauge(name: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    return Metric.of(name, GAUGE, "", values, labels)


def sample_every(
    store: Store, period_ms: int, first: float, last: float, type_: str = "cpu", **labels: str
) -> None:
    """Samples that stand for a period each, from `first` to `last` seconds."""
    times = range(round(first * 1000), round(last * 1000), period_ms)
    ms = 1_000_000
    rows = [(START + at * ms, period_ms * ms, STACK, labels) for at in times]
    store.profiles.append(samples_of(type_, rows))


def asked(
    store: Store,
    first: float,
    last: float,
    q: str = "",
    type_: str = "cpu",
    base: tuple[float, float] | None = None,
) -> Audit:
    def query(start: float, end: float) -> ProfileQuery:
        start_ns, end_ns = START + round(start * NS), START + round(end * NS) - 1
        return ProfileQuery(type_, start_ns, end_ns, parse_selector(q))

    wanted = query(first, last)
    return audit(store, wanted, store.profiles.merge(wanted), query(*base) if base else None)


# ---- what the configuration leaves out ----


def test_samples_that_nobody_wants_are_told(store: Store) -> None:
    sample_every(store, 100, 0, 60)
    for second in range(0, 61, 10):
        reasons = {("profile.cpu", "excluded"): 2.0 * second, ("profile.cpu", "rate_limited"): 0.0}
        name = "huatuo_probe_records_suppressed_total"
        write(store, second, counter(name, reasons, "probe", "reason"))
    found = asked(store, 0, 60)
    assert found.notes == ["120 samples were of containers that the configuration leaves out."]
    assert not found.lost


# ---- what the kernel counted ----


def test_the_hosts_cpu_time_is_what_is_not_idle(store: Store) -> None:
    sample_every(store, 100, 0, 60)
    for second in range(0, 61, 10):
        states = {("0", "user"): 0.6 * second, ("1", "system"): 0.4 * second}
        states |= {("0", "idle"): 5.0 * second, ("1", "iowait"): 3.0 * second, ("0", "steal"): 9.0}
        write(store, second, counter("huatuo_cpu_usage_seconds_total", states, "cpu", "state"))
    found = asked(store, 0, 60)
    assert found.accounted_ratio == pytest.approx(1.0)
    assert found.notes == []


def test_counters_are_interpolated_at_the_ends_of_the_range(store: Store) -> None:
    """Busy from 20 to 40 s only; the range begins and ends between two samples of the metrics."""
    sample_every(store, 10, 20, 40, container="c")
    for second in range(0, 61, 10):
        used = float(min(max(second - 20, 0), 20))
        write(store, second, counter(CGROUP, {("c", "user"): used}, "container", "state"))
    assert asked(store, 25, 34, '{container="c"}').accounted_ratio == pytest.approx(1.0, rel=0.01)
    assert asked(store, 13, 47, '{container="c"}').accounted_ratio == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("kernel", "said"), [(1.05, ""), (2.0, "50 %"), (0.5, "200 %")])
def test_what_does_not_add_up_is_said(store: Store, kernel: float, said: str) -> None:
    sample_every(store, 100, 0, 120, container="c")
    for second in range(0, 121, 10):
        usage = {("c", "user"): kernel * second, ("other", "user"): 77.0 * second}
        write(store, second, counter(CGROUP, usage, "container", "state"))
    found = asked(store, 0, 120, '{container="c"}')
    assert found.accounted_ratio == pytest.approx(1 / kernel)
    assert len(found.notes) == bool(said)
    if said:
        whole = {2.0: "4 min", 0.5: "60 s"}[kernel]
        text = f"The kernel counted {whole} of CPU time, here are 2 min ({said})."
        assert found.notes == [text]


def test_few_samples_may_be_off_by_chance(store: Store) -> None:
    """20 samples where 30 are to be expected are no proof; of 12 nothing is said at all."""
    sample_every(store, 1000, 0, 20, container="c")
    sample_every(store, 1000, 0, 12, container="d")
    for second in range(0, 121, 10):
        usage = {("c", "user"): 30 * second / 120, ("d", "user"): 18 * second / 120}
        write(store, second, counter(CGROUP, usage, "container", "state"))
    found = asked(store, 0, 120, '{container="c"}')
    assert found.accounted_ratio == pytest.approx(20 / 30)
    assert found.notes == []
    assert asked(store, 0, 120, '{container="d"}').accounted_ratio is None


def test_no_samples_of_much_time_are_said(store: Store) -> None:
    for second in range(0, 121, 10):
        usage = {("c", "user"): 1.0 * second, ("d", "user"): 0.005 * second}
        write(store, second, counter(CGROUP, usage, "container", "state"))
    found = asked(store, 0, 120, '{container="c"}')
    assert found.accounted_ratio == 0
    assert found.notes == ["The kernel counted 2 min of CPU time, here are 0 ns (0 %)."]
    assert asked(store, 0, 120, '{container="d"}').accounted_ratio is None


@pytest.mark.parametrize(
    ("q", "ratio"),
    [
        ('{container="c"}', 1.0),
        ('{container="c",pod="p"}', 1.0),
        ('{container="c",pod="q"}', None),
        ('{container="c",pod=""}', None),
        ('{pod="p"}', None),
        ('{container=~"c"}', None),
        ('{container!="d"}', None),
        ('{container="c",pid="7"}', None),
        ('{pid="7"}', None),
        ("{}", None),
    ],
)
def test_only_one_container_as_a_whole_is_compared(
    store: Store, q: str, ratio: float | None
) -> None:
    sample_every(store, 100, 0, 60, container="c", pod="p", pid="7")
    for second in range(0, 61, 10):
        usage = {("c", "p", "user"): 1.0 * second, ("c", "r", "user"): 0.0}
        families = counter(CGROUP, usage, "container", "pod", "state")
        write(store, second, families)
    found = asked(store, 0, 60, q).accounted_ratio
    assert found == (None if ratio is None else pytest.approx(ratio))


def test_the_schedulers_count_stands_in_where_the_cgroup_has_none(store: Store) -> None:
    sample_every(store, 100, 0, 60, container="/")
    for second in range(0, 61, 10):
        run = {("/",): 1.25 * second, ("c",): 3.0 * second}
        write(
            store,
            second,
            counter(CGROUP, {("c", "user"): 3.0 * second}, "container", "state"),
            counter("huatuo_cpu_sched_run_seconds_total", run, "container"),
        )
    assert asked(store, 0, 60, '{container="/"}').accounted_ratio == pytest.approx(0.8)


def test_a_container_that_began_in_the_range_counts_from_nothing(store: Store) -> None:
    sample_every(store, 100, 34, 120, container="new")
    sample_every(store, 100, 104, 120, container="brief")
    for second in range(0, 121, 10):
        usage = {("old", "user"): 9.0 * second}
        for name, began in (("new", 34), ("brief", 104)):
            if second > began:
                usage[name, "user"] = float(second - began)
        write(store, second, counter(CGROUP, usage, "container", "state"))
    assert asked(store, 0, 120, '{container="new"}').accounted_ratio == pytest.approx(1, abs=0.01)
    assert asked(store, 0, 120, '{container="brief"}').accounted_ratio is None


def test_the_newest_time_is_not_over_yet(store: Store) -> None:
    """Neither samples nor metrics of the last seconds are stored."""
    sample_every(store, 100, 0, 50, container="c")
    for second in range(0, 51, 10):
        usage = {("c", "user"): float(second)}
        write(store, second, counter(CGROUP, usage, "container", "state"))
    assert asked(store, 0, 59, '{container="c"}').accounted_ratio == pytest.approx(1.0)


def test_resident_memory_is_compared_as_it_was_on_average(store: Store) -> None:
    mib = 1 << 20
    for second in range(0, 60, 10):
        rows = [(START + second * NS, mib, STACK, {"container": "c"})] * (30 + second)
        store.profiles.append(samples_of("resident", rows))
        write(
            store,
            second,
            gauge("huatuo_memory_cgroup_anon_bytes", {("c",): (50 + second) * mib}, "container"),
            gauge("huatuo_memory_cgroup_file_mapped_bytes", {("c",): 5 * mib}, "container"),
            gauge("huatuo_memory_info_anon_bytes", {(): 55 * mib}),
            gauge("huatuo_memory_info_mapped_bytes", {(): 0}),
        )
    found = asked(store, 0, 60, '{container="c"}', "resident")
    assert found.accounted_ratio == pytest.approx(55 / 80)
    assert found.notes == [], "55 sampled pages are 80, give or take a third"
    assert asked(store, 0, 60, "", "resident").accounted_ratio == pytest.approx(1.0)
    assert asked(store, 0, 60, '{container="d"}', "resident").accounted_ratio is None


def test_other_types_have_nothing_to_be_compared_with(store: Store) -> None:
    sample_every(store, 100, 0, 60, "blocked")
    for second in range(0, 61, 10):
        states = {("0", "user"): 1.0 * second}
        write(store, second, counter("huatuo_cpu_usage_seconds_total", states, "cpu", "state"))
    assert asked(store, 0, 60, "", "blocked").accounted_ratio is None


# ---- what the profilers say of themselves ----


def account(
    store: Store, second: float, lost: Mapping[tuple[str, str], float], **more: float
) -> None:
    probes = {name for name, _ in lost}
    write(
        store,
        second,
        counter("huatuo_probe_lost_total", lost, "probe", "reason"),
        counter(
            "huatuo_probe_records_delivered_total",
            {(p,): more.get("delivered", 0.0) for p in probes},
            "probe",
        ),
        gauge("huatuo_probe_running", {(p,): more.get("running", 1.0) for p in probes}, "probe"),
        gauge("huatuo_governor_pace_ratio", {(p,): more.get("pace", 1.0) for p in probes}, "probe"),
    )


def test_lost_samples_are_counted_by_reason(store: Store) -> None:
    sample_every(store, 100, 0, 60)
    for second in range(0, 121, 10):
        lost = {
            ("profile.cpu", "ring_full"): 7 + 0.5 * second,
            ("profile.cpu", "map_full"): 0.0,
            ("profile.cpu", "recursion"): 0.1 * second,
            ("profile.lock", "ring_full"): 100.0 * second,
        }
        account(store, second, lost, delivered=9.4 * second)
    found = asked(store, 0, 60)
    assert found.lost == 36
    assert found.notes == ["36 samples of all (6 %) were lost: 6 recursion, 30 ring_full."]
    assert asked(store, 0, 60, '{pid="7"}').notes == found.notes, "whomever they were about"
    assert asked(store, 0, 60, "", "lock").lost == 6000
    assert asked(store, 0, 60, "", "holder").lost is None, "nobody says so"


def test_a_start_of_the_agent_is_no_loss(store: Store) -> None:
    """Counters begin anew; what was lost before they were seen again counts."""
    for second in range(0, 121, 10):
        lost = 100.0 + second if second < 60 else second - 60.0 + 3
        account(store, second, {("profile.cpu", "ring_full"): lost})
    assert asked(store, 0, 120).lost == pytest.approx(50 + 3 + 60, abs=1)


def test_samples_that_the_store_dropped_are_lost(store: Store) -> None:
    for second in range(0, 61, 10):
        account(store, second, {("profile.cpu", "ring_full"): 0.0})
        what = {("samples",): 0.2 * second, ("events",): 5.0 * second}
        write(store, second + 0.5, counter("huatuo_store_lost_total", what, "what"))
    assert asked(store, 0, 60).lost in (11, 12)


def test_nothing_is_known_of_profiles_from_elsewhere(store: Store) -> None:
    sample_every(store, 100, 0, 60)
    found = asked(store, 0, 60)
    assert (found.lost, found.accounted_ratio, found.notes) == (None, None, [])


def test_a_profiler_that_was_slowed_down_is_said(store: Store) -> None:
    for second in range(0, 121, 10):
        pace = 1.0 if second <= 60 else 0.5 if second <= 90 else 0.25
        account(store, second, {("profile.cpu", "ring_full"): 0.0}, pace=pace)
    assert asked(store, 0, 60).notes == []
    (note,) = asked(store, 0, 120).notes
    assert note.startswith(
        "To stay within the budget, profile.cpu was slowed down to 25 % of its rate, for 50 % of "
    )


def test_a_profiler_that_did_not_run_is_said(store: Store) -> None:
    """Shed from 60 to 90 s; from 120 to 180 s there was no agent."""
    for second in (*range(0, 121, 10), *range(180, 241, 10)):
        running = float(not 60 < second <= 90)
        account(store, second, {("profile.cpu", "ring_full"): 0.0}, running=running)
    assert asked(store, 0, 60).notes == []
    assert asked(store, 0, 120).notes == ["profile.cpu ran for 75 % of this time."]
    assert asked(store, 0, 200).notes == ["profile.cpu ran for 55 % of this time."]
    assert asked(store, -60, 60).notes == ["profile.cpu ran for 50 % of this time."]
    assert asked(store, 200, 249).notes == [], "the last seconds are not stored yet"


def test_the_time_compared_with_is_looked_at_too(store: Store) -> None:
    for second in range(60, 181, 10):
        account(store, second, {("profile.cpu", "ring_full"): 0.0})
    found = asked(store, 120, 180, base=(0, 120))
    assert found.notes == ["profile.cpu ran for 50 % of the time compared with."]
    assert asked(store, 120, 180, base=(120, 180)).notes == []


def test_incomplete_stacks_are_explained(store: Store) -> None:
    rows = [
        (START, 20, STACK, {}),
        (START + NS, 70, Stack(STACK.locations, StackStatus.NO_INFO), {}),
        (START + 2 * NS, 10, Stack(STACK.locations, StackStatus.TOO_DEEP), {}),
    ]
    store.profiles.append(samples_of("cpu", rows))
    found = asked(store, 0, 60)
    assert found.complete_ratio == pytest.approx(0.2)
    assert found.statuses == {"no_info": 70, "too_deep": 10}
    assert found.reasons.keys() == found.statuses.keys()
    (note,) = found.notes
    assert note.startswith("80 % is in stacks that do not reach the start of their thread, 88 % of")
    assert note.endswith("because nothing says how to unwind this code (no_info).")
