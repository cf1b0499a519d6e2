"""Why threads wait: judged from the kernel stacks of threads that are made to wait here."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.enrich.waits import is_lock_call, reason_of, subsystem_of


def sleeping() -> None:
    time.sleep(30)


def in_pipe() -> None:
    read, _write = os.pipe()
    os.read(read, 1)


def in_socket() -> None:
    ours, _theirs = socket.socketpair()
    ours.recv(1)


def in_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        client.recv(1)


def in_accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.accept()


def in_poll() -> None:
    read, _write = os.pipe()
    poller = select.poll()
    poller.register(read)
    poller.poll()


def in_epoll() -> None:
    select.epoll().poll()


def in_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def for_child() -> None:
    with subprocess.Popen(["sleep", "30"]) as child:
        child.wait()


def for_signal() -> None:
    signal.sigwait([signal.SIGUSR1])


WAITS: list[tuple[Callable[[], None], str]] = [
    (sleeping, "sleep"),
    (in_pipe, "pipe"),
    (in_socket, "network"),
    (in_tcp, "network"),
    (in_accept, "network"),
    (in_poll, "poll"),
    (in_epoll, "poll"),
    (in_lock, "lock"),
    (for_child, "child"),
    (for_signal, "signal"),
]


@contextmanager
def child(work: Callable[[], None]) -> Iterator[int]:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        for one in (*children(pid), pid):
            os.kill(one, signal.SIGKILL)
        os.waitpid(pid, 0)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stack(pid: int) -> list[str]:
    """Functions as /proc says them, innermost first. Root only."""
    lines = Path(f"/proc/{pid}/stack").read_text().splitlines()
    return [line.split()[1].partition("+")[0] for line in lines]


@pytest.mark.skipif(os.geteuid() != 0, reason="kernel stacks of processes are root's to read")
@pytest.mark.parametrize(
    ("work", "reason"), WAITS, ids=lambda value: getattr(value, "__name__", value)
)
def test_reasons_of_real_waits(work: Callable[[], None], reason: str) -> None:
    with child(work) as pid:
        found: list[str] = []
        for _ in range(100):
            time.sleep(0.05)
            found = stack(pid)
            if reason_of(found) == reason:
                return
        raise AssertionError(f"{reason_of(found)}: {found}")


def test_who_is_runnable_waits_in_the_run_queue() -> None:
    assert reason_of(["futex_wait_queue"], is_runnable=True) == "run queue"
    assert reason_of(["nobody_knows_this"]) == "other"


def test_the_outermost_part_of_the_kernel_is_the_one_at_work() -> None:
    send = ["__alloc_skb", "sock_alloc_send_pskb", "unix_stream_sendmsg", "__sys_sendto"]
    assert subsystem_of([*send, "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]) == "network"
    read = ["copy_page_to_iter", "filemap_read", "ext4_file_read_iter", "vfs_read", "ksys_read"]
    assert subsystem_of(read) == "fs"
    assert subsystem_of(["clear_page_erms", "handle_mm_fault", "exc_page_fault"]) == "mm"
    assert subsystem_of([]) == ""


def test_calls_that_take_locks() -> None:
    assert is_lock_call(["__futex_abstimed_wait_common", "pthread_mutex_lock@@GLIBC_2.2.5"])
    assert not is_lock_call(["pthread_cond_wait@@GLIBC_2.3.2", "main"])
