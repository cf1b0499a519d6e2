"""The shape of the code: import order, sizes, what may be used where, and what each probe owes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from huatuo.kernel.btf import is_exported
from huatuo.probes.base import Probe, discover
from huatuo.probes.bpf import BpfProbe

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "huatuo"
MODULES = sorted(SOURCE.rglob("*.py"))
# A package may import only packages with a smaller number, and itself.
ORDER = {
    "errors": 0,
    "model": 0,
    "settings": 0,
    "kernel": 1,
    "profilers": 2,
    "probes": 3,
    "config": 4,
    "governor": 4,
    "wakeups": 0,
    "enrich": 4,
    "triggers": 5,
    "store": 6,
    "export": 6,
    "pushing": 7,
    "tracing": 7,
    "selfmetrics": 8,
    "serve": 7,
    "cli": 9,
    "agent": 10,
    "__main__": 11,
}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 50
FOUR_PARTS = {"bpf": ("Hooks:", "Cost:"), "reader": ("Reads:", "Cost:")}


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(package of huatuo, or the foreign top-level module; full name) of every import."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "huatuo" and len(parts) > 1:
                yield parts[1], name
            else:
                yield f"!{parts[0]}", name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_left(path: Path) -> None:
    here = package_of(path)
    if here == "__init__":
        return
    for package, name in imports(path):
        if package.startswith("!") or package == here:
            continue
        assert ORDER[package] < ORDER[here] or {here, package} <= {"errors", "model"}, (
            f"{here} may not import {name}"
        )


def test_every_package_has_its_place() -> None:
    found = {package_of(path) for path in MODULES} - {"__init__"}
    assert found == set(ORDER), "a package is missing in ORDER, or gone"


def test_only_the_kernel_package_uses_ctypes() -> None:
    for path in MODULES:
        if package_of(path) != "kernel":
            assert "!ctypes" not in {package for package, _ in imports(path)}, path


def test_only_the_worker_spawns_processes() -> None:
    """It runs functions of ours, and nothing that a caller, a file or a setting names."""
    for path in MODULES:
        if path == SOURCE / "kernel" / "worker.py":
            continue
        if package_of(path) in ("kernel", "probes", "profilers", "enrich"):
            assert "!subprocess" not in {package for package, _ in imports(path)}, path


def test_only_hosts_paths_are_read() -> None:
    """/proc and /sys come from Host, so that tests and containers can put them elsewhere."""
    literal = re.compile(r"""["'](/proc|/sys)(/|["'])""")
    for path in MODULES:
        if path == SOURCE / "kernel" / "host.py":
            continue
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text())
        assert not literal.search(code), f"{path} has a literal path"


def test_sizes() -> None:
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= LONGEST_MODULE, f"{path} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}: {node.name} has {length} lines"


def test_public_modules_say_what_they_are() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text())
        if tree.body:
            assert ast.get_docstring(tree), f"{path} has no docstring"


PROBES = discover()


@pytest.mark.parametrize("name", PROBES)
def test_probe_docstring_is_a_manual_page(name: str) -> None:
    """What it tells, Hooks or Reads, Cost; one summary line that ends with a full stop."""
    cls = PROBES[name]
    text = cls.__doc__ or ""
    kind = "bpf" if has_object(cls) else "reader"
    assert text.splitlines()[0].endswith("."), "the summary is one line"
    for part in FOUR_PARTS[kind]:
        assert part in text, f"{name}: docstring lacks {part}"


@pytest.mark.parametrize("name", PROBES)
def test_probe_has_a_test(name: str) -> None:
    group, _, stem = name.partition(".")
    mirrored = ROOT / "tests" / "probes" / group / f"test_{stem}.py"
    live = ROOT / "tests" / "live" / f"test_{group}_{stem}.py"
    assert mirrored.exists() or live.exists(), f"{name} has neither {mirrored} nor {live}"


@pytest.mark.parametrize("name", PROBES)
def test_probe_fields_are_documented(name: str) -> None:
    """Every exported value, every record field and every setting has a help text."""
    cls = PROBES[name]
    for setting in cls.settings_schema():
        assert setting.help, f"{name}: setting {setting.name} has no DOC()"
    for ring, schema in cls.event_schemas().items():
        assert ring in cls.titles, f"{name}: ring {ring} has no title"
        for field in schema:
            assert field.help, f"{name}: {schema.name}.{field.name} has no DOC()"


def has_object(cls: type[Probe]) -> bool:
    return (SOURCE / "probes" / (cls.name.replace(".", "/") + ".bpf.c")).exists()


@pytest.mark.parametrize("name", [name for name, cls in PROBES.items() if has_object(cls)])
def test_keys_have_no_padding(name: str) -> None:
    """What is in it would tell keys apart that are the same: KEY in bpf/record.bpf.h."""
    cls = PROBES[name]
    assert issubclass(cls, BpfProbe)
    for found in cls.btf().maps:
        if found.key is not None and found.value is not None and is_exported(found.value):
            sizes = [found.key.dtype[member].itemsize for member in found.key.dtype.names or ()]
            assert sum(sizes) == found.key.dtype.itemsize, f"{name}: the key of {found.name}"


def test_bpf_programs_have_a_reader() -> None:
    for path in (SOURCE / "probes").rglob("*.bpf.c"):
        assert path.with_name(path.name.replace(".bpf.c", ".py")).exists(), path
