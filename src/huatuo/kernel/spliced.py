"""BPF objects in which a function has another body than the compiler gave it.

The function is `__weak __hidden __noinline`, so that the compiler knows nothing of what it returns,
and the last one in its section. The body is put there in the ELF file, before libbpf sees it:
libbpf's own way (bpf_program__set_insns) reaches programs only, not the functions that they call,
and freplace is refused by some kernels. To the verifier it is a function like any other.
"""

from __future__ import annotations

import numpy as np

from huatuo.errors import BpfError
from huatuo.kernel.elf import SECTION, SYMBOL, Elf, text_at

__all__ = ["spliced"]


def spliced(image: bytes, function: str, body: bytes) -> bytes:
    """The object file with `body`, eBPF instructions, for the function's own.

    Raises BpfError where there is no such function, or it is not the last of its section.
    """
    with Elf(image) as elf:
        symbols, names = elf.symbol_table()
        named = [text_at(names, name) for name in symbols["name"].tolist()]
        if function not in named:
            raise BpfError(f"the object has no function {function}")
        at = named.index(function)
        number, begin, size = (int(symbols[at][field]) for field in ("section", "value", "size"))
        section = elf.section_list[number]
        if begin + size != section.size:
            raise BpfError(f"{function} cannot be replaced: it is not the last of {section.name}")
        code = elf.read(section.offset, begin) + body
        headers_at, symbols_at = elf.headers_at, elf.sections[".symtab"].offset
    result = bytearray(image.ljust(-(-len(image) // 8) * 8, b"\0") + code)
    header = _row(result, SECTION, headers_at, number)
    header["offset"], header["size"] = len(result) - len(code), len(code)
    _row(result, SYMBOL, symbols_at, at)["size"] = len(body)
    return bytes(result)


def _row(image: bytearray, dtype: np.dtype[np.void], table: int, index: int) -> np.void:
    """One entry of a table in the file, to be written to."""
    row: np.void = np.frombuffer(image, dtype, 1, table + index * dtype.itemsize)[0]
    return row
