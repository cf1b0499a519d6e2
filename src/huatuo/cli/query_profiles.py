"""Profiles in the store, for `huatuo query profiles`: what there is, top functions, files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from huatuo.cli.common import print_json, table
from huatuo.errors import HuatuoError, UsageError
from huatuo.export.flamegraph import flame_tree, sums
from huatuo.export.formats import FORMATS
from huatuo.model.profile import PROFILE_TYPES, Profile, StackStatus
from huatuo.model.units import show_amount
from huatuo.serve.selector import EXAMPLE, parse_selector
from huatuo.store.profiles import ProfileQuery, ProfileStore

__all__ = ["add_output", "configure", "run", "show_profile"]

_SHOWN_VALUES = 4  # of each label


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="?", choices=[*PROFILE_TYPES], metavar="TYPE",
                        help=f"{', '.join(PROFILE_TYPES)}; without it all are listed")  # fmt: skip
    parser.add_argument("--select", default="", metavar="SELECTOR",
                        help=f"only samples with these labels: {EXAMPLE}")  # fmt: skip
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """How a profile is shown: `show_profile` reads it."""
    parser.add_argument("--top", type=int, default=20, metavar="N",
                        help="so many functions (default: 20)")  # fmt: skip
    parser.add_argument("--format", choices=[*FORMATS], help="write the whole profile in a format")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                        help="where to with --format (default: the standard output)")  # fmt: skip
    parser.add_argument("--tui", action="store_true", help="as a flame graph in the terminal")


def run(store: ProfileStore, arguments: argparse.Namespace, start: int, end: int) -> int:
    matchers = parse_selector(arguments.select)
    if not arguments.type:
        if arguments.format:
            raise UsageError("--format needs a type, for example: huatuo query profiles cpu")
        queries = [ProfileQuery(n, start, end, matchers) for n in store.types(start, end)]
        return _list(store, queries, arguments.json)
    return show_profile(store.merge(ProfileQuery(arguments.type, start, end, matchers)), arguments)


def show_profile(profile: Profile, arguments: argparse.Namespace) -> int:
    """As the options of `add_output` want it. Returns the exit code."""
    if arguments.tui:
        from huatuo.cli.flame_tui import FlameApp  # takes half a second to import

        FlameApp(profile, _summary(profile)).run()
        return 0
    if arguments.format:
        return _write(FORMATS[arguments.format].write(profile), arguments.output)
    return _top(profile, arguments.top, arguments.json)


def _list(store: ProfileStore, queries: list[ProfileQuery], as_json: bool) -> int:
    found = []
    for query in queries:
        profile = store.merge(query)
        if profile.samples:
            found.append((profile.type, profile, store.labels(query)))
    if as_json:
        print_json(
            [
                {"type": kind.name, "title": kind.title, "unit": kind.unit,
                 "samples": profile.samples, "total": profile.total, "labels": labels}
                for kind, profile, labels in found
            ]
        )  # fmt: skip
    elif not found:
        print("no profiles in this time; try a longer --since")
    else:
        rows = [
            [kind.name, kind.title, str(profile.samples), show_amount(kind.unit, profile.total),
             " ".join(f"{name}={_some(values)}" for name, values in labels.items())]
            for kind, profile, labels in found
        ]  # fmt: skip
        print(table(rows, ["TYPE", "TITLE", "SAMPLES", "TOTAL", "LABELS"]))
    return 0


def _some(values: list[str]) -> str:
    shown = ",".join(values[:_SHOWN_VALUES])
    more = len(values) - _SHOWN_VALUES
    return f"{shown},… ({more} more)" if more > 0 else shown


def _top(profile: Profile, count: int, as_json: bool) -> int:
    tree = flame_tree([profile])
    own, total = (column[:, 0] for column in sums(tree))
    named = np.array([bool(function.name) for function in tree.functions])  # not the root
    ranked = np.lexsort((-total, -own))
    chosen = ranked[named[ranked] & (total[ranked] > 0)][:count].tolist()
    whole = profile.total
    if as_json:
        functions = [
            {"function": tree.functions[n].name, "kind": tree.functions[n].kind,
             "mapping": tree.functions[n].mapping, "self": int(own[n]), "total": int(total[n])}
            for n in chosen
        ]  # fmt: skip
        document: dict[str, Any] = {
            "type": profile.type.name, "unit": profile.type.unit, "samples": profile.samples,
            "total": whole, "statuses": dict(profile.statuses), "functions": functions,
        }  # fmt: skip
        print_json(document)
        return 0
    if not whole:
        print(f"no samples of {profile.type.title} in this time; try a longer --since")
        return 0
    print(_summary(profile))
    unit = profile.type.unit
    rows = [
        [show_amount(unit, own[n]), f"{own[n] / whole:.1%}", show_amount(unit, total[n]),
         f"{total[n] / whole:.1%}", tree.functions[n].mapping, tree.functions[n].name]
        for n in chosen
    ]  # fmt: skip
    print(table(rows, ["SELF", "", "TOTAL", "", "IN", "FUNCTION"]))
    return 0


def _summary(profile: Profile) -> str:
    kind, statuses = profile.type, profile.statuses
    complete = statuses.get(StackStatus.COMPLETE, 0) / profile.total
    others = sorted((-value, why) for why, value in statuses.items() if value)
    reasons = [
        f"{-value / profile.total:.1%} {why.replace('_', ' ')}"
        for value, why in others
        if why != StackStatus.COMPLETE
    ]
    return (
        f"{kind.title}: {show_amount(kind.unit, profile.total)} in {profile.samples} samples, "
        f"{complete:.1%} of it in complete stacks" + (f" ({', '.join(reasons)})" if reasons else "")
    )


def _write(data: bytes, output: Path | None) -> int:
    if output is None:
        if sys.stdout.isatty() and b"\0" in data[:1000]:
            raise UsageError("this format is not for a terminal; use -o FILE")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    try:
        output.write_bytes(data)
    except OSError as error:
        raise HuatuoError(f"{output}: cannot be written: {error.strerror}") from error
    return 0
