"""What several commands share: configuration, duration arguments, tables, JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from huatuo.config import Config, load, probe_settings, selection
from huatuo.errors import KernelLacks, UsageError
from huatuo.kernel.host import Host
from huatuo.model.units import parse
from huatuo.probes.base import Probe, discover

__all__ = [
    "add_config",
    "add_duration",
    "add_probe",
    "configuration",
    "open_probe",
    "print_json",
    "seconds",
    "table",
]

_DEFAULT_CONFIG = Path("/etc/huatuo/huatuo.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"configuration (default: {_DEFAULT_CONFIG} if it is there)",
    )


def configuration(arguments: argparse.Namespace) -> Config:
    """The file named, or the system's, or all defaults."""
    path = arguments.config or (_DEFAULT_CONFIG if _DEFAULT_CONFIG.exists() else None)
    return load(path)


def add_duration(parser: argparse.ArgumentParser, default: str, help_text: str) -> None:
    parser.add_argument("--duration", default=default, metavar="TIME", help=help_text)


def seconds(arguments: argparse.Namespace) -> float | None:
    """--duration in seconds; None if it was not given and has no default."""
    if not arguments.duration:
        return None
    return float(parse("duration_ns_t", arguments.duration, "--duration")) / 1e9


def add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("probe", metavar="PROBE", help="as `huatuo probes` lists them: memory.oom")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override one of the probe's settings, for example --set blame_threshold=5ms",
    )


def open_probe(
    arguments: argparse.Namespace,
    host: Host,
    adapt: Callable[[type[Probe], dict[str, int]], dict[str, int]] = lambda _, given: given,
) -> Probe:
    """The probe named, with the settings given, which `adapt` may add to; not started.

    Raises UsageError, KernelLacks.
    """
    selection([arguments.probe])  # raises with the nearest name
    cls: type[Probe] = discover()[arguments.probe]
    table: dict[str, object] = {}
    for word in arguments.set:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word}: expected NAME=VALUE, for example max_per_second=10")
        table[name] = int(value) if value.isdigit() else value
    if missing := cls.unavailable(host):
        raise KernelLacks(f"{cls.name}: {missing}")
    return cls(host, adapt(cls, probe_settings(cls, table)))


def print_json(value: object) -> None:
    """One JSON document on one line, flushed: the reader may be a pipe."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns aligned to the left, the last one as long as it is."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header) - 1)]
    lines = []
    for row in [header, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
