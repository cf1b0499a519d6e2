"""pprof's profile.proto: writing a profile, reading anybody's.

Everything of a Profile is carried but two numbers, `samples` and `statuses`; the kinds of frames
stand in comments, since pprof knows none. Addresses are those of the file as linked, so mappings
begin at 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from huatuo.export import pprof_messages as proto
from huatuo.export.compression import compressed, expanded
from huatuo.export.foreign import Imported, Intake, Measure, measure, named, unique
from huatuo.export.tables import Mapped, Tables, kind_of, period_of, stacks
from huatuo.export.wire import WireError
from huatuo.model.profile import FrameKind, Location, Profile

__all__ = ["LARGEST", "message", "read", "write"]

LARGEST = 32 << 20  # bytes of a profile that is read, decompressed
_OURS = "written by HUATUO"
_KIND = re.compile(r"mapping ([0-9]{1,9}) (\w+) (.*)", re.DOTALL)
_LAST_ADDRESS = (1 << 64) - 1


def write(profile: Profile) -> bytes:
    """gzip'd, as `go tool pprof` takes it."""
    return compressed(message(profile).encode())


def message(profile: Profile) -> proto.Profile:
    """A sample for each stack, with one value in the type's unit."""
    tables = Tables()
    kind = profile.type
    sample_type = proto.ValueType(tables.text(kind.sample), tables.text(kind.unit))
    period_type = proto.ValueType(tables.text(kind.period), tables.text(kind.period_unit))
    tables.add(profile.locations)
    comments = [tables.text(comment) for comment in (_OURS, *_kinds(tables))]
    samples = [
        proto.Sample([number + 1 for number in stack], [value]) for stack, value in stacks(profile)
    ]
    return proto.Profile(
        sample_type=[sample_type],
        sample=samples,
        mapping=_mappings(tables, profile.locations),
        location=[
            proto.Location(number, mapping, address, [proto.Line(*line) for line in lines])
            for number, (mapping, address, lines) in enumerate(tables.locations, 1)
        ],
        function=[
            proto.Function(number, name, name, file)
            for (name, file), number in tables.functions.items()
        ],
        string_table=list(tables.texts),
        time_nanos=profile.start_ns,
        duration_nanos=max(profile.end_ns - profile.start_ns, 0),
        period_type=period_type,
        period=period_of(profile),
        comment=comments,
        default_sample_type=sample_type.type,
    )


def _kinds(tables: Tables) -> list[str]:
    return [
        f"mapping {number} {mapped.kind} {mapped.name}"
        for mapped, number in tables.mappings.items()
        if mapped.kind != kind_of(mapped.name)
    ]


def _mappings(tables: Tables, locations: Sequence[Location]) -> list[proto.Mapping]:
    found = []
    for (_, name, build_id), number in tables.mappings.items():
        file, build = tables.text(name), tables.text(build_id)
        found.append(proto.Mapping(number, filename=file, build_id=build))
    for (number, address, _), location in zip(tables.locations, locations, strict=True):
        mapping, lines = found[number - 1], location.lines
        mapping.memory_limit = max(mapping.memory_limit, min(address + 1, _LAST_ADDRESS))
        mapping.has_functions |= bool(lines)
        mapping.has_filenames |= any(line.file for line in lines)
        mapping.has_line_numbers |= any(line.line for line in lines)
        mapping.has_inline_frames |= len(lines) > 1
    return found


# -- reading ---------------------------------------------------------------------------------------


def read(
    data: bytes,
    labels: Mapping[str, str] | None = None,
    *,
    family: str = "",
    now_ns: int = 0,
    ignore: Sequence[str] = (),
) -> Imported:
    """A profile of anybody, gzip'd or not, all its sample types that we know.

    Samples get `labels` and their own; `now_ns` is their time if the file has none; `family` is
    Pyroscope's name; sample types in `ignore` are left out. Raises HuatuoError.
    """
    profile = proto.Profile.decode(expanded(data, LARGEST))
    if not profile.sample_type:
        raise WireError("not a pprof profile: it has no sample types")
    reader = _Reader(profile)
    time_ns = profile.time_nanos if profile.time_nanos > 0 else now_ns
    found: list[Intake] = []
    ignored = []
    for column, (name, wanted) in enumerate(reader.measures(family, ignore)):
        if wanted is None or any(intake.type == wanted.type for intake in found):
            ignored.append(name)
        else:
            found.append(reader.intake(column, wanted, labels or {}, time_ns))
    return Imported([intake.samples() for intake in found if intake.times], ignored)


class _Reader:
    def __init__(self, profile: proto.Profile) -> None:
        self.profile = profile
        self.texts = profile.string_table
        comments = [self.text(number) for number in profile.comment]
        self.ours = _OURS in comments
        kinds = [found for comment in comments if (found := _KIND.fullmatch(comment))]
        self.kinds = {
            (int(number), name): kind for number, kind, name in map(re.Match.groups, kinds)
        }
        self.mappings = {one.id: self.mapped(one) for one in profile.mapping}
        self.functions = {
            one.id: (self.text(one.name) or self.text(one.system_name), self.text(one.filename))
            for one in profile.function
        }
        self.locations = {one.id: self.location(one) for one in profile.location}

    def text(self, number: int) -> str:
        if not 0 <= number < len(self.texts):
            raise WireError(f"text {number} is not in the string table")
        return self.texts[number]

    def mapped(self, mapping: proto.Mapping) -> Mapped:
        name = self.text(mapping.filename)
        kind = self.kinds.get((mapping.id, name), "")
        known = FrameKind(kind) if kind in list(FrameKind) else kind_of(name)
        return Mapped(known, name, self.text(mapping.build_id))

    def location(self, one: proto.Location) -> Location:
        if one.mapping_id and one.mapping_id not in self.mappings:
            raise WireError(f"mapping {one.mapping_id} is not there")
        bare = FrameKind.NATIVE if one.address else FrameKind.RUNTIME
        mapped = self.mappings.get(one.mapping_id, Mapped(bare, "", ""))
        try:
            lines = tuple(named(*self.functions[line.function_id], line.line) for line in one.line)
        except KeyError as error:
            raise WireError(f"function {error} is not there") from None
        found = Location(mapped.kind, mapped.name, one.address, mapped.build_id, lines)
        return found if self.ours else unique(found)

    def measures(self, family: str, ignore: Sequence[str]) -> list[tuple[str, Measure | None]]:
        """(type/unit, what it is of ours) of each sample type."""
        profile = self.profile
        kind = profile.period_type or proto.ValueType()
        period = (self.text(kind.type), self.text(kind.unit), profile.period)
        names = [(self.text(one.type), self.text(one.unit)) for one in profile.sample_type]
        wanted = [
            None if sample in ignore else measure(sample, unit, family, period)
            for sample, unit in names
        ]
        exact = {one.type for one, (name, _) in zip(wanted, names, strict=True)
                 if one and name != "samples"}  # fmt: skip
        return [
            (f"{sample}/{unit}", None if one and sample == "samples" and one.type in exact else one)
            for (sample, unit), one in zip(names, wanted, strict=True)
        ]

    def intake(
        self, column: int, wanted: Measure, labels: Mapping[str, str], time_ns: int
    ) -> Intake:
        intake = Intake(wanted.type)
        plain = intake.label_set(labels)
        for sample in self.profile.sample:
            if column >= len(sample.value):
                raise WireError("a sample has too few values")
            try:
                stack = intake.stack([self.locations[number] for number in sample.location_id])
            except KeyError as error:
                raise WireError(f"location {error} is not there") from None
            own = {self.text(one.key): self.text(one.str) for one in sample.label if one.str}
            chosen = intake.label_set({**labels, **own}) if own else plain
            intake.add(time_ns, sample.value[column] * wanted.factor, stack, chosen)
        return intake
