"""Message classes of google's protobuf package, from field lists written down in a test.

messages("types.v1", LabelPair="name:string:1 value:string:2", Labels="labels:LabelPair[]:1")
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "double": _Field.TYPE_DOUBLE,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "fixed64": _Field.TYPE_FIXED64,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}

# google's profile.proto, field by field
PPROF = {
    "Profile": "sample_type:ValueType[]:1 sample:Sample[]:2 mapping:Mapping[]:3 "
    "location:Location[]:4 function:Function[]:5 string_table:string[]:6 drop_frames:int64:7 "
    "keep_frames:int64:8 time_nanos:int64:9 duration_nanos:int64:10 period_type:ValueType:11 "
    "period:int64:12 comment:int64[]:13 default_sample_type:int64:14",
    "ValueType": "type:int64:1 unit:int64:2",
    "Sample": "location_id:uint64[]:1 value:int64[]:2 label:Label[]:3",
    "Label": "key:int64:1 str:int64:2 num:int64:3 num_unit:int64:4",
    "Mapping": "id:uint64:1 memory_start:uint64:2 memory_limit:uint64:3 file_offset:uint64:4 "
    "filename:int64:5 build_id:int64:6 has_functions:bool:7 has_filenames:bool:8 "
    "has_line_numbers:bool:9 has_inline_frames:bool:10",
    "Location": "id:uint64:1 mapping_id:uint64:2 address:uint64:3 line:Line[]:4 is_folded:bool:5",
    "Line": "function_id:uint64:1 line:int64:2",
    "Function": "id:uint64:1 name:int64:2 system_name:int64:3 filename:int64:4 start_line:int64:5",
}


def messages(package: str, **declared: str) -> dict[str, Any]:
    """Name → class. A `?` behind the type makes a field optional."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for name, text in declared.items():
        message = file.message_type.add(name=name)
        for word in text.split():
            _add(message, package, *word.split(":"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in declared
    }


def _add(message: Any, package: str, name: str, kind: str, number: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.endswith("[]"):
        field.label = _Field.LABEL_REPEATED
    if kind.endswith("?"):
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
    plain = kind.removesuffix("[]").removesuffix("?")
    if plain in _KINDS:
        field.type = _KINDS[plain]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{plain}"
