"""Work that may not happen in the agent: a function of ours in a process of its own.

For what needs much memory for a moment, or digests files of strangers: the process is fresh, has
limits of CPU, time, memory and file size, runs at the lowest priority, and whatever kills it kills
only it. Nothing else is ever started: not a shell, not a program that somebody names.

    agent: Worker(function, arguments, fds)  →  python -m huatuo.kernel.worker
    there: function(**arguments)             →  what it yields, one JSON line each
    agent: poll() or `await outcome()`       ←
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from huatuo.kernel.host import Host

__all__ = ["Limits", "Outcome", "Worker", "allow_cpu", "allow_memory", "give_up_privileges"]

_NOBODY = 65534
_MOST_SAID = 400  # bytes of stderr that become the problem
_MOST_RESULTS = 4 << 20


class Limits(NamedTuple):
    """`memory_bytes` is what it may allocate (RLIMIT_DATA): files it maps do not count."""

    cpu_seconds: int = 60
    wall_seconds: int = 300
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 30  # the largest file it may write
    nice: int = 19  # 0 where somebody waits for it


@dataclass(frozen=True, slots=True)
class Outcome:
    """`results`: what the function yielded, also before it failed; `problem`: why, or "".

    `peak_bytes` is the most memory it had, 0 if it was killed.
    """

    results: list[object]
    problem: str
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


class Worker:
    """A running process. `function` is a top-level function of huatuo that yields JSON values.

    `arguments` are JSON values too; `fds` are open in the process under the same numbers.
    """

    def __init__(
        self,
        function: Callable[..., Iterable[object]],
        arguments: Mapping[str, object],
        fds: Sequence[int] = (),
        limits: Limits = Limits(),  # noqa: B008  (immutable)
    ) -> None:
        self._begin = time.monotonic()
        self._deadline = self._begin + limits.wall_seconds
        self._late = False
        self._outcome: Outcome | None = None
        # Files in memory, not pipes: a process that says more than expected is not blocked by it.
        self._out = os.memfd_create("worker-results")
        self._err = os.memfd_create("worker-messages")
        call = f"{function.__module__}:{function.__qualname__}"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, call, json.dumps(limits), json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                pass_fds=fds,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # its buffers per CPU count too
            )
            self._pidfd = self._watched()
        except BaseException:
            os.close(self._out)
            os.close(self._err)
            raise

    def _watched(self) -> int:
        try:
            return os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Readable once the process has ended: for select, and for event loops."""
        return self._pidfd

    def poll(self) -> Outcome | None:
        """The outcome, or None while it runs. Ends it when its time is over: call it often."""
        if self._outcome is not None:
            return self._outcome
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if not pid:
            if time.monotonic() > self._deadline and not self._late:
                self._late = True
                self._process.kill()
            return None
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        results, peak, garbled = self._results()
        self._outcome = Outcome(
            results,
            self._problem(code) or garbled,
            usage.ru_utime + usage.ru_stime,
            time.monotonic() - self._begin,
            peak,
        )
        for fd in (self._out, self._err, self._pidfd):
            os.close(fd)
        return self._outcome

    async def outcome(self) -> Outcome:
        """Waits for the end; a cancelled wait leaves the process running."""
        while (found := self.poll()) is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._pidfd, ended.set)
            try:
                # wait_for of Python 3.11 forgets a cancellation that comes with the end
                async with asyncio.timeout(max(self._deadline - time.monotonic(), 0.01)):
                    await ended.wait()
            except TimeoutError:
                pass
            finally:
                loop.remove_reader(self._pidfd)
        return found

    def kill(self) -> Outcome:
        """End it now."""
        while (found := self.poll()) is None:
            self._process.kill()
            time.sleep(0.001)
        return found

    def _results(self) -> tuple[list[object], int, str]:
        """(what was yielded, peak of memory, problem): what it digested may have been hostile."""
        found: list[object] = []
        peak = 0
        whole = os.pread(self._out, _MOST_RESULTS, 0).rpartition(b"\n")[0]
        try:
            for line in whole.splitlines():
                match json.loads(line):
                    case [result]:
                        found.append(result)
                    case int(number):
                        peak = number
                    case _:
                        raise ValueError("neither a result nor a number")
        except (ValueError, RecursionError):
            return found, peak, "its results cannot be read"
        return found, peak, ""

    def _problem(self, code: int) -> str:
        if code == 0:
            return ""
        if self._late:
            return "took too long"
        size = os.fstat(self._err).st_size
        said = os.pread(self._err, _MOST_SAID, max(size - _MOST_SAID, 0)).decode(errors="replace")
        last = (said.strip().splitlines() or [""])[-1]
        if code > 0:
            return last or f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return {"SIGXCPU": "used too much CPU time", "SIGXFSZ": "wrote too large a file"}.get(
            name, f"was killed by {name}{f' ({last})' if last else ''}"
        )


def give_up_privileges() -> None:
    """For a function that has opened what it needs and now looks inside: root becomes nobody.

    Where there is no such user (some user namespaces) nothing changes; the limits hold anyway.
    """
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        pass


def allow_cpu(seconds: int) -> None:
    """That many more seconds of CPU time from now: for a function that has several things to do."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most)
    )


def allow_memory(more: int) -> None:
    """So many bytes more than before, or fewer. Without a limit nothing changes."""
    soft, most = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (soft + more, most))


def _limit(limits: Limits) -> None:
    os.nice(limits.nice)
    signal.alarm(limits.wall_seconds + 1)  # should the agent be gone
    for what, soft in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
    ):
        resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def _main(call: str, limits: str, arguments: str) -> None:
    _limit(Limits(*json.loads(limits)))
    module, _, name = call.partition(":")
    if module.partition(".")[0] != "huatuo":
        sys.exit(f"{call} is none of ours")
    function = getattr(importlib.import_module(module), name)
    try:
        for result in function(**json.loads(arguments)):
            _say([result])
    finally:
        _say(_peak_bytes())


def _say(value: object) -> None:
    """A result in a list of its own; a number alone is the peak of memory."""
    os.write(sys.stdout.fileno(), json.dumps(value).encode() + b"\n")


def _peak_bytes() -> int:
    """(Not ru_maxrss: that of a new process begins with what its parent had.)"""
    host = Host()
    for line in host.read(host.proc / "self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    _main(*sys.argv[1:])
