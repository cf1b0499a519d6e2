"""Compile what is not Python: one .bpf.o beside each .bpf.c, and the small native library.

Runs as hatchling's build hook (the wheel carries the results) and as a script, used by `make build`
(`python hatch_build.py [--tests] [--force]`). Only what is older than its sources is rebuilt.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a wheel build
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).parent
PACKAGE = ROOT / "src" / "huatuo"
HEADERS = PACKAGE / "bpf"
NATIVE = PACKAGE / "kernel" / "native.c"
LIBRARY = PACKAGE / "kernel" / "_native.so"
TARGET_ARCH = {"x86_64": "x86", "aarch64": "arm64"}


def compile_all(force: bool = False, extra: tuple[Path, ...] = ()) -> list[Path]:
    """Build every stale object below the package (and `extra` folders); return what was built."""
    built = []
    headers = [*HEADERS.rglob("*.h"), Path(__file__)]
    if force or _stale(LIBRARY, [NATIVE, Path(__file__)]):
        _run(
            [
                os.environ.get("CC", "cc"),
                "-O2",
                "-g0",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-o",
                str(LIBRARY),
                str(NATIVE),
            ]
        )
        built.append(LIBRARY)
    for source in _sources(extra):
        target = source.with_suffix(".o")
        if force or _stale(target, [source, *headers]):
            _compile_bpf(source, target)
            built.append(target)
    return built


def _sources(extra: tuple[Path, ...]) -> Iterator[Path]:
    for folder in (PACKAGE, *extra):
        yield from sorted(folder.rglob("*.bpf.c"))


def _stale(target: Path, sources: list[Path]) -> bool:
    if not target.exists():
        return True
    age = target.stat().st_mtime
    return any(source.stat().st_mtime > age for source in sources)


def _compile_bpf(source: Path, target: Path) -> None:
    arch = TARGET_ARCH[platform.machine()]
    multiarch = Path(f"/usr/include/{platform.machine()}-linux-gnu")
    scratch = target.with_suffix(".o.tmp")
    _run(
        [
            _tool("CLANG", "clang"),
            "-g",
            "-O2",
            "-target",
            "bpf",
            "-mcpu=v3",
            f"-D__TARGET_ARCH_{arch}",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
            f"-I{HEADERS}",
            f"-I{multiarch}",
            "-c",
            str(source),
            "-o",
            str(scratch),
        ]
    )
    _run([_tool("LLVM_STRIP", "llvm-strip"), "-g", str(scratch)])
    scratch.replace(target)


def _tool(variable: str, name: str) -> str:
    """`name` or its newest versioned twin (clang-18, llvm-strip-14 …)."""
    if variable in os.environ:
        return os.environ[variable]
    for candidate in (name, *(f"{name}-{version}" for version in range(25, 10, -1))):
        if shutil.which(candidate):
            return candidate
    sys.exit(f"build: {name} is not installed; `make setup` installs it (Debian package: llvm)")


def _run(command: list[str]) -> None:
    result = subprocess.run(command, check=False)
    if result.returncode:
        sys.exit(f"build: failed: {' '.join(command)}")


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling's entry: compile, then tag the wheel for this platform and any Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and version != "editable":
            compile_all()
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-linux_{platform.machine()}"


if __name__ == "__main__":
    tests = (ROOT / "tests",) if "--tests" in sys.argv else ()
    for path in compile_all("--force" in sys.argv, tests):
        print(f"built {path.relative_to(ROOT)}")
