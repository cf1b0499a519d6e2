"""Asks each kernel what it can do, as one Markdown table: hooks, modules, cgroup controllers."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import vm
from .fetch import fetch
from .kernels import Kernel, MatrixError

__all__ = ["Answer", "ask", "table"]

GUEST = Path(__file__).parent / "guest"
NUMPY_IMPORT = "import time; s = time.monotonic(); import numpy; print(time.monotonic() - s)"
# What tests and injectors are expected to use.
MODULES = (
    *("sch_netem", "sch_tbf", "ifb", "dummy", "veth", "bonding", "team", "drop_monitor"),
    *("null_blk", "scsi_debug", "dm-delay", "dm-flakey", "loop", "ext4", "xfs", "btrfs"),
    *("mce-inject", "aer_inject", "hwpoison-inject", "nf_tables", "virtio_net"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one kernel said; hooks and modules map a name to "ok" or the refusal."""

    kernel: Kernel
    version: str
    boot_seconds: float
    numpy_seconds: float | None
    hooks: Mapping[str, str]
    modules: Mapping[str, str]
    controllers: Sequence[str]


def ask(kernel: Kernel) -> Answer:
    """Boots the kernel once and tries everything in it."""
    files = fetch(kernel)
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        _compile(GUEST / "attach.bpf.c", shared / "attach.bpf.o")
        script = f'"$0" -c "{NUMPY_IMPORT}" 2>/dev/null || echo; "$0" "$@"'
        attach = (str(GUEST / "attach.py"), f"{vm.RESULTS}/attach.bpf.o", *MODULES)
        argv = ("sh", "-c", script, sys.executable, *attach)
        result = vm.run(kernel, argv, results=shared)
    if result.returncode != 0 or result.boot_seconds is None:
        raise MatrixError(f"probing kernel {kernel.name} failed:\n{result.output}")
    numpy_seconds, *_, answer = result.output.splitlines()
    return Answer(
        kernel,
        files.version,
        result.boot_seconds,
        float(numpy_seconds) if numpy_seconds else None,
        **json.loads(answer),
    )


def table(answers: Sequence[Answer]) -> Iterator[str]:
    """Lines of a Markdown table with a column for each kernel."""
    yield _row("kernel", [answer.kernel.name for answer in answers])
    yield _row("---", ["---"] * len(answers))
    yield _row("Debian package", [answer.version for answer in answers])
    yield _row("boot to command", [f"{answer.boot_seconds:.1f} s" for answer in answers])
    yield _row(
        "first `import numpy`",
        ["-" if a.numpy_seconds is None else f"{a.numpy_seconds:.1f} s" for a in answers],
    )
    for name in answers[0].hooks:
        yield _row(f"hook {name}", [answer.hooks[name] for answer in answers])
    for name in answers[0].modules:
        yield _row(f"module {name}", [answer.modules[name] for answer in answers])
    controllers = sorted({name for answer in answers for name in answer.controllers})
    for name in controllers:
        cells = ["ok" if name in answer.controllers else "absent" for answer in answers]
        yield _row(f"cgroup v2 {name}", cells)


def _row(name: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join((name, *cells)) + " |"


def _compile(source: Path, target: Path) -> None:
    multiarch = sysconfig.get_config_var("MULTIARCH")
    command = ["clang", "-O2", "-g", "-Wall", "-Werror", "-target", "bpf"]
    if multiarch:
        command.append(f"-I/usr/include/{multiarch}")
    try:
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MatrixError(f"cannot compile {source.name}: {error}") from error
