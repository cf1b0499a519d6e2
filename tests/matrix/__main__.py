"""python -m tests.matrix: test, list, fetch, run and probe the kernels of the matrix."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import probe, suite, vm
from .fetch import fetch
from .kernels import KERNELS, Kernel, MatrixError, find, installed


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        if arguments.action == "list":
            return _list()
        if arguments.action == "fetch":
            return _fetch([find(name) for name in arguments.kernels], refresh=arguments.refresh)
        if arguments.action == "probe":
            return _probe([find(name) for name in arguments.kernels])
        if arguments.action == "test":
            return _test(arguments)
        return _run(arguments)
    except MatrixError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return vm.TROUBLE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    every = [kernel.name for kernel in KERNELS]
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="show the kernels, and which of them are here")
    fetching = actions.add_parser("fetch", help="download kernels that are not here yet")
    fetching.add_argument("kernels", nargs="*", default=every)
    fetching.add_argument("--refresh", action="store_true", help="get the newest package again")
    probing = actions.add_parser("probe", help="show what each kernel can do, as a table")
    probing.add_argument("kernels", nargs="*", default=every)
    testing = actions.add_parser("test", help="huatuo check and the live tests on each kernel")
    testing.add_argument("kernels", nargs="*", default=every)
    testing.add_argument("--accept", action="store_true", help="take what check says as expected")
    testing.add_argument("--only", nargs="+", default=["tests/live"], metavar="TEST")
    testing.add_argument("--results", type=Path, default=suite.RESULTS, metavar="FOLDER")
    running = actions.add_parser("run", help="run a command inside one kernel")
    running.add_argument("--kernel", required=True)
    running.add_argument("--cgroup", choices=("v2", "hybrid", "v1"), default="v2")
    running.add_argument("--memory", default="1500M")
    running.add_argument("--cpus", type=int, default=2)
    running.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")
    running.add_argument("--results", type=Path, help="a folder to share as $HUATUO_RESULTS")
    running.add_argument("--boot-arguments", default="", help="more kernel parameters")
    running.add_argument("command", nargs="+")
    return parser


def _list() -> int:
    for kernel in KERNELS:
        files = installed(kernel)
        state = f"{files.release}  {files.version}" if files else "not fetched"
        print(f"{kernel.name:6}{kernel.suite:10}{state}")
    return 0


def _fetch(kernels: Sequence[Kernel], *, refresh: bool) -> int:
    for kernel in kernels:
        files = fetch(kernel, refresh=refresh)
        print(f"{kernel.name:6}{files.release}  {files.version}  {files.directory}", flush=True)
    return 0


def _probe(kernels: Sequence[Kernel]) -> int:
    for line in probe.table([probe.ask(kernel) for kernel in kernels]):
        print(line)
    return 0


def _test(arguments: argparse.Namespace) -> int:
    kernels = [find(name) for name in arguments.kernels]
    if (reason := vm.missing()) is not None:
        raise MatrixError(reason)
    outcomes = []
    for kernel in kernels:
        print(f"kernel {fetch(kernel).release}", flush=True)
        began = time.monotonic()

        def show(line: str, began: float = began) -> None:
            print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

        outcomes.append(
            suite.run(
                kernel,
                results=arguments.results / kernel.name,
                on_line=show,
                selection=arguments.only,
                accept=arguments.accept,
            )
        )
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"\nkernel {outcome.kernel}: {problem}")
        for reason, count in outcome.skips.most_common():
            print(f"kernel {outcome.kernel}: {count} skipped: {reason}")
    print("\n" + "\n".join(suite.table(outcomes)), flush=True)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _run(arguments: argparse.Namespace) -> int:
    result = vm.run(
        arguments.kernel,
        arguments.command,
        cgroup=arguments.cgroup,
        memory=arguments.memory,
        cpus=arguments.cpus,
        timeout_seconds=arguments.timeout,
        results=arguments.results,
        on_line=lambda line: print(line, flush=True),
        boot_arguments=arguments.boot_arguments,
    )
    boot = result.boot_seconds
    print(
        f"matrix: kernel {arguments.kernel}",
        "did not boot" if boot is None else f"booted in {boot:.1f} s",
        f"and ended with {result.returncode} after {result.seconds:.1f} s",
        file=sys.stderr,
    )
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
