"""Entry of the `huatuo` command: gives the command line what stands to the right of it."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's BLAS is not used; it allocates per CPU

from huatuo.cli import main as command_line  # noqa: E402


def main() -> None:
    """Run the command line; never returns."""
    sys.exit(command_line(sys.argv[1:], run_agent=_run_agent))


def _run_agent(*arguments: object) -> None:
    from huatuo.agent import run  # only `huatuo run` needs the agent

    run(*arguments)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
