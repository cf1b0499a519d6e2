"""Kernel symbols from made kallsyms files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from huatuo.enrich.symbols import kernel
from huatuo.enrich.symbols.kernel import KernelFrame, KernelSymbols
from huatuo.kernel.host import Host
from huatuo.model.profile import FrameKind, Line, Location
from tests.enrich.conftest import Layout

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000200 W weak_function
ffffffff81000100 t helper.part.0
ffffffff82000000 D some_data
ffffffffc0000000 t late\t[nf_tables]
ffffffffc0100000 t bpf_prog_1\t[bpf]
ffffffffc0101000 t bpf_prog_6deef7357e7b4530_sd_devices\t[bpf]
"""


@pytest.fixture
def layout(make_layout: Callable[[str], Layout]) -> Layout:
    layout = make_layout("v2")
    layout.file("proc/kallsyms", KALLSYMS)
    layout.file("proc/modules", "nf_tables 1 2 - Live 0xffffffffc0000000\n")
    return layout


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000012, "_stext+0x12"),  # of aliases the first, as the kernel prints
        (0xFFFFFFFF81000100, "helper.part.0+0x0"),
        (0xFFFFFFFF810001FF, "helper.part.0+0xff"),
        (0xFFFFFFFF81000200, "weak_function+0x0"),
        (0xFFFFFFFFC0000001, "late+0x1 [nf_tables]"),
        (0xFFFFFFFFC0100010, "bpf_prog_1+0x10 [bpf]"),
        (0xFFFFFFFF82000004, "0xffffffff82000004"),  # data is no code
        (0xFFFFFFFFC0900000, "0xffffffffc0900000"),
        (0x1234, "0x1234"),
    ],
)
def test_name(layout: Layout, address: int, name: str) -> None:
    assert KernelSymbols(layout.host).name(address) == name


def test_stack_ends_at_zero(layout: Layout) -> None:
    stack = [0xFFFFFFFF81000101, 0xFFFFFFFF81000201, 0, 0xFFFFFFFF81000101]
    assert KernelSymbols(layout.host).stack(stack) == ["helper.part.0+0x1", "weak_function+0x1"]
    assert KernelSymbols(layout.host).stack([]) == []


@pytest.mark.parametrize("chunk", [20, 64, 100])
def test_lines_across_chunks(layout: Layout, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(kernel, "_CHUNK", chunk)
    symbols = KernelSymbols(layout.host)
    assert symbols.name(0xFFFFFFFFC0000001) == "late+0x1 [nf_tables]"
    assert symbols.name(0xFFFFFFFF81000101) == "helper.part.0+0x1"


def test_loaded_again_when_modules_change(layout: Layout) -> None:
    symbols = KernelSymbols(layout.host)
    assert symbols.name(0xFFFFFFFFC0000001) == "late+0x1 [nf_tables]"
    layout.file("proc/kallsyms", KALLSYMS.replace("late\t[nf_tables]", "other\t[zram]"))
    layout.file("proc/modules", "zram 1 2 - Live 0xffffffffc0000000\n")
    assert symbols.name(0xFFFFFFFFC0000001) == "late+0x1 [nf_tables]"
    layout.host.pass_seconds(11)
    assert symbols.name(0xFFFFFFFFC0000001) == "other+0x1 [zram]"


def test_not_loaded_again_when_only_reference_counts_change(layout: Layout) -> None:
    symbols = KernelSymbols(layout.host)
    symbols.name(0xFFFFFFFF81000000)
    table = symbols._table
    layout.file("proc/modules", "nf_tables 1 3 - Live 0xffffffffc0000000\n")
    layout.host.pass_seconds(11)
    symbols.name(0xFFFFFFFF81000000)
    assert symbols._table is table


def test_hidden_addresses_are_said_and_given_as_numbers(layout: Layout) -> None:
    layout.file("proc/kallsyms", "0000000000000000 T _text\n0000000000000000 T helper\n")
    symbols = KernelSymbols(layout.host)
    assert symbols.name(0xFFFFFFFF81000101) == "0xffffffff81000101"
    assert "kptr_restrict" in symbols.problem


def test_no_kallsyms(layout: Layout) -> None:
    (layout.host.proc / "kallsyms").unlink()
    symbols = KernelSymbols(layout.host)
    assert symbols.stack([0xFFFFFFFF81000101]) == ["0xffffffff81000101"]
    assert "kallsyms" in symbols.problem


@pytest.mark.parametrize(
    ("address", "mapping", "function", "frame"),
    [
        (0xFFFFFFFF81000012, "[vmlinux]", "_stext", KernelFrame("_stext", "[vmlinux]", 0x12)),
        (0xFFFFFFFFC0000001, "[nf_tables]", "late", KernelFrame("late", "[nf_tables]", 1)),
        (
            0xFFFFFFFFC0101004,
            "[bpf]",
            "sd_devices",  # without the tag, which is a checksum of the program
            KernelFrame("bpf_prog_6deef7357e7b4530_sd_devices", "[bpf]", 4),
        ),
        (0xFFFFFFFFC0100004, "[bpf]", "bpf_prog_1", KernelFrame("bpf_prog_1", "[bpf]", 4)),
    ],
)
def test_location(
    layout: Layout, address: int, mapping: str, function: str, frame: KernelFrame
) -> None:
    symbols = KernelSymbols(layout.host, lambda _: 0)
    wanted = Location(FrameKind.KERNEL, mapping, address, lines=(Line(function),))
    assert symbols.location(address) == wanted
    assert symbols.frame(address) == frame


def test_location_of_no_function(layout: Layout) -> None:
    symbols = KernelSymbols(layout.host, lambda _: 0)
    assert symbols.location(0x1234) == Location(FrameKind.KERNEL, "[vmlinux]", 0x1234)
    assert symbols.frame(0x1234) is None


def test_programs_loaded_later_are_not_taken_for_the_ends_of_others(layout: Layout) -> None:
    loaded = [7]
    newest = lambda after: next((number for number in loaded if number > after), 0)  # noqa: E731
    symbols = KernelSymbols(layout.host, newest)
    late = 0xFFFFFFFFC0101800
    assert symbols.location(late).lines == (Line("sd_devices"),)
    loaded.append(9)
    layout.file("proc/kallsyms", KALLSYMS + "ffffffffc0101800 t bpf_prog_00ff_x\t[bpf]\n")
    assert symbols.location(late).lines == ()  # could be either
    assert symbols.name(0xFFFFFFFFC0000001) == "late+0x1 [nf_tables]"  # the others are certain
    layout.host.pass_seconds(61)
    assert symbols.location(late).lines == (Line("bpf_prog_00ff_x"),)
    layout.file("proc/kallsyms", "")
    layout.host.pass_seconds(61)
    assert symbols.location(late).lines == (Line("bpf_prog_00ff_x"),)  # nothing new: not read again


def test_addresses_of_this_kernel_are_those_of_kallsyms() -> None:
    host = Host()
    symbols = KernelSymbols(host)
    rows = [line.split() for line in host.read(host.proc / "kallsyms").splitlines()]
    functions = [row for row in rows if row[1] in "tT" and int(row[0], 16)]
    if not functions:
        pytest.skip("kallsyms hides addresses from us")
    names: dict[int, set[str]] = {}
    for row in functions:
        names.setdefault(int(row[0], 16), set()).add(row[2])
    for row in functions[:: max(len(functions) // 500, 1)]:
        frame = symbols.frame(int(row[0], 16))
        assert frame is not None
        assert frame.offset == 0
        assert frame.function in names[int(row[0], 16)]
        assert frame.mapping == (row[3] if len(row) > 3 else "[vmlinux]")
