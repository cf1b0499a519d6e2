"""ELF files made by hand: code, .eh_frame, .eh_frame_hdr in any encoding, or damaged on purpose."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

READ, WRITE, EXECUTE = 4, 2, 1
PT_GNU_EH_FRAME = 0x6474E550
PAGE = 4096
HEADER, FRAMES = 0x80000, 0x100000  # where `program` has its tables
# cfa = rsp + 8, return address at cfa - 8: where every function of x86-64 begins
AT_ENTRY = b"\x0c\x07\x08\x90\x01"
_FORMS = {0x00: "Q", 0x02: "H", 0x03: "I", 0x04: "Q", 0x0A: "h", 0x0B: "i", 0x0C: "q"}


class Function(NamedTuple):
    begin: int
    size: int
    program: bytes = b""


@dataclass
class Part:
    """A section, and a loaded segment of its own if it has an address."""

    name: str
    address: int
    data: bytes
    mode: int = READ
    offset: int | None = None  # in the file; None: the next that fits
    flags: int = 0


def pointer(value: int, encoding: int, here: int = 0, base: int = 0) -> bytes:
    value -= {0x10: here, 0x30: base}.get(encoding & 0x70, 0)
    letter = _FORMS[encoding & 0x0F]
    if letter.isupper():
        value &= (1 << 8 * struct.calcsize("<" + letter)) - 1
    return struct.pack("<" + letter, value)


def entry(body: bytes) -> bytes:
    body += b"\0" * (-(len(body) + 4) % 8)
    return struct.pack("<I", len(body)) + body


def cie(
    encoding: int = 0x1B, augmentation: bytes = b"zR", data: bytes | None = None,
    program: bytes = AT_ENTRY, version: int = 1, ra: int = 16, code_align: int = 1,
) -> bytes:  # fmt: skip
    data = bytes([encoding]) if data is None else data
    size = bytes([len(data)]) + data if augmentation else b""
    return entry(
        struct.pack("<IB", 0, version) + augmentation + b"\0"
        + bytes([code_align, 0x78, ra]) + size + program
    )  # fmt: skip


def eh_frame(
    address: int, functions: Sequence[Function], encoding: int = 0x1B, kind: bytes | None = None
) -> tuple[bytes, list[tuple[int, int]]]:
    """(.eh_frame at an address, its table: (begin, address of the entry))."""
    content = bytearray(kind or cie(encoding))
    has_augmentation = b"z" in content[9:12]
    table = []
    for begin, size, program in functions:
        at = len(content)
        here = address + at + 8
        body = struct.pack("<I", at + 4) + pointer(begin, encoding, here)
        body += pointer(size, encoding & 0x0F) + (b"\0" if has_augmentation else b"") + program
        content += entry(body)
        table.append((begin, address + at))
    return bytes(content) + bytes(4), sorted(table)


def eh_frame_hdr(
    address: int, frames: int, table: Sequence[tuple[int, int]], encoding: int = 0x3B
) -> bytes:
    head = bytes([1, 0x1B, 0x03 if encoding != 0xFF else 0xFF, encoding])
    head += pointer(frames, 0x1B, address + 4)
    if encoding == 0xFF:
        return head
    body = bytearray(struct.pack("<I", len(table)))
    for pair in table:
        for value in pair:
            body += pointer(value, encoding, address + len(head) + len(body), address)
    return head + body


def elf(
    parts: Sequence[Part], *, machine: int = 62, start: int = 0, has_sections: bool = True
) -> bytes:
    parts = [replace(part) for part in parts]  # their places are filled in here
    loaded = [part for part in parts if part.address]
    special = [part for part in loaded if part.name == ".eh_frame_hdr"]
    content = bytearray(64 + 56 * (len(loaded) + len(special)))
    for part in parts:
        if part.offset is None:
            part.offset = len(content) + (part.address - len(content)) % PAGE
        content += bytes(max(part.offset + len(part.data) - len(content), 0))
        content[part.offset : part.offset + len(part.data)] = part.data
    names = b"\0" + b"".join(part.name.encode() + b"\0" for part in parts) + b".names\0"
    names_at = len(content)
    content += names + bytes(-len(names) % 8)
    sections_at = len(content)
    rows = [(0,) * 10] + [
        (
            names.index(part.name.encode() + b"\0"), 1, part.flags | 2 * bool(part.address),
            part.address, part.offset, len(part.data), 0, 0, 1, 0,
        )
        for part in parts
    ]  # fmt: skip
    rows.append((names.index(b".names\0"), 3, 0, 0, names_at, len(names), 0, 0, 1, 0))
    for row in rows if has_sections else []:
        content += struct.pack("<IIQQQQIIQQ", *row)
    segments = [(1, part) for part in loaded] + [(PT_GNU_EH_FRAME, part) for part in special]
    for i, (kind, part) in enumerate(segments):
        struct.pack_into(
            "<IIQQQQQQ", content, 64 + 56 * i,
            kind, part.mode, part.offset, part.address, 0, len(part.data), len(part.data), PAGE,
        )  # fmt: skip
    count = len(rows) if has_sections else 0
    struct.pack_into(
        "<16sHHIQQQIHHHHHH", content, 0,
        b"\x7fELF\x02\x01\x01", 3, machine, 1, start, 64, sections_at if count else 0, 0, 64, 56,
        len(segments), 64, count, max(count - 1, 0),
    )  # fmt: skip
    return bytes(content)


def program(
    functions: Sequence[Function], code: bytes = b"\x90" * 2 * PAGE, start: int = 0
) -> bytes:
    """Code at 0x1000 with tables for these functions."""
    frames, table = eh_frame(FRAMES, functions)
    parts = [
        Part(".text", 0x1000, code, READ | EXECUTE),
        Part(".eh_frame_hdr", HEADER, eh_frame_hdr(HEADER, FRAMES, table)),
        Part(".eh_frame", FRAMES, frames),
    ]
    return elf(parts, start=start)
