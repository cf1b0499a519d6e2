"""What kernel functions on a stack say: why a thread waits, and whose code runs.

The names are those of Linux 5.10 to 7.x; a stack is judged by its innermost function that is known
here (why it waits) or its outermost (which part of the kernel works).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["is_lock_call", "reason_of", "subsystem_of"]


class _Names:
    """Names of functions → a word; what ends with * is a beginning."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._exact: dict[str, str] = {}
        self._beginnings: list[tuple[str, str]] = []
        for word, names in rules.items():
            for name in names.split():
                if name.endswith("*"):
                    self._beginnings.append((name[:-1], word))
                else:
                    self._exact[name] = word

    def of(self, function: str) -> str:
        found = self._exact.get(function)
        if found is None:
            begins = (word for start, word in self._beginnings if function.startswith(start))
            found = self._exact[function] = next(begins, "")
        return found


_REASONS = _Names(
    {
        "lock": """
            futex_* __futex_* do_futex rwsem_down_* __mutex_lock* mutex_lock* down_read*
            down_write* percpu_rwsem_wait rt_mutex_* __rt_mutex_*
        """,
        "disk": """
            io_schedule* blk_* bio_* submit_bio* wait_on_page_bit* folio_wait_* wait_on_buffer
            __wait_on_buffer jbd2_* xfs_* ext4_* btrfs_* balance_dirty_pages* io_cqring_wait
            read_events do_io_getevents
        """,
        "page": """
            do_swap_page swap_* shrink_* try_to_free_* mem_cgroup_* __alloc_pages*
            throttle_direct_reclaim compact_* kswapd*
        """,
        "poll": "ep_poll do_epoll_wait do_poll* do_sys_poll do_select core_sys_select",
        "network": """
            sk_wait_data sk_stream_wait_* inet_csk_* inet_stream_connect tcp_* unix_*
            __skb_wait_for_more_packets sock_* udp_* netlink_* inet_*
        """,
        "pipe": "pipe_* anon_pipe_* fifo_* wait_for_partner",
        "child": "do_wait kernel_wait4 kernel_waitid",
        "sleep": "hrtimer_nanosleep do_nanosleep common_nsleep* msleep*",
        "signal": "do_sigtimedwait* sigsuspend __x64_sys_pause do_signal_stop ptrace_*",
        "terminal": "n_tty_* tty_*",
    }
)

_SUBSYSTEMS = _Names(
    {
        "network": """
            net_* napi_* __napi_* tcp_* udp* ip_* ip6_* ipv6_* inet* sock_* __sys_send*
            __sys_recv* __sys_connect* __sys_accept* skb_* unix_* netlink_* dev_* __dev_*
            process_backlog nf_* sk_*
        """,
        "block": "blk_* __blk_* bio_* submit_bio* nvme_* scsi_* virtblk_* loop_*",
        "fs": """
            vfs_* ksys_* do_sys_open* do_filp_open path_* filename_* iterate_dir ext4_* xfs_*
            btrfs_* ovl_* jbd2_* nfs_* fuse_* wb_workfn do_fsync
        """,
        "mm": """
            exc_page_fault do_user_addr_fault handle_mm_fault asm_exc_page_fault do_mmap
            vm_mmap* __vm_munmap do_munmap __x64_sys_m*map __do_sys_brk do_mprotect* kswapd
            shrink_* kcompactd khugepaged exit_mmap mmput __mmput kdamond*
        """,
        "process": "kernel_clone do_exit do_group_exit do_execve* bprm_execve do_wait",
        "scheduler": "schedule* __schedule* do_sched_* sched_* futex_* do_futex",
        "poll": "do_epoll_* ep_* do_sys_poll do_select core_sys_select",
        "timer": "hrtimer_* do_nanosleep run_timer_* tick_* __x64_sys_clock_*",
        "bpf": "bpf_* __sys_bpf __x64_sys_bpf",
        "interrupt": "asm_*_interrupt handle_softirqs __do_softirq run_ksoftirqd irq_*",
        "workqueue": "process_one_work worker_thread",
    }
)

_LOCK_CALLS = (
    "pthread_mutex_lock",
    "__pthread_mutex_lock",
    "___pthread_mutex_lock",
    "lll_lock_wait",
    "__lll_lock_wait",
    "___lll_lock_wait",
    "__GI___lll_lock_wait",
    "pthread_rwlock_",
    "pthread_spin",
    "__pthread_rwlock_",
    "___pthread_rwlock_",
    "pthread_mutex_timedlock",
    "PyThread_acquire_lock",
    "take_gil",
    "std::sys::sync::mutex",
    "parking_lot::",
    "std::sys::sync::rwlock",
)


def reason_of(functions: Sequence[str], is_runnable: bool = False) -> str:
    """Why a thread with this kernel stack, innermost first, is off the CPU."""
    if is_runnable:
        return "run queue"
    return _first(functions, _REASONS) or "other"


def subsystem_of(functions: Sequence[str]) -> str:
    """Which part of the kernel this stack, innermost first, is at work in; "" without one."""
    return (_first(reversed(functions), _SUBSYSTEMS) or "other") if functions else ""


def is_lock_call(functions: Iterable[str]) -> bool:
    """Whether one of these functions of user space takes a lock."""
    return any(function.startswith(_LOCK_CALLS) for function in functions)


def _first(functions: Iterable[str], names: _Names) -> str:
    return next((word for function in functions if (word := names.of(function))), "")
