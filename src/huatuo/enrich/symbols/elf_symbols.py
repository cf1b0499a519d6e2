"""Functions from ELF's own tables: .symtab, .dynsym, .gnu_debugdata, PLT stubs, .eh_frame_hdr.

Used in worker processes.

Sources: System V ABI (symbols, AMD64 PLT), LSB 5.0 10.6 (.eh_frame, .eh_frame_hdr), the GDB manual
("MiniDebugInfo").
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from huatuo.enrich.symbols.layer import Layer, empty, laid_upon, of_functions
from huatuo.errors import Malformed
from huatuo.kernel.elf import Elf, text_at

__all__ = ["code_symbols", "frame_starts", "mini_debug", "plt_stubs"]

_NOTYPE, _FUNC, _IFUNC = 0, 2, 10
_LOCAL = 0  # STB_LOCAL
_EXECUTABLE = 4  # SHF_EXECINSTR
_RESERVED = 0xFF00
_LARGEST_MINI = 256 << 20
_LONGEST_NAME = 8192
_DATAREL_SDATA4, _PCREL_SDATA4 = 0x3B, 0x1B
_TOP = 2**64 - 1
_FUNCTION = np.dtype([("start", "<u8"), ("end", "<u8"), ("sized", "?"), ("local", "?")])
_RELA = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])


def code_symbols(tables: Iterable[tuple[Elf, str]]) -> Layer:
    """Those of all `tables` (.symtab, .dynsym, of one or several files) as if they were one.

    Symbols without a size, as assembler code has them, reach to the next symbol, and count only
    where no function with a size is.
    """
    parts, names = [np.zeros(0, _FUNCTION)], list[bytes]()
    for elf, table in tables:
        functions, these = _functions(elf, table)
        parts.append(functions)
        names.extend(these)
    found = np.concatenate(parts)
    found["end"] = np.where(found["sized"], found["end"], _until_next(found["start"], found["end"]))
    order = _best_first(found, names)
    found, names = found[order], [names[i] for i in order.tolist()]
    layers = []
    for which in (found["sized"], ~found["sized"]):
        chosen = found[which]
        theirs = [names[i] for i in np.flatnonzero(which).tolist()]
        layers.append(of_functions(chosen["start"], chosen["end"], theirs))
    return laid_upon(*layers)


def _best_first(functions: npt.NDArray[np.void], names: Sequence[bytes]) -> npt.NDArray[np.intp]:
    """One of each address and kind, in order of address: of aliases, the one for people.

    Those that others can call before local ones, then fewer underscores in front, then the shorter
    name.
    """
    fuss = np.array([(len(n) - len(n.lstrip(b"_")) << 32) + len(n) for n in names], np.int64)
    starts, sized = functions["start"], functions["sized"]
    order = np.lexsort((fuss, functions["local"], sized, starts))
    again = (starts[order][1:] == starts[order][:-1]) & (sized[order][1:] == sized[order][:-1])
    chosen: npt.NDArray[np.intp] = order[np.append(True, ~again)] if len(order) else order
    return chosen


def _functions(elf: Elf, table: str) -> tuple[npt.NDArray[np.void], list[bytes]]:
    """_FUNCTION rows and their names; the end of one without a size is that of its section."""
    rows, strings = elf.symbol_table(table)
    sections = elf.section_list[:_RESERVED]
    code = np.array([bool(s.flags & _EXECUTABLE) for s in sections] or [False])
    limits = np.array([min(s.address + s.size, _TOP) for s in sections] or [0], np.uint64)
    rows = rows[(rows["section"] > 0) & (rows["section"] < len(code))]
    rows = rows[code[rows["section"]] & np.isin(rows["info"] & 15, (_NOTYPE, _FUNC, _IFUNC))]
    names = [_name(strings, offset) for offset in rows["name"].tolist()]
    rows = rows[np.fromiter(map(bool, names), bool, len(names))]
    found = np.zeros(len(rows), _FUNCTION)
    found["start"] = rows["value"]
    found["sized"] = (rows["size"] > 0) & (rows["info"] & 15 != _NOTYPE)
    ends = np.where(found["sized"], rows["value"] + rows["size"], limits[rows["section"]])
    found["end"] = np.maximum(found["start"], ends)
    found["local"] = rows["info"] >> 4 == _LOCAL
    return found, [name for name in names if name]


def _until_next(
    starts: npt.NDArray[np.uint64], limits: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """For each start the next greater one, at most the limit."""
    if not len(starts):
        return starts
    ascending = np.unique(starts)
    index = np.searchsorted(ascending, starts, side="right")
    following = np.append(ascending, np.uint64(_TOP))[index]
    return np.minimum(following, limits)


def _name(strings: bytes, offset: int) -> bytes:
    """Without its version (memcpy@@GLIBC_2.14); b"" for what is no function's name."""
    end = strings.find(b"\0", offset, offset + _LONGEST_NAME)
    name = strings[offset : end if end >= 0 else offset + _LONGEST_NAME].partition(b"@")[0]
    if name.startswith((b"$", b".L")):  # ARM's marks of code and data; labels
        return b""
    return name


def mini_debug(elf: Elf) -> Elf | None:
    """.gnu_debugdata: an ELF file, packed with xz, whose .symtab has what .dynsym has not."""
    packed = elf.contents(".gnu_debugdata")
    if not packed:
        return None
    try:
        unpacked = lzma.LZMADecompressor(memlimit=_LARGEST_MINI).decompress(packed, _LARGEST_MINI)
    except (lzma.LZMAError, EOFError) as error:
        raise Malformed(elf.name, f".gnu_debugdata cannot be unpacked: {error}") from error
    return Elf(unpacked)


def frame_starts(elf: Elf) -> Layer:
    """Functions by nothing but where they begin and end: for code whose names were stripped."""
    header = elf.sections.get(".eh_frame_hdr")
    data = elf.contents(".eh_frame_hdr")
    if header is None or len(data) < 12 or data[0] != 1 or data[3] != _DATAREL_SDATA4:
        return empty()
    count = struct.unpack_from("<I", data, 8)[0] if data[2] & 15 == 3 else 0  # udata4
    table = np.frombuffer(data[12 : 12 + len(data[12:]) // 8 * 8], "<i4").reshape(-1, 2)[:count]
    starts = (table[:, 0].astype(np.int64) + header.address).astype(np.uint64)
    records = (table[:, 1].astype(np.int64) + header.address).astype(np.uint64)
    order = np.argsort(starts, kind="stable")
    starts, records = starts[order], records[order]
    following = np.append(starts[1:], starts[-1:] + np.uint64(1))
    ends = np.minimum(_record_ends(elf, starts, records, following), following)
    ends[-1:] = _record_ends(elf, starts[-1:], records[-1:], following[-1:])
    names = [f"{start:#x}".encode() for start in starts.tolist()]
    return of_functions(starts, np.maximum(ends, starts), names)


def _record_ends(
    elf: Elf,
    starts: npt.NDArray[np.uint64],
    records: npt.NDArray[np.uint64],
    otherwise: npt.NDArray[np.uint64],
) -> npt.NDArray[np.uint64]:
    """Where the functions of .eh_frame's records end; `otherwise` for encodings seldom used."""
    section, data = elf.sections.get(".eh_frame"), elf.contents(".eh_frame")
    if section is None or len(data) < 16:
        return otherwise
    at = records.astype(np.int64) - section.address + 8  # behind length and CIE
    inside = (at >= 0) & (at + 8 <= len(data))
    octets = np.frombuffer(data, np.uint8)
    place = np.where(inside, at, 0)
    words = octets[place[:, None] + np.arange(8)].copy().view("<i4")
    begins = words[:, 0].astype(np.int64) + place + section.address
    agrees = inside & (begins == starts.astype(np.int64))  # so pointers are relative, of 4 bytes
    sizes = words[:, 1].astype(np.uint32).astype(np.uint64)
    return np.where(agrees, starts + sizes, otherwise)


def plt_stubs(elf: Elf) -> Layer:
    """memcpy@plt: the stubs through which functions of other files are called."""
    rows = np.frombuffer(_whole(elf.contents(".rela.plt"), _RELA.itemsize), _RELA)
    symbols, strings = elf.symbol_table(".dynsym")
    stubs = elf.sections.get(".plt.sec")
    head = 0
    if stubs is None:
        stubs, head = elf.sections.get(".plt"), 32 if elf.machine == 183 else 16
    if stubs is None or not len(rows):
        return empty()
    fitting = min(len(rows), max(stubs.size - head, 0) // 16)
    index = (rows["info"][:fitting] >> np.uint64(32)).astype(np.int64)
    names = [
        text_at(strings, int(symbols["name"][i])).encode() + b"@plt" if i < len(symbols) else b""
        for i in index.tolist()
    ]
    starts = np.uint64(stubs.address + head) + np.arange(fitting, dtype=np.uint64) * np.uint64(16)
    return of_functions(starts, starts + np.uint64(16), [name or b"@plt" for name in names])


def _whole(data: bytes, size: int) -> bytes:
    return data[: len(data) // size * size]
