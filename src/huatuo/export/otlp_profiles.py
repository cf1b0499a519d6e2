"""OTLP profiles: a request with any number of profiles, written and read.

All of them share one dictionary. Frame kinds travel as `profile.frame.type`, build ids as
`process.executable.build_id.gnu`, our labels under the names of the semantic conventions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from huatuo.export import otlp_messages as proto
from huatuo.export.foreign import Imported, Intake, measure, named, unique
from huatuo.export.tables import Mapped, Tables, kind_of, period_of, stacks
from huatuo.export.wire import WireError
from huatuo.model.profile import FrameKind, Line, Location, Profile

__all__ = ["ATTRIBUTES", "attribute_of", "label_of", "parse", "read", "request", "write"]

_FRAME_TYPE = "profile.frame.type"
_BUILD_ID = "process.executable.build_id.gnu"
_SCOPE = "huatuo"
ATTRIBUTES = {
    "container": "container.name",
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
    "node": "host.name",
    "comm": "process.command",
    "pid": "process.pid",
    "thread": "thread.name",
    "tid": "thread.id",
}
_LABELS = {attribute: label for label, attribute in ATTRIBUTES.items()}

T = TypeVar("T")
Labelled = tuple[Mapping[str, str], Profile]


def attribute_of(label: str) -> str:
    return ATTRIBUTES.get(label, label)


def label_of(attribute: str) -> str:
    return _LABELS.get(attribute) or attribute.replace(".", "_")


def write(profile: Profile) -> bytes:
    """A single profile without labels: a ProfilesData message, not compressed."""
    return request([({}, profile)]).encode()


def request(profiles: Sequence[Labelled]) -> proto.ExportRequest:
    """A resource for each label set; they share one dictionary."""
    writer = _Writer()
    resources = [writer.resource(labels, profile) for labels, profile in profiles]
    return proto.ExportRequest(resources, writer.dictionary())


class _Writer:
    def __init__(self) -> None:
        self.tables = Tables()
        self.stacks: list[proto.Stack] = [proto.Stack()]
        self.numbers: dict[tuple[int, ...], int] = {}
        self.attributes: dict[tuple[str, str], int] = {}
        self.known: dict[Location, int] = {}

    def attribute(self, key: str, value: str) -> int:
        return self.attributes.setdefault((key, value), len(self.attributes) + 1)

    def resource(self, labels: Mapping[str, str], profile: Profile) -> proto.ResourceProfiles:
        attributes = {attribute_of(name): value for name, value in labels.items() if value}
        if "container" in labels:
            attributes.setdefault("service.name", labels["container"])
        pairs = [
            proto.KeyValue(key, proto.AnyValue(string_value=value))
            for key, value in sorted(attributes.items())
        ]
        scope = proto.ScopeProfiles(proto.Scope(_SCOPE), [self.profile(profile)])
        return proto.ResourceProfiles(proto.Resource(pairs), [scope])

    def profile(self, profile: Profile) -> proto.Profile:
        kind, text = profile.type, self.tables.text
        numbers = self._locations(profile.locations)
        samples = []
        for stack, value in stacks(profile):
            path = tuple([numbers[index] for index in stack])
            number = self.numbers.get(path)
            if number is None:
                number = self.numbers[path] = len(self.stacks)
                self.stacks.append(proto.Stack(list(path)))
            samples.append(proto.Sample(number, values=[value]))
        return proto.Profile(
            sample_type=proto.ValueType(text(kind.sample), text(kind.unit)),
            samples=samples,
            time_unix_nano=profile.start_ns,
            duration_nano=max(profile.end_ns - profile.start_ns, 0),
            period_type=proto.ValueType(text(kind.period), text(kind.period_unit)),
            period=period_of(profile),
        )

    def _locations(self, locations: Sequence[Location]) -> list[int]:
        """Their numbers in the shared table."""
        numbers = []
        for location in locations:
            number = self.known.get(location)
            if number is None:
                self.tables.add((location,))
                number = self.known[location] = len(self.tables.locations)
            numbers.append(number)
        return numbers

    def dictionary(self) -> proto.Dictionary:
        tables = self.tables
        mappings, kinds = [proto.Mapping()], [0]
        for kind, name, build_id in tables.mappings:
            builds = [self.attribute(_BUILD_ID, build_id)] if build_id else []
            mappings.append(
                proto.Mapping(filename_strindex=tables.text(name), attribute_indices=builds)
            )
            kinds.append(self.attribute(_FRAME_TYPE, kind))
        locations = [proto.Location()]
        for mapping, address, lines in tables.locations:
            mappings[mapping].memory_limit = max(
                mappings[mapping].memory_limit, min(address + 1, (1 << 64) - 1)
            )
            shown = [proto.Line(*line) for line in lines]
            locations.append(proto.Location(mapping, address, shown, [kinds[mapping]]))
        functions = [proto.Function(name, 0, file) for name, file in tables.functions]
        attributes = [
            proto.KeyValueAndUnit(tables.text(key), proto.AnyValue(string_value=value))
            for key, value in self.attributes
        ]
        return proto.Dictionary(
            mapping_table=mappings,
            location_table=locations,
            function_table=[proto.Function(), *functions],
            link_table=[proto.Link(bytes(16), bytes(8))],
            attribute_table=[proto.KeyValueAndUnit(), *attributes],
            stack_table=self.stacks,
            string_table=list(tables.texts),
        )


# -- reading ---------------------------------------------------------------------------------------


def read(data: bytes, now_ns: int = 0) -> Imported:
    """The profiles of a request, whoever wrote it. Raises WireError."""
    return parse(proto.ExportRequest.decode(data), now_ns)


def parse(message: proto.ExportRequest, now_ns: int = 0) -> Imported:
    """Samples by type; a profile without a time is of `now_ns`. Raises WireError."""
    reader = _Reader(message.dictionary or proto.Dictionary())
    intakes: dict[str, Intake] = {}
    ignored = []
    for resource in message.resource_profiles:
        attributes = resource.resource.attributes if resource.resource else []
        pairs = {one.key: _text(one.value) for one in attributes}
        labels = {label_of(key): value for key, value in pairs.items()}
        for scope in resource.scope_profiles:
            ours = scope.scope is not None and scope.scope.name == _SCOPE
            for profile in scope.profiles:
                name = reader.add(profile, labels, ours, now_ns, intakes)
                if name:
                    ignored.append(name)
    return Imported([intake.samples() for intake in intakes.values() if intake.times], ignored)


def _text(value: proto.AnyValue | None) -> str:
    for given in (value.string_value, value.int_value, value.double_value) if value else ():
        if given is not None:
            return str(given)
    return str(value.bool_value).lower() if value and value.bool_value is not None else ""


class _Reader:
    def __init__(self, dictionary: proto.Dictionary) -> None:
        self.dictionary = dictionary
        self.texts = dictionary.string_table
        self.located: dict[tuple[int, bool], Location] = {}

    def text(self, number: int) -> str:
        return _at(self.texts, number, "text")

    def value_type(self, kind: proto.ValueType | None) -> tuple[str, str]:
        return (self.text(kind.type_strindex), self.text(kind.unit_strindex)) if kind else ("", "")

    def attributes(self, numbers: Sequence[int]) -> dict[str, str]:
        table = self.dictionary.attribute_table
        pairs = [_at(table, number, "attribute") for number in numbers if number]
        return {self.text(pair.key_strindex): _text(pair.value) for pair in pairs}

    def add(
        self,
        profile: proto.Profile,
        labels: Mapping[str, str],
        ours: bool,
        now_ns: int,
        intakes: dict[str, Intake],
    ) -> str:
        """Take in one profile; the name of its type if that is none of ours."""
        sample, unit = self.value_type(profile.sample_type)
        period = (*self.value_type(profile.period_type), profile.period)
        wanted = measure("off_cpu" if sample == "events" else sample, unit, period=period)
        if wanted is None:
            return f"{sample}/{unit}"
        intake = intakes.setdefault(wanted.type, Intake(wanted.type))
        start_ns = profile.time_unix_nano or now_ns
        stacks_seen: dict[int, int] = {}
        for one in profile.samples:
            stack = stacks_seen.get(one.stack_index)
            if stack is None:
                stack = stacks_seen[one.stack_index] = intake.stack(self.stack(one, ours))
            own = {label_of(k): v for k, v in self.attributes(one.attribute_indices).items()}
            if one.link_index:
                link = _at(self.dictionary.link_table, one.link_index, "link")
                own["span_id"] = link.span_id.hex()
            chosen = intake.label_set({**labels, **own})
            times = one.timestamps_unix_nano
            values = one.values or [1] * len(times)
            if len(times) == len(values):
                for time_ns, value in zip(times, values, strict=True):
                    intake.add(min(time_ns, 2**63 - 1), value * wanted.factor, stack, chosen)
            else:
                intake.add(min(start_ns, 2**63 - 1), sum(values) * wanted.factor, stack, chosen)
        return ""

    def stack(self, sample: proto.Sample, ours: bool) -> list[Location]:
        stack = _at(self.dictionary.stack_table, sample.stack_index, "stack")
        return [self.location(number, ours) for number in stack.location_indices]

    def location(self, number: int, ours: bool) -> Location:
        found = self.located.get((number, ours))
        if found is None:
            one = _at(self.dictionary.location_table, number, "location")
            mapped = self.mapped(one)
            lines = tuple([self.line(line) for line in one.lines])
            found = Location(mapped.kind, mapped.name, one.address, mapped.build_id, lines)
            found = self.located[number, ours] = found if ours else unique(found)
        return found

    def line(self, line: proto.Line) -> Line:
        function = _at(self.dictionary.function_table, line.function_index, "function")
        name = self.text(function.name_strindex) or self.text(function.system_name_strindex)
        return named(name, self.text(function.filename_strindex), line.line)

    def mapped(self, location: proto.Location) -> Mapped:
        mapping = _at(self.dictionary.mapping_table, location.mapping_index, "mapping")
        name = self.text(mapping.filename_strindex)
        build_id = self.attributes(mapping.attribute_indices).get(_BUILD_ID, "")
        frame_type = self.attributes(location.attribute_indices).get(_FRAME_TYPE, "")
        if frame_type in list(FrameKind):
            kind = FrameKind(frame_type)
        else:
            kind = FrameKind.RUNTIME if frame_type else kind_of(name)
        return Mapped(kind, name, build_id)


def _at(table: Sequence[T], number: int, what: str) -> T:
    if not 0 <= number < len(table):
        raise WireError(f"{what} {number} is not in the dictionary")
    return table[number]
