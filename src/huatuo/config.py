"""The configuration: one TOML file, one table per probe, every number with its unit.

The schema is not written down anywhere else: a probe's settings come from its C tunables (or its
class), the agent's own from settings.py. `huatuo config --defaults` prints all of it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from huatuo.errors import ConfigError
from huatuo.model.selection import EXAMPLE, parse_choice, parse_selection
from huatuo.model.units import parse, show
from huatuo.probes.base import Probe, Setting, discover
from huatuo.settings import (
    AgentSettings,
    CaptureSettings,
    ContainerSettings,
    GovernorSettings,
    KnownIssue,
    PushSettings,
    StoreSettings,
    SymbolsSettings,
    Trigger,
)

__all__ = ["Config", "defaults", "load"]


@dataclass(frozen=True, slots=True)
class Config:
    """`probes`: "auto" takes what can run, a name must run, "-name" removes."""

    probes: tuple[str, ...] = ("auto",)
    agent: AgentSettings = field(default_factory=AgentSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    governor: GovernorSettings = field(default_factory=GovernorSettings)
    containers: ContainerSettings = field(default_factory=ContainerSettings)
    symbols: SymbolsSettings = field(default_factory=SymbolsSettings)
    push: PushSettings = field(default_factory=PushSettings)
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    known: tuple[KnownIssue, ...] = ()
    triggers: tuple[Mapping[str, Any], ...] = ()  # what tables [[trigger]] say, and no defaults
    settings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # probe → settings
    watched: Mapping[str, str] = field(default_factory=dict)  # probe → its `containers`


_RULES = "containers"  # a setting of every probe's
_SECTIONS = {
    "agent": AgentSettings,
    "store": StoreSettings,
    "governor": GovernorSettings,
    "containers": ContainerSettings,
    "symbols": SymbolsSettings,
    "push": PushSettings,
    "capture": CaptureSettings,
}


def load(path: Path | None) -> Config:
    """Read and check a file; None is all defaults. Raises ConfigError with what to do."""
    if path is None:
        return Config()
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        return _parse(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse(document: Mapping[str, Any]) -> Config:
    known = discover()
    groups = {name.partition(".")[0] for name in known}
    settings: dict[str, Mapping[str, int]] = {}
    watched: dict[str, str] = {}
    own: dict[str, Any] = {}
    for key, value in document.items():
        if key == "probes":
            own["probes"] = selection(value)
        elif key == "known":
            own["known"] = known_issues(value)
        elif key == "trigger":
            own["triggers"] = trigger_tables(value)
        elif key in _SECTIONS:
            own[key] = _SECTIONS[key](**_values(_SECTIONS[key], f"[{key}]", _table(key, value)))
        elif key in groups:
            for probe, table in _table(key, value).items():
                name = f"{key}.{probe}"
                cls = known.get(name)
                if cls is None:
                    raise _unknown(f"[{name}]", name, known)
                table = dict(_table(name, table))
                if _RULES in table:
                    watched[name] = _rules(table.pop(_RULES), f"[{name}] {_RULES}")
                settings[name] = probe_settings(cls, table)
        else:
            raise _unknown(key, key, ["probes", "known", "trigger", *_SECTIONS, *groups])
    found = Config(**own, settings=settings, watched=watched)
    parse_choice(found.containers.include, found.containers.exclude, "[containers]")
    return found


def _rules(value: object, where: str) -> str:
    text = str(parse("text", value, where))
    parse_selection(text, where)
    return text


def selection(value: object) -> tuple[str, ...]:
    """Check a list of probe names, "auto" and "-name". Raises ConfigError."""
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f'probes = {value}: expected a list, for example ["auto", "-net.drop"]')
    for name in value:
        if name.removeprefix("-") not in (*discover(), "auto"):
            raise _unknown(f'probes: "{name}"', name.removeprefix("-"), discover())
    return tuple(value)


def probe_settings(cls: type[Probe], table: Mapping[str, object]) -> dict[str, int]:
    """Check and convert one probe's table. Raises ConfigError."""
    schema = {setting.name: setting for setting in cls.settings_schema()}
    found = {}
    for key, value in table.items():
        if key not in schema:
            raise _unknown(f"[{cls.name}] {key}", key, (*schema, _RULES))
        found[key] = int(parse(schema[key].typedef, value, f"[{cls.name}] {key}"))
    return found


def known_issues(value: object) -> tuple[KnownIssue, ...]:
    """Check tables [[known]]. Raises ConfigError."""
    if not isinstance(value, list):
        raise ConfigError("known: expected tables, each written [[known]]")
    found = []
    for number, table in enumerate(value, 1):
        where = f"[known] number {number}"
        issue = KnownIssue(**_values(KnownIssue, where, _table("known", table)))
        if issue.action not in ("mark", "mute"):
            raise ConfigError(f'{where}: action = "{issue.action}": expected "mark" or "mute"')
        if not issue.note:
            raise ConfigError(
                f'{where}: has no note; say what is known, for example "fixed in 6.9"'
            )
        if issue.probe and issue.probe not in discover():
            raise _unknown(f'{where}: probe = "{issue.probe}"', issue.probe, discover())
        if not (issue.title or issue.stack or issue.container or issue.probe):
            raise ConfigError(f"{where}: would apply to every event; give title, stack or probe")
        found.append(issue)
    return tuple(found)


def trigger_tables(value: object) -> tuple[Mapping[str, Any], ...]:
    """Check the form of tables [[trigger]]; what they mean is checked in triggers/rules.py."""
    if not isinstance(value, list):
        raise ConfigError("trigger: expected tables, each written [[trigger]]")
    return tuple(
        _values(Trigger, f"[trigger] number {number}", _table("trigger", table))
        for number, table in enumerate(value, 1)
    )


def _values(cls: Any, where: str, table: Mapping[str, object]) -> dict[str, Any]:
    schema = {setting.name: setting for setting in _schema(cls)}
    names = {f.metadata.get("key", f.name): f.name for f in fields(cls)}
    values = {}
    for key, value in table.items():
        if key not in schema:
            raise _unknown(f"{where} {key}", key, schema)
        values[names[key]] = parse(schema[key].typedef, value, f"{where} {key}")
    return values


def _schema(cls: Any) -> list[Setting]:
    return [
        Setting(f.metadata.get("key", f.name), f.metadata["typedef"], f.default, f.metadata["help"])  # type: ignore[arg-type]
        for f in fields(cls)
    ]


def _table(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} = {value}: expected a table, written [{name}]")
    return value


def _unknown(where: str, name: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`huatuo config --defaults` lists all"
    return ConfigError(f"{where}: unknown; {hint}")


def defaults() -> str:
    """A complete configuration file with every setting, its default and its help."""
    lines = [
        "# HUATUO configuration: every setting with its default.",
        "",
        '# "auto" takes what can run here, a name must run, "-name" removes.',
        'probes = ["auto"]',
        "",
        "# Every probe's table may say which containers are watched, all unless set:",
        f'# {_RULES} = "{EXAMPLE}"',
    ]
    for section, cls in _SECTIONS.items():
        lines += _show_table(section, _schema(cls))
    for name, table in (("known", KnownIssue), ("trigger", Trigger)):
        lines += ["", f"# {_summary(table)} As many as you like.", f"# [[{name}]]"]
        for setting in _schema(table):
            shown = show(setting.typedef, setting.default)
            lines += [f"# {setting.help}", f"# {setting.name} = {shown}"]
    for name, cls in discover().items():
        if schema := cls.settings_schema():
            lines += _show_table(name, schema, _summary(cls))
    return "\n".join(lines) + "\n"


def _summary(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _show_table(name: str, schema: list[Setting], summary: str = "") -> list[str]:
    lines = ["", f"# {summary}", f"[{name}]"] if summary else ["", f"[{name}]"]
    for setting in schema:
        shown = show(setting.typedef, setting.default)
        lines += [f"# {setting.help}"] if setting.help else []
        lines += [f"{setting.name} = {shown}"]
    return lines
