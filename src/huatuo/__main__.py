"""Entry of the `huatuo` command: gives the command line what stands to the right of it."""

from __future__ import annotations

import os
import resource
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's BLAS is not used; it allocates per CPU

from huatuo.cli import main as command_line

_OPEN_FILES = 8192


def main() -> None:
    """Run the command line; never returns."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))  # readers keep cgroup files open
    sys.exit(command_line(sys.argv[1:], run_agent=_run_agent))


def _run_agent(*arguments: object) -> None:
    from huatuo.agent import run  # only `huatuo run` needs the agent

    run(*arguments)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
