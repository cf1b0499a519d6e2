"""Runs one command in a virtual machine, with the host's files under it and its output live."""

from __future__ import annotations

import codecs
import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from . import initramfs
from .fetch import fetch
from .kernels import Installed, Kernel, MatrixError, find

__all__ = ["TIMED_OUT", "TROUBLE", "Cgroup", "Result", "missing", "run"]

Cgroup = Literal["v2", "hybrid", "v1"]

QEMU = "qemu-system-x86_64"
TIMED_OUT = 124
TROUBLE = 125
CONSOLE_LINES = 40
CRASH = re.compile(r"Kernel panic|BUG:|Oops|general protection fault")
CRASH_LINES = 200
CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = "/run/results"
# The counter is the same on all emulated CPUs; the other clocks cost a trip to the emulator.
BOOT_ARGUMENTS = (
    "console=ttyS0 loglevel=4 panic=-1 mitigations=off tsc=reliable no_timer_check "
    "random.trust_cpu=on"
)
PASSED_ON = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
PASSED_ON_PREFIXES = ("HUATUO_", "PYTHON", "PYTEST_")


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in a guest ended.

    `returncode` is the command's, or TIMED_OUT, or TROUBLE when the machine itself failed; for
    the latter two `output` ends with the last lines of the console. `boot_seconds` is the part of
    `seconds` before the command started, None if it never did.
    """

    returncode: int
    output: str
    seconds: float
    boot_seconds: float | None


def missing() -> str | None:
    """Why no machine can be run here, or None."""
    if os.uname().machine != "x86_64":
        return "the matrix has amd64 kernels only"
    for tool, package in ((QEMU, "qemu-system-x86"), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: {package})"
    return None


def run(
    kernel: Kernel | str,
    argv: Sequence[str],
    *,
    cgroup: Cgroup = "v2",
    memory: str = "1500M",
    cpus: int = 2,
    timeout_seconds: float = 300.0,
    results: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    boot_arguments: str = "",
) -> Result:
    """Runs a command as root inside a machine with that kernel, in the checkout's directory.

    The command sees the host's files; what it writes is gone afterwards, except below
    $HUATUO_RESULTS, which is `results` on the host. `on_line` gets each line as it comes.
    """
    if (reason := missing()) is not None:
        raise MatrixError(f"cannot run kernel {kernel}: {reason}")
    kernel = find(kernel) if isinstance(kernel, str) else kernel
    files = fetch(kernel)
    nonce = secrets.token_hex(16)
    settings = {
        "nonce": nonce,
        "directory": str(CHECKOUT),
        "prefix": str(Path(sys.prefix).resolve()),
        "modules": str(files.modules),
        "results": RESULTS if results else "",
        "cgroup": cgroup,
        "host": "huatuo-" + kernel.name.replace(".", "-"),
    }
    environment = _environment(kernel, has_results=results is not None)
    with tempfile.TemporaryDirectory(prefix="huatuo-vm-") as work:
        archive = Path(work) / "initramfs"
        archive.write_bytes(
            initramfs.build(files, _assignments(settings), _run_function(environment, argv))
        )
        console = Path(work) / "console"
        line = _qemu_command(files, archive, console, memory, cpus, results, boot_arguments)
        guest = _Guest(nonce, on_line)
        with console.open("ab") as log:
            code = guest.watch(line, log, time.monotonic() + timeout_seconds)
        if code is None or code == TIMED_OUT:
            guest.show_console(console, timed_out=code == TIMED_OUT)
        return guest.result(TROUBLE if code is None else code)


@dataclass(slots=True)
class _Guest:
    """Reads one machine's output: the command's lines, and the notes job.sh puts between them."""

    nonce: str
    on_line: Callable[[str], None] | None
    started: float = field(default_factory=time.monotonic)
    booted: float | None = None
    code: int | None = None
    lines: list[str] = field(default_factory=list)
    partial: str = ""

    def watch(self, command: Sequence[str], log: IO[bytes], deadline: float) -> int | None:
        """Runs the machine until its command has ended; None if the machine died before."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        try:
            while self.code is None:
                left = max(0.0, deadline - time.monotonic())
                if not select.select([process.stdout], [], [], left)[0]:
                    return TIMED_OUT
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    return None
                self._feed(decode(data))
            return self.code
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def show_console(self, console: Path, *, timed_out: bool) -> None:
        """Adds the end of the kernel's log, for a machine that did not finish."""
        if self.partial:
            self._feed("\n")
        what = "timed out" if timed_out else "died"
        when = "booting" if self.booted is None else "running the command"
        text = console.read_text(errors="replace").replace("\r", "")
        lines = [line for line in text.splitlines() if line.strip()]
        shown = lines[_first_shown(lines) :]
        self._emit(f"matrix: the machine {what} while {when}; end of its console:")
        for line in shown or ["(empty)"]:
            self._emit(f"console: {line}")

    def result(self, code: int) -> Result:
        now = time.monotonic()
        boot = None if self.booted is None else self.booted - self.started
        text = "".join(f"{line}\n" for line in self.lines)
        return Result(code, text, now - self.started, boot)

    def _feed(self, text: str) -> None:
        *complete, self.partial = (self.partial + text).split("\n")
        for line in complete:
            before, note, after = line.partition(f"\x1e{self.nonce} ")
            if not note:
                self._emit(line)
                continue
            if before:
                self._emit(before)
            if after == "started":
                self.booted = time.monotonic()
            else:
                self.code = int(after)

    def _emit(self, line: str) -> None:
        self.lines.append(line)
        if self.on_line is not None:
            self.on_line(line)


def _first_shown(lines: Sequence[str]) -> int:
    """Where the end of a console worth showing begins: with a crash, its first line."""
    first = max(0, len(lines) - CONSOLE_LINES)
    crash = next((at for at, line in enumerate(lines) if CRASH.search(line)), first)
    return max(min(first, crash), len(lines) - CRASH_LINES)


def _environment(kernel: Kernel, *, has_results: bool) -> dict[str, str]:
    """The command's environment: what leads to programs, and what speaks to tests."""
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    chosen.pop("HUATUO_RESULTS", None)
    if has_results:
        chosen["HUATUO_RESULTS"] = RESULTS
    # The guest's user is root, whose tools a plain user's PATH may lack.
    chosen["PATH"] = chosen.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return {"TERM": "dumb", **chosen, "HUATUO_KERNEL": kernel.name}


def _assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _run_function(environment: Mapping[str, str], argv: Sequence[str]) -> str:
    """Shell text defining `run`: the command with exactly this environment."""
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return f"run() {{\n    exec env -i {shlex.join([*pairs, *argv])}\n}}\n"


def _qemu_command(
    files: Installed,
    archive: Path,
    console: Path,
    memory: str,
    cpus: int,
    results: Path | None,
    boot_arguments: str,
) -> list[str]:
    command = [
        *("setpriv", "--pdeathsig", "KILL"),  # a killed test run leaves no machine behind
        *(QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max"),
        *("-smp", str(cpus), "-m", memory),
        *("-kernel", str(files.image), "-initrd", str(archive)),
        *("-append", f"{BOOT_ARGUMENTS} {boot_arguments}"),
        *("-chardev", f"file,id=console,append=on,path={_escaped(console)}"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-serial-pci", "-chardev", "file,id=output,path=/dev/stdout"),
        *("-device", "virtserialport,chardev=output,name=output"),
        # A real driver and a port that reports errors, for network and AER tests; no way out.
        *("-netdev", "user,id=net,restrict=on", "-device", "pcie-root-port,id=express"),
        *("-device", "virtio-net-pci,bus=express,netdev=net,aer=on,romfile="),
        # A disk with a health log, for tests that load its driver.
        *("-blockdev", "null-co,node-name=nothing,size=67108864,read-zeroes=on"),
        *("-device", "nvme,serial=huatuo,drive=nothing"),
        *_shared("root", Path("/"), "readonly=on"),
    ]
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        command += _shared("results", results.resolve(), "readonly=off")
    return command


def _shared(tag: str, path: Path, access: str) -> list[str]:
    options = f"local,id={tag},path={_escaped(path)},security_model=none,multidevs=remap,{access}"
    return ["-fsdev", options, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _escaped(path: Path) -> str:
    """A path for an option of qemu's, where a comma is written twice."""
    return str(path).replace(",", ",,")
