"""Rows of a distribution's files, one by one against readelf; expressions, llvm-dwarfdump."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.profilers.native.oracle import compare

pytestmark = pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")

WHERE = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/bin", "/usr/sbin", "/sbin")
FILES = [
    "ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libmvec.so.1", "libgcc_s.so.1",
    "libstdc++.so.6", "libgomp.so.1", "libcrypto.so.3", "libssl.so.3", "libgcrypt.so.20",
    "libgnutls.so.30", "libnettle.so.8", "libhogweed.so.6", "libgmp.so.10", "libz.so.1",
    "libzstd.so.1", "liblzma.so.5", "libbz2.so.1.0", "libelf.so.1", "libdw.so.1", "libbpf.so.1",
    "libsystemd.so.0", "libudev.so.1", "libsqlite3.so.0", "libcurl.so.4", "libglib-2.0.so.0",
    "libncursesw.so.6", "libtinfo.so.6", "libreadline.so.8", "libsepol.so.2", "libpcre2-8.so.0",
    "libunistring.so.2", "libffi.so.8", "bash", "dash", "perl", "python3", "busybox", "gcc",
    "readelf", "objdump", "as", "ld.bfd", "ldconfig", "openssl", "ssh", "systemctl", "ip", "nft",
    "git", "qemu-system-x86_64", "crun", "node", "libLLVM-14.so.1", "chromium/chromium",
]  # fmt: skip
LARGE = 8 << 20
PAGES = 150  # of a large file


def find(name: str) -> Path | None:
    paths = [Path(sys.executable)] if name == "python3" else [Path(d, name) for d in WHERE]
    return next((path.resolve() for path in paths if path.is_file()), None)


@pytest.mark.parametrize("name", FILES)
def test_rows_are_those_of_readelf(name: str) -> None:
    path = find(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    is_large = path.stat().st_size > LARGE
    result = compare(path, PAGES) if is_large else compare(path)
    print(f"{result}{', sampled' if is_large else ''}")
    assert not result.differences
    assert result.rows
    if shutil.which("llvm-dwarfdump"):
        assert result.unread <= result.rows / 100
    # setjmp and its kind, a few places in hand-written assembly
    assert sum(result.explained.values()) <= max(10, result.rows // 5000), result.explained
