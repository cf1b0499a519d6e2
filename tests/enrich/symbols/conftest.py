"""Compiled programs, once per run, and a `Symbols` of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huatuo.enrich.symbols.native import Symbols
from huatuo.kernel.host import Host
from tests.enrich.symbols.toolchain import PROGRAMS, run, tool

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """compiled("shapes.c", "-O1"): the program with debug information; each is compiled once."""
    directory = tmp_path_factory.mktemp("programs")
    known: dict[tuple[str, ...], Path] = {}

    def build(source: str, *options: str) -> Path:
        key = (source, *options)
        if key not in known:
            out = directory / f"{len(known)}-{source.partition('.')[0]}"
            compilers = {".c": ("gcc", "clang"), ".cpp": ("g++", "clang++"), ".rs": ("rustc",)}
            compiler = tool(*compilers[Path(source).suffix])
            optimised = ["-O"] if compiler.endswith("rustc") else ["-O2"]
            run(compiler, *optimised, "-g", *options, PROGRAMS / source, "-o", out)
            known[key] = out
        return known[key]

    return build


@pytest.fixture
def symbols(tmp_path: Path) -> Iterator[Symbols]:
    made = Symbols(Host(), tmp_path / "symbols")
    yield made
    made.close()
