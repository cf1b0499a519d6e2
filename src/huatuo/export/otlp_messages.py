"""The messages of OTLP profiles, v1development, as opentelemetry-proto 1.10 lays them out.

The format is not stable: 1.10 moved Sample.values from 2 to 4. Fields that end in _strindex,
_index and _indices are indexes into the tables of the dictionary, whose entry 0 is empty.
"""

from __future__ import annotations

from typing import Annotated

from huatuo.export.message import Message

__all__ = [
    "AnyValue",
    "Dictionary",
    "ExportRequest",
    "ExportResponse",
    "Function",
    "KeyValue",
    "KeyValueAndUnit",
    "Line",
    "Link",
    "Location",
    "Mapping",
    "PartialSuccess",
    "Profile",
    "Resource",
    "ResourceProfiles",
    "Sample",
    "Scope",
    "ScopeProfiles",
    "Stack",
    "ValueType",
]


class AnyValue(Message):
    """One of; lists and maps are not read."""

    string_value: Annotated[str | None, 1] = None
    bool_value: Annotated[bool | None, 2] = None
    int_value: Annotated[int | None, 3] = None
    double_value: Annotated[float | None, 4] = None


class KeyValue(Message):
    key: Annotated[str, 1] = ""
    value: Annotated[AnyValue | None, 2] = None


class KeyValueAndUnit(Message):
    key_strindex: Annotated[int, 1, "int32"] = 0
    value: Annotated[AnyValue | None, 2] = None
    unit_strindex: Annotated[int, 3, "int32"] = 0


class Resource(Message):
    attributes: Annotated[list[KeyValue], 1] = []


class Scope(Message):
    name: Annotated[str, 1] = ""
    version: Annotated[str, 2] = ""


class ValueType(Message):
    type_strindex: Annotated[int, 1, "int32"] = 0
    unit_strindex: Annotated[int, 2, "int32"] = 0


class Sample(Message):
    """`values` add up if there are several; without any each timestamp stands for 1."""

    stack_index: Annotated[int, 1, "int32"] = 0
    attribute_indices: Annotated[list[int], 2, "int32"] = []
    link_index: Annotated[int, 3, "int32"] = 0
    values: Annotated[list[int], 4] = []
    timestamps_unix_nano: Annotated[list[int], 5, "fixed64"] = []


class Mapping(Message):
    memory_start: Annotated[int, 1, "uint64"] = 0
    memory_limit: Annotated[int, 2, "uint64"] = 0
    file_offset: Annotated[int, 3, "uint64"] = 0
    filename_strindex: Annotated[int, 4, "int32"] = 0
    attribute_indices: Annotated[list[int], 5, "int32"] = []


class Stack(Message):
    """Innermost first."""

    location_indices: Annotated[list[int], 1, "int32"] = []


class Line(Message):
    function_index: Annotated[int, 1, "int32"] = 0
    line: Annotated[int, 2] = 0
    column: Annotated[int, 3] = 0


class Location(Message):
    """`lines`: innermost first."""

    mapping_index: Annotated[int, 1, "int32"] = 0
    address: Annotated[int, 2, "uint64"] = 0
    lines: Annotated[list[Line], 3] = []
    attribute_indices: Annotated[list[int], 4, "int32"] = []


class Function(Message):
    name_strindex: Annotated[int, 1, "int32"] = 0
    system_name_strindex: Annotated[int, 2, "int32"] = 0
    filename_strindex: Annotated[int, 3, "int32"] = 0
    start_line: Annotated[int, 4] = 0


class Link(Message):
    trace_id: Annotated[bytes, 1] = b""
    span_id: Annotated[bytes, 2] = b""


class Dictionary(Message):
    mapping_table: Annotated[list[Mapping], 1] = []
    location_table: Annotated[list[Location], 2] = []
    function_table: Annotated[list[Function], 3] = []
    link_table: Annotated[list[Link], 4] = []
    string_table: Annotated[list[str], 5] = []
    attribute_table: Annotated[list[KeyValueAndUnit], 6] = []
    stack_table: Annotated[list[Stack], 7] = []


class Profile(Message):
    sample_type: Annotated[ValueType | None, 1] = None
    samples: Annotated[list[Sample], 2] = []
    time_unix_nano: Annotated[int, 3, "fixed64"] = 0
    duration_nano: Annotated[int, 4, "uint64"] = 0
    period_type: Annotated[ValueType | None, 5] = None
    period: Annotated[int, 6] = 0
    profile_id: Annotated[bytes, 7] = b""
    attribute_indices: Annotated[list[int], 11, "int32"] = []


class ScopeProfiles(Message):
    scope: Annotated[Scope | None, 1] = None
    profiles: Annotated[list[Profile], 2] = []
    schema_url: Annotated[str, 3] = ""


class ResourceProfiles(Message):
    resource: Annotated[Resource | None, 1] = None
    scope_profiles: Annotated[list[ScopeProfiles], 2] = []
    schema_url: Annotated[str, 3] = ""


class ExportRequest(Message):
    """ExportProfilesServiceRequest, which is ProfilesData too."""

    resource_profiles: Annotated[list[ResourceProfiles], 1] = []
    dictionary: Annotated[Dictionary | None, 2] = None


class PartialSuccess(Message):
    rejected_profiles: Annotated[int, 1] = 0
    error_message: Annotated[str, 2] = ""


class ExportResponse(Message):
    partial_success: Annotated[PartialSuccess | None, 1] = None
