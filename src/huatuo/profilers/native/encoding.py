"""Numbers as DWARF and .eh_frame write them.

Format: DWARF 5, 7.6; Linux Standard Base, "DWARF Exception Header Encoding".
"""

from __future__ import annotations

import struct

from huatuo.errors import Malformed

__all__ = ["ABSOLUTE", "DATA_RELATIVE", "OMITTED", "WIDTHS", "WRONG", "pointer", "sleb", "uleb"]

WRONG = (Malformed, ValueError, LookupError, struct.error)  # what reading damaged bytes raises
OMITTED = 0xFF
ABSOLUTE, _PC_RELATIVE, DATA_RELATIVE = 0x00, 0x10, 0x30
_FORM = 0x0F
_MASK = (1 << 64) - 1
_LONGEST = 70  # bits: ten bytes
# form → (bytes, struct's letter)
WIDTHS = {
    0x00: (8, "Q"), 0x02: (2, "H"), 0x03: (4, "I"), 0x04: (8, "Q"),
    0x0A: (2, "h"), 0x0B: (4, "i"), 0x0C: (8, "q"),
}  # fmt: skip
_FIXED = {form: (width, struct.Struct("<" + letter)) for form, (width, letter) in WIDTHS.items()}


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends). Any of WRONG at the end of data, or if it is too long."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift >= _LONGEST:
            raise ValueError("a LEB128 number of more than ten bytes")


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """As `uleb`, with a sign."""
    begin = at
    number, at = uleb(data, at)
    if data[at - 1] & 0x40:
        number -= 1 << 7 * (at - begin)
    return number, at


def pointer(data: bytes, at: int, encoding: int, here: int, base: int = 0) -> tuple[int, int]:
    """(address modulo 2**64, where it ends) of a pointer whose own address is `here`.

    Any of WRONG at the end of data, and for encodings that need more than that.
    """
    form, relative = encoding & _FORM, encoding & ~_FORM
    if form in _FIXED:
        width, layout = _FIXED[form]
        (number,) = layout.unpack_from(data, at)
        at += width
    elif form == 0x01:
        number, at = uleb(data, at)
    elif form == 0x09:
        number, at = sleb(data, at)
    else:
        raise ValueError(f"pointer encoding {encoding:#x}")
    if relative == _PC_RELATIVE:
        number += here
    elif relative == DATA_RELATIVE:
        number += base
    elif relative != ABSOLUTE:
        raise ValueError(f"pointer encoding {encoding:#x}")
    return number & _MASK, at
