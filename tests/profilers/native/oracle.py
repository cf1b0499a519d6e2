"""What readelf and llvm-dwarfdump say of the tables of a file, and the same of our rows.

readelf says which rule holds, but of an expression only that there is one; what it consists of is
taken from llvm-dwarfdump (whose version 14 forgets the CFA of a remembered state, so that it is not
believed in anything else).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from huatuo.kernel.elf import Elf
from huatuo.profilers.native.rows import PAGE_SHIFT, UnwindFile
from huatuo.profilers.native.rules import Cfa, Rule, Saved

PAGE = 1 << PAGE_SHIFT
NAMES = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)))
END, NONE = "end", "none"
_PLT = (
    "DW_OP_breg7 RSP+8, DW_OP_breg16 RIP+0, DW_OP_lit15, DW_OP_and, DW_OP_lit{}, DW_OP_ge, "
    "DW_OP_lit3, DW_OP_shl, DW_OP_plus"
)
# what our rules have no words for: an expression other than these, a return address in a register
_FOLLOWED = re.compile(
    r"DW_OP_breg\d+ \w+[+-]\d+(, DW_OP_deref(, DW_OP_plus_uconst \w+)?)?|"
    + re.escape(_PLT).replace(r"\{\}", r"\d+")
)
_REGISTER = re.compile(r"DW_OP_breg\d+ (\w+)([+-]\d+)")
_IN_REGISTER = re.compile(r"r\d+|r[a-ds][xip]")
Said = tuple[str, str, str, str, bool]  # cfa, rbp, return address, rbx, is_signal
Row = tuple[int, Said]  # address


@dataclass(slots=True)
class Function:
    """[begin, end) and its rows: (address, what holds from there on)."""

    begin: int
    end: int
    rows: list[Row] = field(default_factory=list)

    @property
    def pages(self) -> range:
        return range(self.begin // PAGE, (self.end - 1) // PAGE + 1)


def _lines(*command: str) -> Iterator[str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        for line in process.stdout:
            yield line.decode(errors="replace").rstrip()


def functions_of(path: Path, pages: set[int]) -> list[Function]:
    """Those in some pages of addresses, in order, each cut off where the next one begins."""
    functions = sorted(_readelf(path), key=lambda function: function.begin)
    for function, following in pairwise(functions):
        function.end = min(function.end, following.begin)
    functions = [function for function in functions if not pages.isdisjoint(function.pages)]
    if any("exp" in said for function in functions for _, said in function.rows):
        expressions = _expressions(path)
    else:
        expressions = {}
    for function in functions:
        function.rows = [
            (address, _with(said, expressions.get(address))) for address, said in function.rows
        ]
    return functions


def _readelf(path: Path) -> Iterator[Function]:
    """cfa: rsp+8 or exp; registers: c-16, u (not mentioned, or undefined), exp, or others."""
    head = re.compile(r"(\w+) \w+ \w+ (?:CIE \"(\w*)\"|FDE cie=(\w+) pc=(\w+)\.\.(\w+))")
    in_register = re.compile(r" \(r\w+\)")  # r9 (r9)
    kinds: dict[str, Said] = {}
    kind, columns, function = "", dict[str, int](), Function(0, 0)
    for line in _lines("readelf", "--wide", "--debug-dump=frames-interp", str(path)):
        words = in_register.sub("", line).split()
        if found := head.match(line):
            if function.end:
                yield function
            function, kind = Function(0, 0), found[1]
            if found[2] is not None:
                kinds[kind] = ("", "u", "u", "u", "S" in found[2])
            else:
                begin, kind = int(found[4], 16), found[3]
                function = Function(begin, int(found[5], 16), [(begin, kinds[kind])])
        elif words[:2] == ["LOC", "CFA"]:
            columns = {name: i for i, name in enumerate(words)}
        elif not words:
            columns = {}
        elif columns:
            fp, ra, bx = (
                words[columns[name]].replace("s", "u") if name in columns else "u"
                for name in ("rbp", "ra", "rbx")
            )  # s: still in the register
            address, said = int(words[0], 16), (words[1], fp, ra, bx, kinds[kind][4])
            if not function.end:
                kinds[kind] = said
            else:
                if function.rows[-1][0] == address:
                    function.rows.pop()
                function.rows.append((address, said))
    if function.end:
        yield function


def _expressions(path: Path) -> dict[int, tuple[str, str, str, str]]:
    """Address of a row that has an expression → cfa, frame pointer, return address, rbx."""
    if not shutil.which("llvm-dwarfdump"):
        return {}
    found = {}
    for line in _lines("llvm-dwarfdump", "--debug-frame", str(path)):
        if line.startswith("  0x") and "DW_OP" in line:
            address, cfa, *registers = re.split(r": (?:CFA=)?|, (?=[A-Z0-9]+=)", line.strip())
            places = dict(register.split("=", 1) for register in registers)
            said = cfa, places.get("RBP", ""), places.get("RIP", ""), places.get("RBX", "")
            found[int(address, 16)] = said
    return found


def _with(said: Said, expressions: tuple[str, str, str, str] | None) -> Said:
    cfa, fp, ra, bx, is_signal = said
    if ra == "u":
        return END, "", "", "", is_signal
    if expressions:
        cfa, fp, ra, bx = (
            known.strip("[]").removeprefix("DW_OP_drop, ")
            if cell == "exp" and "DW_OP" in known
            else cell
            for cell, known in zip((cfa, fp, ra, bx), expressions, strict=True)
        )
        if plain := _REGISTER.fullmatch(cfa):
            cfa = plain[1].lower() + plain[2]
    return cfa, fp, ra, bx, is_signal


def words_of(rule: Rule) -> Said:
    if rule.cfa in (Cfa.END, Cfa.NONE):
        return (END if rule.cfa is Cfa.END else NONE, "", "", "", rule.is_signal)
    name = NAMES[rule.cfa_register]
    cfa = f"{name}{rule.cfa_offset:+d}"
    if rule.cfa is Cfa.PLT:
        cfa = _PLT.format(rule.cfa_offset)
    elif rule.cfa is Cfa.DEREF:
        cfa = f"DW_OP_breg{rule.cfa_register} {name.upper()}{rule.cfa_offset:+d}, DW_OP_deref"
        cfa += f", DW_OP_plus_uconst {rule.cfa_add:#x}" if rule.cfa_add else ""
    fp, ra, bx = (
        _place(saved, offset)
        for saved, offset in (
            (rule.fp, rule.fp_offset), (rule.ra, rule.ra_offset), (rule.bx, rule.bx_offset)
        )
    )  # fmt: skip
    return cfa, fp, ra, bx, rule.is_signal


def _place(saved: Saved, offset: int) -> str:
    return {
        Saved.SAME: "u",
        Saved.AT_CFA: f"c{offset:+d}",
        Saved.AT_SP: f"DW_OP_breg7 RSP{offset:+d}",
        Saved.AT_FP: f"DW_OP_breg6 RBP{offset:+d}",
        Saved.UNKNOWN: "unknown",
        Saved.IN_REGISTER: f"r{offset}",
    }[saved]


@dataclass
class Comparison:
    """`explained`: rows that our rules have no words for, by why. `unread`: expressions that only
    readelf speaks of."""

    rows: int = 0
    unread: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, low: int, high: int, theirs: list[Row], ours: list[Row]) -> None:
        """What holds in [low, high)."""
        want, got = _cut(theirs, low, high), _cut(ours, low, high)
        self.rows += len(want)
        if want == got:
            return
        for address in sorted({address for address, _ in want + got}):
            wanted, found = _at(want, address), _at(got, address)
            if wanted != found:
                if why := _why(wanted, found):
                    self.explained[why] += 1
                elif all(
                    w == f or (w == "exp" and "DW_OP" in str(f))
                    for w, f in zip(wanted, found, strict=True)
                ):
                    self.unread += 1
                else:
                    self.differences.append(f"{address:#x}: {wanted}, not {found}")


def _cut(rows: list[Row], low: int, high: int) -> list[Row]:
    """The rows in force in [low, high); those that say the same as the one before left out."""
    found: list[Row] = []
    for address, said in rows:
        if address >= high:
            break
        if address <= low:
            found = [(low, said)]
        elif said != found[-1][1]:
            found.append((address, said))
    return found


def _at(rows: list[Row], address: int) -> Said:
    return next(said for where, said in reversed(rows) if where <= address)


def _why(wanted: Said, found: Said) -> str:
    """Why our rule differs, "" if it should not."""
    cfa, fp, ra, bx, is_signal = wanted
    if found[0] == NONE:
        if cfa == "exp" or ("DW_OP" in cfa and not _FOLLOWED.fullmatch(cfa)):
            return "another expression"
        return ""
    if found[0] != cfa or found[2] != ra or found[4] != is_signal:
        return ""
    for name, theirs, ours in (("frame pointer", fp, found[1]), ("rbx", bx, found[3])):
        if theirs != ours and ours == "unknown":
            if _IN_REGISTER.fullmatch(theirs):
                return f"the {name} is in a register"
            if theirs == "exp" or "DW_OP" in theirs:
                return "another expression"
            if theirs == "u" or theirs.startswith("v"):
                return f"the {name} is lost"
    return ""


def compare(path: Path, most_pages: int = 1 << 30) -> Comparison:
    """All rows of a file, or those of about `most_pages` pages at even distances."""
    result = Comparison()
    with Elf(path) as elf:
        file, pages = UnwindFile(elf), _pages(elf)
        step = -(-len(pages) // most_pages)

        @lru_cache(maxsize=64)
        def ours(page: int) -> list[Row]:
            rows = file.rows(pages[page])
            offsets = [offset for offset, _ in rows]
            assert offsets[0] == 0, (page, rows)
            assert offsets == sorted(set(offsets)), (page, rows)
            assert offsets[-1] < PAGE, (page, rows)
            return [(page * PAGE + offset, words_of(rule)) for offset, rule in rows]

        chosen = set(list(pages)[step // 2 :: step])
        for function in functions_of(path, chosen):
            for page in chosen.intersection(function.pages):
                low = max(function.begin, page * PAGE)
                high = min(function.end, (page + 1) * PAGE)
                result.add(low, high, function.rows, ours(page))
    return result


def _pages(elf: Elf) -> dict[int, int]:
    """Page of addresses → page of the file, of all code."""
    return {
        address // PAGE: (address - segment.address + segment.offset) // PAGE
        for segment in elf.segments
        if segment.is_executable
        for address in range(segment.address // PAGE * PAGE, segment.address + segment.size, PAGE)
    }
