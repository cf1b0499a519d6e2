"""Tables in all encodings, code without tables, and what is damaged: made by hand."""

from __future__ import annotations

import zlib

import pytest

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import UnwindFile
from huatuo.profilers.native.rules import (
    FRAME_POINTER,
    NOTHING,
    OUTERMOST,
    Cfa,
    Rule,
    Saved,
    plt,
    pushed,
)
from tests.profilers.native.image import (
    EXECUTE,
    FRAMES,
    PAGE,
    READ,
    WRITE,
    Function,
    Part,
    cie,
    eh_frame,
    eh_frame_hdr,
    elf,
    pointer,
    program,
)

CODE = READ | EXECUTE
PUSH = b"\x41\x0e\x10"  # one byte on, cfa = rsp + 16
# two functions with a gap of 0x60 bytes between them, the second over the border of two pages
TWO = [Function(0x1010, 0x30, PUSH), Function(0x10A0, 0x1000, PUSH + b"\x04\x80\x0f\0\0\x0e\x08")]
FIRST = [
    (0, NOTHING), (0x10, pushed(0)), (0x11, pushed(8)), (0x40, NOTHING), (0xA0, pushed(0)),
    (0xA1, pushed(8)),
]  # fmt: skip
SECOND = [(0, pushed(8)), (0x21, pushed(0)), (0xA0, NOTHING)]


def rows_of(data: bytes, address: int) -> list[tuple[int, Rule]]:
    """Of the page with that address."""
    with Elf(data) as file:
        offset = file.offset_of(address)
        assert offset is not None
        return UnwindFile(file).rows(offset // PAGE)


def with_tables(
    frames: bytes, header: bytes | None, at: int = 0x7000, has_sections: bool = True
) -> bytes:
    parts = [Part(".text", 0x1000, b"\x90" * 2 * PAGE, CODE), Part(".eh_frame", 0x8000, frames)]
    if header is not None:
        parts.append(Part(".eh_frame_hdr", at, header))
    return elf(parts, has_sections=has_sections)


@pytest.mark.parametrize("encoding", [0x3B, 0x3C, 0x33, 0x03, 0x04, 0x00, 0x0B, 0x1B, 0xFF, None])
def test_every_kind_of_table_gives_the_same_rows(encoding: int | None) -> None:
    """Those that can be searched, those that cannot (relative to themselves, left out), none."""
    frames, table = eh_frame(0x8000, TWO)
    at = 0x800 if encoding == 0x33 else 0x7000  # its numbers are not negative
    header = None if encoding is None else eh_frame_hdr(at, 0x8000, table, encoding)
    for has_sections in (True, False):
        if header is None and not has_sections:
            continue
        data = with_tables(frames, header, at, has_sections)
        assert rows_of(data, 0x1000) == FIRST
        assert rows_of(data, 0x2000) == SECOND


def test_a_table_of_another_version_is_not_used() -> None:
    frames, table = eh_frame(0x8000, TWO)
    header = eh_frame_hdr(0x7000, 0x8000, [(begin + 1, fde) for begin, fde in table])
    assert rows_of(with_tables(frames, b"\2" + header[1:]), 0x1000) == FIRST


@pytest.mark.parametrize("encoding", [0x1B, 0x1C, 0x03, 0x0B, 0x04, 0x0C, 0x00, 0x10])
def test_addresses_in_every_encoding(encoding: int) -> None:
    frames, table = eh_frame(0x8000, TWO, encoding)
    for header in (eh_frame_hdr(0x7000, 0x8000, table), None):
        data = with_tables(frames, header)
        assert (rows_of(data, 0x1000), rows_of(data, 0x2000)) == (FIRST, SECOND)


@pytest.mark.parametrize("encoding", [0x1B, 0x03])
def test_kinds_of_functions(encoding: int) -> None:
    """Personality routines of different widths before the encoding, no augmentation, versions."""
    personalities = {0x9B: 4, 0x00: 8, 0x9C: 8, 0x02: 2, 0x04: 8}
    kinds = [
        cie(encoding, b"zPLR", bytes([p]) + bytes(width) + bytes([0x1B, encoding]))
        for p, width in personalities.items()
    ]
    kinds += [cie(encoding, version=3), cie(encoding, b"zRB"), cie(encoding, b"zR?", b"\x1b\1\2")]
    kinds[-1] = kinds[-1].replace(b"\x1b\1\2", bytes([encoding, 1, 2]))
    for kind in kinds:
        frames, table = eh_frame(0x8000, TWO, encoding, kind)
        data = with_tables(frames, eh_frame_hdr(0x7000, 0x8000, table))
        assert rows_of(data, 0x1000) == FIRST, kind
    frames, table = eh_frame(0x8000, TWO, 0x00, cie(augmentation=b""))
    assert rows_of(with_tables(frames, eh_frame_hdr(0x7000, 0x8000, table)), 0x1000) == FIRST
    signal = [(offset, rule._replace(is_signal=rule != NOTHING)) for offset, rule in FIRST]
    frames, table = eh_frame(0x8000, TWO, encoding, cie(encoding, b"zRS"))
    assert rows_of(with_tables(frames, eh_frame_hdr(0x7000, 0x8000, table)), 0x1000) == signal


def test_the_64_bit_form() -> None:
    kind = cie()
    body = (len(kind) + 12).to_bytes(4, "little") + pointer(0x1010, 0x1B, 0x8000 + len(kind) + 16)
    body += (0x30).to_bytes(4, "little") + b"\0" + PUSH
    frames = kind + b"\xff" * 4 + len(body).to_bytes(8, "little") + body + bytes(4)
    for header in (eh_frame_hdr(0x7000, 0x8000, [(0x1010, 0x8000 + len(kind))]), None):
        rows = rows_of(with_tables(frames, header), 0x1000)
        assert rows == [*FIRST[:3], (0x40, NOTHING)]


def test_entries_end_at_the_terminator() -> None:
    """Where there is no table; as for the runtime library."""
    first, _ = eh_frame(0x8000, TWO[:1])
    behind, _ = eh_frame(0x8000 + len(first), TWO[1:])
    assert rows_of(with_tables(first + behind, None), 0x1000) == FIRST[:4]


def test_segments_at_different_distances() -> None:
    """As lld lays files out: code segments share pages of the file, addresses differ more."""
    functions = [Function(0x11010, 0x20, PUSH), Function(0x2A050, 0x20), Function(0x3A800, 0x100)]
    frames, table = eh_frame(0x48000, functions)
    parts = [
        Part(".text", 0x11000, b"\x90" * 0x40, CODE, offset=0x1000),
        Part(".hot", 0x2A040, b"\x90" * 0x100, CODE, offset=0x1040),
        Part(".cold", 0x3A200, b"\x90" * 0x1000, CODE, offset=0x1200),
        Part(".eh_frame", 0x48000, frames, offset=0x3000),
        Part(".eh_frame_hdr", 0x50000, eh_frame_hdr(0x50000, 0x48000, table), offset=0x4000),
    ]
    with Elf(elf(parts)) as file:
        unwind = UnwindFile(file)
        assert unwind.rows(1) == [
            (0, NOTHING), (0x10, pushed(0)), (0x11, pushed(8)), (0x30, NOTHING), (0x50, pushed(0)),
            (0x70, NOTHING), (0x800, pushed(0)), (0x900, NOTHING),
        ]  # fmt: skip
        assert unwind.rows(2) == unwind.rows(0) == unwind.rows(1 << 40) == [(0, NOTHING)]


def test_functions_that_overlap_count_as_for_the_runtime_library() -> None:
    """The one that begins last before an address; after its end nothing is known."""
    functions = [Function(0x1100, 0x100), Function(0x1140, 0x20, PUSH), Function(0x1140, 0, PUSH)]
    assert rows_of(program(functions[:2]), 0x1000) == [
        (0, NOTHING), (0x100, pushed(0)), (0x141, pushed(8)), (0x160, NOTHING),
    ]  # fmt: skip
    assert rows_of(program([]), 0x1000) == [(0, NOTHING)]


@pytest.mark.parametrize("is_compressed", [False, True])
def test_debug_frame_fills_what_eh_frame_leaves_out(is_compressed: bool) -> None:
    kind = cie(augmentation=b"")
    kind = kind[:4] + b"\xff" * 4 + kind[8:]
    body = bytes(4) + (0x1050).to_bytes(8, "little") + (0x20).to_bytes(8, "little") + PUSH
    removed = bytes(4) + bytes(8) + (0x2000).to_bytes(8, "little")
    data = kind + b"".join(len(b).to_bytes(4, "little") + b for b in (removed, body))
    if is_compressed:
        data = (
            b"\1\0\0\0\0\0\0\0" + len(data).to_bytes(8, "little") + bytes(8) + zlib.compress(data)
        )
    part = Part(".debug_frame", 0, data, flags=0x800 * is_compressed)
    text = Part(".text", 0x1000, b"\x90" * PAGE, CODE)
    alone = [(0, NOTHING), (0x50, pushed(0)), (0x51, pushed(8)), (0x70, NOTHING)]
    with Elf(elf([text, part])) as file:
        unwind = UnwindFile(file)
        assert unwind.source == "debug_frame"
        assert unwind.rows(1) == alone
    frames, table = eh_frame(0x8000, TWO[:1])
    header = Part(".eh_frame_hdr", 0x7000, eh_frame_hdr(0x7000, 0x8000, table))
    with Elf(elf([text, header, Part(".eh_frame", 0x8000, frames), part])) as file:
        unwind = UnwindFile(file)
        assert unwind.source == "eh_frame"
        assert unwind.rows(1) == FIRST[:4] + alone[1:]


def test_code_without_tables() -> None:
    """Frame pointers if it sets them up, often enough for its size; nothing otherwise."""
    quiet = b"\x90" * 0x400
    keeps = b"\x55\x48\x89\xe5" + b"\x90" * 0x3FC
    accidental = b"\x90" * 0x10 + keeps + quiet * 18
    sizes = {"keeps": keeps * 8, "quiet": quiet * 8, "accidental": accidental}
    found = {
        name: rows_of(program([Function(0x1000, 0x10)], code), 0x1000)[1:]
        for name, code in sizes.items()
    }
    assert found == {
        "keeps": [(0x10, FRAME_POINTER)], "quiet": [(0x10, NOTHING)],
        "accidental": [(0x10, NOTHING)],
    }  # fmt: skip
    # a page in which none begins, between others that do
    code = keeps * 4 + quiet * 4 + keeps * 4
    assert rows_of(program([Function(0x1000, 0x10)], code), 0x2000) == [(0, FRAME_POINTER)]
    # prologues of functions that have tables say nothing about those that have not
    functions = [Function(0x1000 + i * 0x400, 0x3F0) for i in range(8)]
    assert rows_of(program(functions, keeps * 8 + quiet * 8), 0x3000) == [(0, NOTHING)]


def test_the_first_code_of_a_program_is_the_outermost() -> None:
    rows = rows_of(program(TWO, start=0x1050), 0x1000)
    assert rows == [*FIRST[:4], (0x50, OUTERMOST), (0x90, NOTHING), *FIRST[4:]]
    covered = rows_of(program(TWO, start=0x1020), 0x1000)
    assert covered == FIRST  # its tables know better


@pytest.mark.parametrize(
    ("stub", "wanted"),
    [
        (b"\xff\x25\0\0\0\0\x68\0\0\0\0\xe9\0\0\0\0", 11),
        (b"\xf3\x0f\x1e\xfa\x68\0\0\0\0\xe9\0\0\0\0\x66\x90", 9),
        (b"\xf3\x0f\x1e\xfa\x41\xbb\0\0\0\0\xff\x25\0\0\0\0", 0),
    ],
)
def test_stubs_of_linkers_that_make_no_tables(stub: bytes, wanted: int) -> None:
    frames, table = eh_frame(0x8000, TWO[:1])
    parts = [
        Part(".text", 0x1000, b"\x90" * 0x100, CODE),
        Part(".plt", 0x1100, bytes(16) + stub * 3, CODE),
        Part(".plt.got", 0x1140, bytes(16), CODE),
        Part(".eh_frame_hdr", 0x7000, eh_frame_hdr(0x7000, 0x8000, table)),
        Part(".eh_frame", 0x8000, frames),
    ]
    data = elf(parts)
    lazy = [(0x100, pushed(8)), (0x106, pushed(16)), (0x110, plt(wanted)), (0x140, pushed(0))]
    jumps = [(0x100, pushed(0))]
    rows = rows_of(data, 0x1100)
    assert [row for row in rows if row[0] >= 0x100] == [
        *(lazy if wanted else jumps),
        (0x150, NOTHING),
    ]


def test_go_keeps_frame_pointers() -> None:
    text = Part(".text", 0x1000, b"\x90" * PAGE, CODE)
    frames, table = eh_frame(0x8000, TWO[:1])
    tables = [
        Part(".eh_frame_hdr", 0x7000, eh_frame_hdr(0x7000, 0x8000, table)),
        Part(".eh_frame", 0x8000, frames),
    ]
    mark = Part(".data", 0x9000, bytes(32) + b"\xff Go buildinf:" + bytes(18), READ | WRITE)
    for parts, has_sections in (
        ([text, Part(".gopclntab", 0x3000, b"\1")], True),
        ([text, mark], False),
    ):
        with Elf(elf(parts, has_sections=has_sections)) as file:
            unwind = UnwindFile(file)
            assert unwind.source == "go"
            assert unwind.rows(1) == [(0, FRAME_POINTER)]
    mark.data = b"\0" + mark.data
    with Elf(elf([text, mark], has_sections=False)) as file:
        assert UnwindFile(file).source == "frame_pointer"  # where Go does not put it
    with Elf(elf([text, *tables, Part(".go.buildinfo", 0x9000, b"\1")])) as file:
        rows = UnwindFile(file).rows(1)
    assert rows == [(o, FRAME_POINTER if rule == NOTHING else rule) for o, rule in FIRST[:4]]


def test_files_without_tables_and_machines_that_are_not_known() -> None:
    text = Part(".text", 0x1000, b"\x90" * 0x100, CODE)
    for machine, source, rule in ((62, "frame_pointer", FRAME_POINTER), (183, "none", NOTHING)):
        with Elf(elf([text], machine=machine)) as file:
            unwind = UnwindFile(file)
            assert unwind.source == source
            assert unwind.rows(1)[0] == (0, rule)
            assert unwind.rows(0) == [(0, NOTHING)]
    with Elf(elf([Part(".data", 0x1000, b"data")])) as file:
        assert UnwindFile(file).source == "none"


BROKEN = {
    "unknown instruction": b"\x41\x3f",
    "cut off": b"\x41\x0e",
    "cut off in a number": b"\x41\x0e\x80",
    "number without an end": b"\x0e" + b"\xff" * 30,
    "nothing to recall": b"\x41\x0b",
    "too deep": b"\x0a" * 65,
    "goes back": b"\x41\x01" + pointer(0xF00 - FRAMES, 0x0B),
    "expression beyond the end": b"\x0f\x7f\x77\x08",
    "offset too large": b"\x0e" + b"\xff" * 8 + b"\x00",
    "return address too far": b"\x90\x80\x80\x04",
    "register that does not exist": b"\x0c\x60\x08",
    "return address not saved": b"\x08\x10",
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_broken_program_costs_only_its_function(why: str) -> None:
    padded = b"\0" * (-(len(BROKEN[why]) + 17) % 8) + BROKEN[why]  # its end is the entry's
    functions = [TWO[0], Function(0x1040, 0x60, padded), TWO[1]]
    rows = rows_of(program(functions), 0x1000)
    assert [row for row in rows if not 0x40 <= row[0] < 0xA0] == [*FIRST[:3], *FIRST[4:]]
    assert [rule for offset, rule in rows if 0x42 <= offset < 0xA0] in ([], [NOTHING])
    assert (0x40, NOTHING) in rows or rows[3] == (0x40, pushed(0))


def test_rare_instructions() -> None:
    """Those that llvm-dwarfdump does not know; the others are in programs/odd.S."""
    move = b"\x41"
    where = FRAMES + len(cie()) + 16 + 1 + 1 + 3 + 1  # of the address in set_loc, in memory
    code = move + b"\x2f\x06\x02" + b"\x01" + pointer(0x1120, 0x1B, where)
    code += b"\x2d\x2c\x0e\x20"
    rows = rows_of(program([Function(0x1100, 0x40, code)]), 0x1000)
    saved = pushed(0)._replace(fp=Saved.AT_CFA, fp_offset=16)
    assert rows == [
        (0, NOTHING), (0x100, pushed(0)), (0x101, saved),
        (0x120, saved._replace(cfa_offset=32)), (0x140, NOTHING),
    ]  # fmt: skip


def test_an_offset_waits_for_its_register_while_an_expression_counts() -> None:
    """As for libgcc and readelf."""
    code = b"\x0f\x03\x77\x10\x06" + b"\x41\x0e\x28" + b"\x41\x0d\x07"
    rows = rows_of(program([Function(0x1100, 0x40, code)]), 0x1000)
    read = Rule(Cfa.DEREF, 7, 16, ra=Saved.AT_CFA, ra_offset=-8)
    assert rows == [(0, NOTHING), (0x100, read), (0x102, pushed(0x20)), (0x140, NOTHING)]


def test_a_return_address_may_be_in_a_register() -> None:
    """As in vfork, which must leave the stack to its child."""
    rows = rows_of(program([Function(0x1100, 0x40, b"\x09\x10\x05")]), 0x1000)
    assert rows[1] == (0x100, pushed(0)._replace(ra=Saved.IN_REGISTER, ra_offset=5))


def test_a_frame_pointer_that_is_too_far_away_is_lost() -> None:
    """What else is known still counts."""
    rows = rows_of(program([Function(0x1100, 0x40, b"\x86\x80\x80\x04")]), 0x1000)
    assert rows[1] == (0x100, pushed(0)._replace(fp=Saved.UNKNOWN))
