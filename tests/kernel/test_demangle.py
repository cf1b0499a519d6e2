"""C++ names: c++filt is the other source."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from huatuo.kernel.demangle import demangle_cpp

NAMES = [
    b"_Z1fv",
    b"_ZN3foo3barEi",
    b"_ZNSt6vectorIiSaIiEE9push_backERKi",
    b"_ZZ4mainENKUlvE_clEv",
    b"_ZN12_GLOBAL__N_17countedERKSt3mapINSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEiE",
    b"_ZTVN10__cxxabiv117__class_type_infoE",
    b"_ZN1fEv.part.0.cold",
]


@pytest.mark.skipif(not shutil.which("c++filt"), reason="c++filt is not installed")
@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
def test_names_are_those_of_cppfilt(name: bytes) -> None:
    wanted = subprocess.run(["c++filt"], input=name, capture_output=True, check=True).stdout
    assert demangle_cpp(name) == wanted.strip()
    assert demangle_cpp(name) != name


@pytest.mark.parametrize(
    "name", [b"main", b"i", b"", b"_Z", b"_Zx", b"_ZN3fo", b"_Z" + b"9" * 20, b"_Z1f" + b"v" * 9000]
)
def test_other_names_are_left_alone(name: bytes) -> None:
    assert demangle_cpp(name) == name
