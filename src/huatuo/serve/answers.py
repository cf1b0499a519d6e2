"""What the API answers: these types are the JSON, and the OpenAPI document is made from them.

Times in answers about metrics are seconds since 1970; events carry RFC 3339 with nanoseconds.
A number that does not exist is null.
"""

from __future__ import annotations

import msgspec

from huatuo.model.event import Container, Event

__all__ = [
    "Audit",
    "ContainerRow",
    "Contention",
    "ContentionPair",
    "EventHistogram",
    "EventPage",
    "Facets",
    "Finding",
    "Flame",
    "FlameNodes",
    "Heatmap",
    "ImportedProfiles",
    "MetricAnswer",
    "MetricFamily",
    "MetricSeries",
    "Overview",
    "OverviewRow",
    "Problem",
    "ProfileLabels",
    "ProfileTypeRow",
    "ProfileTypes",
    "Signal",
    "Stopped",
    "Usage",
    "Value",
    "Worst",
]


class Problem(msgspec.Struct, frozen=True):
    """Every error: a word for programs, what is wrong, what to do."""

    error: str
    what: str
    hint: str = ""


class EventPage(msgspec.Struct, frozen=True):
    """Newest first. `next_before` is the `before` of the next page; 0 at the end."""

    events: list[Event]
    next_before: int = 0


class EventHistogram(msgspec.Struct, frozen=True):
    """`counts`: probe → number of events in each bucket; `times` are the buckets' starts."""

    start: float
    end: float
    times: list[float]
    counts: dict[str, list[int]]


class Value(msgspec.Struct, frozen=True):
    value: str
    count: int


class Facets(msgspec.Struct, frozen=True):
    """Field → its values among the matching events, most frequent first."""

    facets: dict[str, list[Value]]


class MetricFamily(msgspec.Struct, frozen=True):
    name: str
    kind: str  # counter · gauge · histogram
    unit: str  # of the stored value: seconds, bytes, ratio, …
    help: str
    labels: list[str]


class MetricSeries(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `values` for raw and rate; the quantile columns for quantiles; `slots` for heatmap:
    per interval the counts of slots `first_slot`, `first_slot` + 1, …"""

    labels: dict[str, str]
    values: list[float | None] = []
    p50: list[float | None] = []
    p99: list[float | None] = []
    max: list[float | None] = []
    count: list[float | None] = []
    slots: list[list[int] | None] = []
    first_slot: int = 0


class MetricAnswer(msgspec.Struct, frozen=True, rename={"form": "as"}):
    """`times` are the ends of the intervals; the first one begins at `since`. `edges`: upper edges
    of histogram slots in base units; the last slot has none. `dropped`: series beyond `top`."""

    name: str
    kind: str
    form: str
    unit: str
    start: float
    end: float
    since: float
    times: list[float]
    series: list[MetricSeries]
    edges: list[float] = []
    dropped: int = 0


class ContainerRow(msgspec.Struct, frozen=True):
    """One owner of a cgroup with what it suffered and caused in the time range."""

    container: Container
    cpu_cores: float | None = None
    memory_bytes: float | None = None
    wait_p99_seconds: float | None = None
    wait_ratio: float | None = None  # seconds of tasks waiting per second
    suffered_ratio: float | None = None  # of that, blamed on anyone
    caused_ratio: float | None = None  # waiting that it caused in others, per second
    throttled_ratio: float | None = None
    block_p99_seconds: float | None = None
    events: int = 0


class ContentionPair(msgspec.Struct, frozen=True):
    victim: str
    culprit: str
    seconds: float


class Contention(msgspec.Struct, frozen=True):
    """Who waited for a CPU while whom ran, most first, over `seconds` of wall time."""

    seconds: float
    pairs: list[ContentionPair]


class Worst(msgspec.Struct, frozen=True):
    """A container that suffers; `text` says how much, `cause` who does it."""

    container: str
    value: float
    unit: str
    text: str
    cause: str = ""


class Signal(msgspec.Struct, frozen=True):
    """One number of a row, already put into words; `value` is null when unknown."""

    name: str
    value: float | None
    unit: str
    text: str
    status: str = "ok"  # ok · warn · bad


class OverviewRow(msgspec.Struct, frozen=True):
    """One subsystem. `status`: ok · warn · bad · unavailable; `missing`: what is not there, why."""

    subsystem: str
    title: str
    status: str
    signals: list[Signal]
    worst: list[Worst]
    missing: list[str]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not well, as a sentence."""

    subsystem: str
    status: str  # warn · bad
    text: str
    container: str = ""
    probe: str = ""


class Overview(msgspec.Struct, frozen=True):
    """`verdict` is one sentence; `status`: ok · warn · bad · unknown."""

    status: str
    verdict: str
    start: float
    end: float
    findings: list[Finding]
    rows: list[OverviewRow]


class Usage(msgspec.Struct, frozen=True):
    """What the store holds."""

    bytes: int
    events: int
    series: int
    oldest: str


class ProfileTypeRow(msgspec.Struct, frozen=True):
    """A gauge is a state: merging averages it over time, where other types add up."""

    name: str
    title: str
    unit: str  # nanoseconds · bytes · count
    is_gauge: bool


class ProfileTypes(msgspec.Struct, frozen=True):
    """Those with samples in the time range, the most general first."""

    types: list[ProfileTypeRow]


class ProfileLabels(msgspec.Struct, frozen=True):
    """Name → values."""

    labels: dict[str, list[str]]


class FlameNodes(msgspec.Struct, frozen=True, omit_defaults=True, rename={"self_": "self"}):
    """Columns, parents before children, siblings in order of name; node 0 is the root. `name`,
    `kind`, `mapping`, `file` are numbers into the texts; values are in the type's unit."""

    parent: list[int]
    name: list[int]
    kind: list[int]
    mapping: list[int]
    file: list[int]
    line: list[int]  # where most of the node's value was; 0 if unknown
    self_: list[int]
    total: list[int]
    base_self: list[int] = []
    base_total: list[int] = []


class Audit(msgspec.Struct, frozen=True):
    """How far a profile can be believed. `complete_ratio`: of the value, in stacks that reach the
    start of their thread; `statuses`: why others do not, and their value; `reasons`: that in words;
    `accounted_ratio`: what the profile adds up to, of what the kernel counted by itself; `lost`:
    samples that the profiler lost, of whatever labels; `notes`: sentences, what is to be known."""

    complete_ratio: float | None
    statuses: dict[str, int]
    reasons: dict[str, str]
    accounted_ratio: float | None
    lost: int | None
    notes: list[str]


class Flame(msgspec.Struct, frozen=True):
    """A tree by function. The root's name is empty; "(other)" is what was pruned below a function.
    `base_total` is null where nothing is compared."""

    type: str
    title: str
    unit: str
    total: int
    base_total: int | None
    samples: int
    names: list[str]
    kinds: list[str]  # kernel · native · jit · runtime; empty for the root and (other)
    mappings: list[str]
    files: list[str]
    nodes: FlameNodes
    dropped: int  # functions that stand in (other)
    audit: Audit


class Heatmap(msgspec.Struct, frozen=True):
    """`values`: step i begins at start_ns + i * step_ns, UTC."""

    type: str
    unit: str
    start_ns: int
    step_ns: int
    values: list[int]


class ImportedProfiles(msgspec.Struct, frozen=True):
    """`samples`: rows taken in, by type; `ignored`: sample types of the file that are unknown."""

    samples: dict[str, int]
    ignored: list[str]


class Stopped(msgspec.Struct, frozen=True):
    """Whether there was anything to stop."""

    stopped: bool
