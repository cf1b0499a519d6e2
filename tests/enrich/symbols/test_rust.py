"""Rust's names: examples of the rustc book and of rustc's own tests, and what binutils says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huatuo.enrich.symbols.rust import demangle_rust
from tests.enrich.symbols.toolchain import run, tool

CONST = "_RMCs4fqI2P2rA04_13const_genericINtB0_"
ITERATOR = "core::iter::iterator::Iterator"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("_RNvC6_123foo3bar", "123foo::bar"),
        (
            "_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y",
            "utf8_idents::საჭმელად_გემრიელი_სადილი",
        ),
        ("_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_", "cc::spawn::{closure#0}::{closure#0}"),
        (
            (
                "_RNCINkXs25_NgCsbmNqQUJIY6D_4core5sliceINyB9_4IterhENuNgNoBb_4iter8iterator8Iterator"
                "9rpositionNCNgNpB9_6memchr7memrchrs_0E0Bb_"
            ),
            (
                f"<core::slice::Iter<u8> as {ITERATOR}>::rposition"
                "::<core::slice::memchr::memrchr::{closure#1}>::{closure#0}"
            ),
        ),
        (
            (
                "_RINbNbCskIICzLVDPPb_5alloc5alloc8box_freeDINbNiB4_5boxed5FnBoxuEp6OutputuEL_E"
                "Cs1iopQbuBiw2_3std"
            ),
            "alloc::alloc::box_free::<dyn alloc::boxed::FnBox<(), Output = ()>>",
        ),
        ("_RMC0INtC8arrayvec8ArrayVechKj7b_E", "<arrayvec::ArrayVec<u8, 123>>"),
        (f"{CONST}8UnsignedKhb_E", "<const_generic::Unsigned<11>>"),
        (f"{CONST}6SignedKs98_E", "<const_generic::Signed<152>>"),
        (f"{CONST}6SignedKanb_E", "<const_generic::Signed<-11>>"),
        (f"{CONST}4BoolKb0_E", "<const_generic::Bool<false>>"),
        (f"{CONST}4BoolKb1_E", "<const_generic::Bool<true>>"),
        (f"{CONST}4CharKc76_E", "<const_generic::Char<'v'>>"),
        (f"{CONST}4CharKca_E", r"<const_generic::Char<'\n'>>"),
        (f"{CONST}4CharKc2202_E", "<const_generic::Char<'∂'>>"),
        (
            "_RNvNvMCs4fqI2P2rA04_13const_genericINtB4_3FooKpE3foo3FOO",
            "<const_generic::Foo<_>>::foo::FOO",
        ),
        ("_RC3foo.llvm.9D1C9369", "foo"),
        ("_RC3foo.cold", "foo.cold"),
        ("_ZN3foo17h05af221e174051e9E", "foo"),
        ("_ZN3foo17h05af221e174051e9E.llvm.1234", "foo"),
        (
            (
                "_ZN88_$LT$core..result..Result$LT$$u21$$C$$u20$E$GT$$u20$as$u20$std..process.."
                "Termination$GT$6report17hfc41d0da4a40b3e8E"
            ),
            "<core::result::Result<!, E> as std::process::Termination>::report",
        ),
        (
            (
                "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar"
                "17h930b740aa94f1d3aE"
            ),
            "<Test + 'static as foo::Bar<Test>>::bar",
        ),
    ],
)
def test_examples(name: str, wanted: str) -> None:
    assert demangle_rust(name) == wanted


@pytest.mark.parametrize(
    "name",
    ["main", "_R", "_Read", "_ZN3fooE", "_ZN3foo3barEv", "_ZN3foo17h05af221e174051e9",
     "_RNvC3foo", "_RNvB_3bar", "_RNvC3foo3barx", "_RC99foo", "_RINvC1a1bL0_E", "_RC3foo" * 2000],
)  # fmt: skip
def test_other_names_are_none_of_rusts(name: str) -> None:
    assert demangle_rust(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "_R" + "I" * 4000,
        "_RM" + "B" * 4000,
        "_RNvC1aF" + "G" + "z" * 20 + "_",
        "_RYR" * 2000,
        # each reference means twice the one before: 2^60 characters
        "_RMC0T"
        + "u" * 2
        + "".join(f"TB{'' if i < 1 else chr(47 + i)}_B_E" for i in range(9))
        + "E",
    ],
)
def test_hostile_names_end_soon(name: str) -> None:
    begin = time.process_time()
    demangle_rust(name)
    assert time.process_time() - begin < 0.5


@settings(max_examples=500, deadline=None)
@given(st.text("RNvCINtMXYBsGKpLDTEAFSOPQ_0123456789abhuejz.$", max_size=60))
def test_nothing_is_raised(text: str) -> None:
    for name in (f"_R{text}", f"_ZN{text}", f"_RNvC1a{text}"):
        found = demangle_rust(name)
        assert found is None or isinstance(found, str)


def test_names_of_a_program_are_those_of_cppfilt(compiled: Callable[..., Path]) -> None:
    """c++filt adds a hash to each crate, and its type to each constant."""
    path = compiled("shapes.rs", "-C", "symbol-mangling-version=v0")
    names = sorted(set(re.findall(r" (_R\w+)$", run(tool("nm"), path), re.M)))
    assert len(names) > 50
    wanted = run(tool("c++filt"), text="\n".join(names)).splitlines()
    for name, theirs in zip(names, wanted, strict=True):
        without = re.sub(r"\[[0-9a-f]{6,16}\]|(?<=\d): [iu]\w+", "", theirs)
        assert demangle_rust(name) == without
