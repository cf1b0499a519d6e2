"""Programs for symbol tests: compiled now, from programs/, with what this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from huatuo.enrich.symbols.native import BinaryFile, Identity
from huatuo.kernel.elf import Elf

__all__ = [
    "GO_CACHE",
    "GO_TOOLS",
    "Frames",
    "addr2line",
    "binary_file",
    "compile_go",
    "run",
    "sample",
    "tool",
]

PROGRAMS = Path(__file__).parent / "programs"
_CARGO = str(Path.home() / ".cargo/bin")
Frames = list[tuple[str, str, int]]


def run(*command: str | Path, text: str = "") -> str:
    return subprocess.run(
        [str(word) for word in command], input=text, check=True, capture_output=True, text=True
    ).stdout


def tool(*names: str) -> str:
    """The first of these programs that is installed; skips the test if none is."""
    for name in names:
        if found := shutil.which(name) or shutil.which(name, path=_CARGO):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def _go_tools() -> list[str]:
    """Every Go here: in HUATUO_TEST_GO (several, with colons between), or the system's."""
    named = os.environ.get("HUATUO_TEST_GO", "").split(":")
    return [path for path in named if path] or [path for path in [shutil.which("go")] if path]


GO_TOOLS = _go_tools()


# what Go compiled, to be kept between runs: an emulated CPU needs one that was filled elsewhere
GO_CACHE = os.environ.get("HUATUO_TEST_GO_CACHE", "")


@cache
def _go_cache() -> tempfile.TemporaryDirectory[str]:
    """Go's own library, compiled once."""
    return tempfile.TemporaryDirectory(prefix="go-cache-")


def compile_go(go: str, source: Path, out: Path, *options: str, cgo: bool = False) -> Path:
    environment = os.environ | {
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "off",
        "CGO_ENABLED": str(int(cgo)),
        "GOCACHE": GO_CACHE or _go_cache().name,
        "GOFLAGS": "",
    }
    subprocess.run([go, "build", *options, "-o", str(out), str(source)], check=True,
                   env=environment, capture_output=True)  # fmt: skip
    return out


def binary_file(path: Path, root: Path = Path("/"), inside: str = "") -> BinaryFile:
    """`inside` is how it is seen below `root`."""
    path = path.resolve()
    status = path.stat()
    with Elf(path) as elf:
        build_id = elf.build_id
    identity = Identity(status.st_dev, status.st_ino, status.st_size)
    return BinaryFile(identity, inside or str(path), path, root, build_id)


def sample(path: Path, most: int = 4000) -> list[int]:
    """Addresses all over the code of a file."""
    with Elf(path) as elf:
        text = elf.sections[".text"]
    return list(range(text.address, text.address + text.size, max(text.size // most, 1)))


def addr2line(path: Path, addresses: Sequence[int]) -> list[Frames]:
    """What GNU addr2line says: innermost first; [] where it knows no function or no line."""
    out = run(
        tool("addr2line"), "-a", "-f", "-i", "-C", "-e", path, text="\n".join(map(hex, addresses))
    )
    found: list[Frames] = []
    lines = iter(out.splitlines())
    for line in lines:
        if line.startswith("0x"):
            found.append([])
            continue
        place, _, number = next(lines).partition(" (")[0].rpartition(":")
        known = number.isdecimal() and line != "??"
        found[-1].append((line, os.path.normpath(place), int(number)) if known else ("", "", 0))
    return [frames if all(frame[0] for frame in frames) else [] for frames in found]
