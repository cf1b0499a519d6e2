"""The command line: one module per subcommand.

A subcommand's module has `configure(parser)` and `run(arguments) -> exit code`; its docstring's
first line is its help. Only the one that is called is imported. Text is for people, --json for
programs; errors are one line on stderr. Exit codes: 0 done, 1 failed, 2 usage or configuration,
3 the kernel or the privileges lack something.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from huatuo.errors import BpfError, HuatuoError

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    *("run", "probes", "check", "trace", "collect", "profile", "sched", "io", "net", "mem"),
    *("top", "query", "triggers", "incidents", "incident", "capture", "config"),
)


def main(argv: Sequence[str], run_agent: Callable[..., None] | None = None) -> int:
    """Run one command; returns its exit code. `run_agent` is what `huatuo run` calls."""
    parser = argparse.ArgumentParser(
        prog="huatuo",
        description="Deep observability for Linux hosts and containers, from inside the kernel.",
        epilog="`huatuo COMMAND --help` explains a command. Start with: huatuo run",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    wanted = next((word for word in argv if not word.startswith("-")), "")
    for name in COMMANDS:
        summary = _summary(name)
        sub = commands.add_parser(
            name, help=summary[0].lower() + summary[1:].rstrip("."), description=summary
        )
        if name == wanted:
            module = importlib.import_module(f"huatuo.cli.{name}")
            module.configure(sub)
            sub.add_argument("--json", action="store_true", help="print JSON, for programs")
            sub.add_argument(
                "--verbose", action="store_true", help="also print what the kernel said"
            )
            sub.set_defaults(call=module.run, run_agent=run_agent)
    arguments = parser.parse_args(argv)
    if arguments.version:
        from importlib.metadata import version

        print(f"huatuo {version('huatuo')}")
        return 0
    if not arguments.command:
        parser.print_help()
        return 2
    return _call(arguments)


def _call(arguments: argparse.Namespace) -> int:
    try:
        return int(arguments.call(arguments))
    except HuatuoError as error:
        print(f"huatuo: {error}", file=sys.stderr)
        if arguments.verbose and isinstance(error, BpfError) and error.log:
            print(error.log, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        return 0
    except KeyboardInterrupt:
        return 130


def _summary(name: str) -> str:
    """First line of a command module's docstring, without importing it."""
    source = (Path(__file__).parent / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or name).splitlines()[0]
