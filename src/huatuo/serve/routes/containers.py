"""Containers with what they use, suffer and cause; and who waits for whom."""

from __future__ import annotations

from huatuo.model.application import ContainerApplication, RunningProcess
from huatuo.model.arithmetic import quantile
from huatuo.model.event import Container
from huatuo.serve.answers import ContainerRow, Contention, ContentionPair
from huatuo.serve.endpoint import END, START, Context, Endpoint, Table
from huatuo.serve.names import Names
from huatuo.serve.params import Param
from huatuo.serve.reader import Reader
from huatuo.serve.refusal import Refusal
from huatuo.store.base import EventQuery

__all__ = ["ENDPOINTS", "contention"]


def contention(reader: Reader) -> Contention:
    """All pairs, the longest delay first."""
    delays = reader.increase(Names.DELAY, ("victim", "culprit"))
    pairs = [ContentionPair(key[0], key[1], value) for key, value in delays.items() if value > 0]
    pairs.sort(key=lambda pair: -pair.seconds)
    return Contention(reader.seconds(Names.DELAY), pairs)


def _only(found: dict[tuple[str, ...], float]) -> dict[str, float]:
    return {key[0]: value for key, value in found.items()}


def _rows(context: Context) -> list[ContainerRow]:
    start_ns, end_ns = context.query.period_ns()
    reader = Reader(context.store, start_ns, end_ns)
    by = ("container",)
    cpu = _only(reader.rate(Names.CPU_CONTAINER, by)) | _only(reader.rate(Names.RUN, by))
    memory = _only(reader.last(Names.MEMORY_CONTAINER, by))
    throttled = _only(reader.rate(Names.CPU_THROTTLED, by))
    waits = {key[0]: slots for key, slots in reader.slots(Names.WAIT, by).items()}
    blocks = {key[0]: slots for key, slots in reader.slots(Names.BLOCK_DEVICE, by).items()}
    waited = _only(reader.sums(Names.WAIT, by))
    suffered = _only(reader.rate(Names.DELAY, ("victim",)))
    caused = _only(reader.rate(Names.DELAY, ("culprit",)))
    facets = context.store.facets(EventQuery(start_ns, end_ns), ["container"])
    events = {facet.value: facet.count for facet in facets}

    def row(container: Container) -> ContainerRow:
        name = container.full_name
        return ContainerRow(
            container=container,
            cpu_cores=cpu.get(name),
            memory_bytes=memory.get(name),
            wait_p99_seconds=quantile(waits[name], 0.99) if name in waits else None,
            wait_ratio=waited.get(name),
            suffered_ratio=suffered.get(name),
            caused_ratio=caused.get(name),
            throttled_ratio=throttled.get(name),
            block_p99_seconds=quantile(blocks[name], 0.99) if name in blocks else None,
            events=events.get(name, 0),
        )

    known = {c.full_name: c for c in reversed(context.containers)}  # those that live come first
    for name in (*waits, *memory, *events):
        if name and name not in known:
            known[name] = _OTHERS.get(name, Container(name, "gone", ""))
    wanted = context.query.text("name")
    rows = [row(c) for name, c in known.items() if wanted in ("", name)]
    rows.sort(key=_weight, reverse=True)
    return rows[: context.query.integer("limit")]


_OTHERS = {
    "/": Container("/", "host", "/"),
    "other": Container("other", "rest", ""),  # those for which a probe had no row left
}


def _weight(row: ContainerRow) -> tuple[float, float, float]:
    """Who suffers or causes most stands first, then who uses most."""
    worst = max(row.suffered_ratio or 0.0, row.caused_ratio or 0.0)
    return worst + min(row.events, 10) / 100, row.cpu_cores or 0.0, row.memory_bytes or 0.0


def _row_table(rows: list[ContainerRow]) -> Table:
    columns = [name for name in ContainerRow.__struct_fields__ if name != "container"]
    header = ["name", "kind", "image", "pod", "namespace", "cgroup", *columns]

    def values(row: ContainerRow) -> list[object]:
        c = row.container
        named = [c.full_name, c.kind, c.image, c.pod, c.namespace, c.cgroup]
        return named + [None if (v := getattr(row, f)) != v else v for f in columns]

    return header, (values(row) for row in rows)


def _application(context: Context) -> ContainerApplication:
    name = context.query.text("name")
    found = [c for c in context.containers if c.full_name == name and not c.gone]
    if not found:
        hint = "it may be gone; see /api/v1/containers"
        raise Refusal(404, "no_container", f"no container {name!r} runs", hint)
    return context.application(found[0])


def _process_table(found: ContainerApplication) -> Table:
    columns = [name for name in RunningProcess.__struct_fields__ if name != "environment"]
    return columns, ([getattr(each, name) for name in columns] for each in found.processes)


def _contention(context: Context) -> Contention:
    start_ns, end_ns = context.query.period_ns()
    return contention(Reader(context.store, start_ns, end_ns))


def _contention_table(found: Contention) -> Table:
    return ("victim", "culprit", "seconds"), ((p.victim, p.culprit, p.seconds) for p in found.pairs)


_NAME = Param("name", "only this one", example="pg-0")
_LIMIT = Param("limit", "the so many busiest", "integer", "500", "50", minimum=1, maximum=100_000)

ENDPOINTS = [
    Endpoint(
        "/containers",
        "Containers, services and other owners of cgroups, with what they used and suffered",
        list[ContainerRow],
        _rows,
        (START, END, _NAME, _LIMIT),
        _row_table,
        frozenset({"containers"}),
    ),
    Endpoint(
        "/containers/application",
        "What runs in a container now: its processes, parents before children, and its ports",
        ContainerApplication,
        _application,
        (_NAME,),
        _process_table,
        frozenset({"containers"}),
    ),
    Endpoint(
        "/contention",
        "Who waited for a CPU while whose tasks ran",
        Contention,
        _contention,
        (START, END),
        _contention_table,
    ),
]
