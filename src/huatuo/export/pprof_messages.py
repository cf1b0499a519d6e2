"""The messages of pprof's profile.proto. Names, files and units are indexes into `string_table`."""

from __future__ import annotations

from typing import Annotated

from huatuo.export.message import Message

__all__ = ["Function", "Label", "Line", "Location", "Mapping", "Profile", "Sample", "ValueType"]


class ValueType(Message):
    type: Annotated[int, 1] = 0
    unit: Annotated[int, 2] = 0


class Label(Message):
    key: Annotated[int, 1] = 0
    str: Annotated[int, 2] = 0
    num: Annotated[int, 3] = 0
    num_unit: Annotated[int, 4] = 0


class Sample(Message):
    """`location_id`: innermost first."""

    location_id: Annotated[list[int], 1, "uint64"] = []
    value: Annotated[list[int], 2] = []
    label: Annotated[list[Label], 3] = []


class Mapping(Message):
    id: Annotated[int, 1, "uint64"] = 0
    memory_start: Annotated[int, 2, "uint64"] = 0
    memory_limit: Annotated[int, 3, "uint64"] = 0
    file_offset: Annotated[int, 4, "uint64"] = 0
    filename: Annotated[int, 5] = 0
    build_id: Annotated[int, 6] = 0
    has_functions: Annotated[bool, 7] = False
    has_filenames: Annotated[bool, 8] = False
    has_line_numbers: Annotated[bool, 9] = False
    has_inline_frames: Annotated[bool, 10] = False


class Line(Message):
    function_id: Annotated[int, 1, "uint64"] = 0
    line: Annotated[int, 2] = 0


class Location(Message):
    """`line`: innermost first, each inlined into the next."""

    id: Annotated[int, 1, "uint64"] = 0
    mapping_id: Annotated[int, 2, "uint64"] = 0
    address: Annotated[int, 3, "uint64"] = 0
    line: Annotated[list[Line], 4] = []
    is_folded: Annotated[bool, 5] = False


class Function(Message):
    id: Annotated[int, 1, "uint64"] = 0
    name: Annotated[int, 2] = 0
    system_name: Annotated[int, 3] = 0
    filename: Annotated[int, 4] = 0
    start_line: Annotated[int, 5] = 0


class Profile(Message):
    sample_type: Annotated[list[ValueType], 1] = []
    sample: Annotated[list[Sample], 2] = []
    mapping: Annotated[list[Mapping], 3] = []
    location: Annotated[list[Location], 4] = []
    function: Annotated[list[Function], 5] = []
    string_table: Annotated[list[str], 6] = []
    drop_frames: Annotated[int, 7] = 0
    keep_frames: Annotated[int, 8] = 0
    time_nanos: Annotated[int, 9] = 0
    duration_nanos: Annotated[int, 10] = 0
    period_type: Annotated[ValueType | None, 11] = None
    period: Annotated[int, 12] = 0
    comment: Annotated[list[int], 13] = []
    default_sample_type: Annotated[int, 14] = 0
