"""Go programs: they keep frame pointers and have no tables of the usual kind.

Format of what the linker leaves behind: cmd/link and debug/buildinfo of the Go sources.
"""

from __future__ import annotations

from huatuo.kernel.elf import Elf

__all__ = ["is_go"]

_SECTIONS = (".gopclntab", ".go.buildinfo", ".note.go.buildid", ".data.rel.ro.gopclntab")
_MAGIC = b"\xff Go buildinf:"
_SEARCHED = 1 << 16  # bytes at the beginning of the data, as Go's own tools do
_ALIGNED = 16


def is_go(elf: Elf) -> bool:
    """By its sections; by the linker's mark in the data where the section headers are gone."""
    if elf.sections:
        return any(name in elf.sections for name in _SECTIONS)
    for segment in elf.segments:
        if segment.is_writable and not segment.is_executable:
            data = elf.read(segment.offset, min(segment.size, _SEARCHED))
            at = data.find(_MAGIC)
            return at >= 0 and at % _ALIGNED == 0
    return False
