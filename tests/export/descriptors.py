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
