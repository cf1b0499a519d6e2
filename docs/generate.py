"""Write docs/reference/*.md from the code. `make docs` runs it; tests/test_docs.py compares.

python docs/generate.py            write
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Iterator
from pathlib import Path

from huatuo.cli import COMMANDS
from huatuo.cli import main as command_line
from huatuo.config import defaults
from huatuo.kernel.btf import is_exported
from huatuo.model.meaning import Role
from huatuo.model.record import Schema
from huatuo.model.units import show
from huatuo.probes.base import Probe, discover
from huatuo.probes.bpf import SCALAR, BpfProbe, label_name

FOLDER = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n"


def pages() -> dict[str, str]:
    """File name → text of every generated page."""
    return {
        "probes.md": _NOTE + "\n".join(_probes()),
        "configuration.md": _NOTE + f"# Configuration\n\n```toml\n{defaults()}```\n",
        "commands.md": _NOTE + "\n".join(_commands()),
    }


def _probes() -> Iterator[str]:
    yield "# Probes\n"
    yield "| probe | what it tells |\n|---|---|"
    for name, cls in discover().items():
        yield f"| [{name}](#{name.replace('.', '')}) | {_doc(cls).splitlines()[0]} |"
    for name, cls in discover().items():
        yield f"\n## {name}\n"
        yield _doc(cls)
        yield from _settings(cls)
        if issubclass(cls, BpfProbe):
            yield from _metrics(cls)
        for ring, schema in cls.event_schemas().items():
            yield from _event(ring, schema)
    yield ""


def _doc(cls: type[Probe]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _settings(cls: type[Probe]) -> Iterator[str]:
    schema = cls.settings_schema()
    if schema:
        yield "\n| setting | default | |\n|---|---|---|"
    for setting in schema:
        yield f"| `{setting.name}` | `{show(setting.typedef, setting.default)}` | {setting.help} |"


def _metrics(cls: type[BpfProbe]) -> Iterator[str]:
    rows = []
    for found in cls.btf().maps:
        if found.name == "account" or found.value is None or not is_exported(found.value):
            continue
        labels = ", ".join(label_name(f) for f in found.key or () if f.name != SCALAR)
        for field in found.value:
            if field.meaning.role is not Role.NONE:
                name = cls.metric_name(field)
                rows.append(f"| `{name}` | {field.meaning.role} | {labels} | {field.help} |")
    if rows:
        yield "\n| metric | kind | labels | |\n|---|---|---|---|"
        yield from rows


def _event(ring: str, schema: Schema) -> Iterator[str]:
    yield f"\nEvent `{ring}`: {schema.help}\n".replace(": \n", "\n")
    yield "| field | |\n|---|---|"
    for field in schema:
        yield f"| `{field.json_name}` | {field.help} |"
        for inner in field.members:
            yield f"| `{field.json_name}[].{inner.json_name}` | {inner.help} |"


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    for words in ([], *([name] for name in COMMANDS)):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            command_line([*words, "--help"])
        yield f"## {' '.join(['huatuo', *words])}\n\n```\n{text.getvalue().rstrip()}\n```\n"


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
