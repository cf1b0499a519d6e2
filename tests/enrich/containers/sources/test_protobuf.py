"""What Google's library writes is read; what it would not is refused."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import DoubleValue, FloatValue
from hypothesis import given
from hypothesis import strategies as st

from huatuo.enrich.containers.sources.protobuf import Message


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_integers(seconds: int, nanos: int) -> None:
    message = Message(Timestamp(seconds=seconds, nanos=nanos).SerializeToString())
    assert (message.integer(1), message.integer(2)) == (seconds, nanos)


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=5))
def test_texts_and_messages(name: str, types: list[str]) -> None:
    written = FileDescriptorProto(name=name)
    for each in types:
        written.message_type.add(name=each)
    message = Message(written.SerializeToString())
    assert message.text(1) == name
    assert [each.text(1) for each in message.messages(4)] == types


def test_numbers_of_fixed_size_are_passed_over() -> None:
    for number in (DoubleValue(value=1.5), FloatValue(value=1.5)):
        assert Message(number.SerializeToString() + b"\x38\x05").integer(7) == 5


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    try:
        message = Message(data)
        for number in range(1, 16):
            message.texts(number)
            message.text(number)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data", [b"\x0a\x05ab", b"\x08", b"\x08" + b"\x80" * 11, b"\x0b", b"\x0a\xff\xff\xff\xff\x0f"]
)
def test_cut_off_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|wire type"):
        Message(data)
