/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * All system calls by name and kind, and all errors, as labels. A call that is not listed (nobody
 * has made it for years, or it is newer than this list) is shown by its number. From 424 on numbers
 * are the same on all architectures; those that the headers here may lack are repeated.
 */
#ifndef HUATUO_SYSCALLS_H
#define HUATUO_SYSCALLS_H

#include <asm/unistd.h>
#include <linux/errno.h>

#define __NR_set_mempolicy_home_node 450
#define __NR_cachestat 451
#define __NR_fchmodat2 452
#define __NR_map_shadow_stack 453
#define __NR_futex_wake 454
#define __NR_futex_wait 455
#define __NR_futex_requeue 456
#define __NR_statmount 457
#define __NR_listmount 458
#define __NR_lsm_get_self_attr 459
#define __NR_lsm_set_self_attr 460
#define __NR_lsm_list_modules 461
#define __NR_mseal 462
#define __NR_setxattrat 463
#define __NR_getxattrat 464
#define __NR_listxattrat 465
#define __NR_removexattrat 466
#define __NR_open_tree_attr 467
#define __NR_file_getattr 468
#define __NR_file_setattr 469

/* clang-format off */
#ifdef __NR_open /* arm64 has only the newer ones */
#define OLD_FILE_CALLS(X)                                                                  \
	X(open) X(creat) X(stat) X(lstat) X(access) X(pipe) X(dup2) X(getdents) X(rename)  \
	X(mkdir) X(rmdir) X(link) X(unlink) X(symlink) X(readlink) X(chmod) X(chown)       \
	X(lchown) X(utime) X(utimes) X(futimesat) X(mknod) X(ustat) X(sysfs) X(inotify_init)\
	X(eventfd) X(signalfd) X(epoll_create)
#define OLD_PROCESS_CALLS(X) X(fork) X(vfork) X(getpgrp)
#define OLD_WAIT_CALLS(X) X(poll) X(select) X(pause) X(epoll_wait)
#define OLD_OTHER_CALLS(X)                                                                 \
	X(time) X(alarm) X(modify_ldt) X(arch_prctl) X(iopl) X(ioperm) X(set_thread_area)  \
	X(get_thread_area)
#else
#define OLD_FILE_CALLS(X)
#define OLD_PROCESS_CALLS(X)
#define OLD_WAIT_CALLS(X)
#define OLD_OTHER_CALLS(X)
#endif

/* On descriptors and paths: `read` and `write` are here also where they are of a socket. */
#define FILE_CALLS(X)                                                                      \
	OLD_FILE_CALLS(X) X(read) X(write) X(close) X(fstat) X(lseek) X(ioctl) X(pread64)  \
	X(pwrite64) X(readv) X(writev) X(dup) X(sendfile) X(fcntl) X(flock) X(fsync)       \
	X(fdatasync) X(truncate) X(ftruncate) X(getcwd) X(chdir) X(fchdir) X(fchmod)       \
	X(fchown) X(statfs) X(fstatfs) X(sync) X(readahead) X(setxattr) X(lsetxattr)       \
	X(fsetxattr) X(getxattr) X(lgetxattr) X(fgetxattr) X(listxattr) X(llistxattr)      \
	X(flistxattr) X(removexattr) X(lremovexattr) X(fremovexattr) X(getdents64)         \
	X(fadvise64) X(io_setup) X(io_destroy) X(io_submit) X(io_cancel) X(epoll_ctl)      \
	X(inotify_add_watch) X(inotify_rm_watch) X(openat) X(mkdirat) X(mknodat) X(fchownat)\
	X(newfstatat) X(unlinkat) X(renameat) X(linkat) X(symlinkat) X(readlinkat)         \
	X(fchmodat) X(faccessat) X(splice) X(tee) X(sync_file_range) X(vmsplice)           \
	X(utimensat) X(timerfd_create) X(fallocate) X(timerfd_settime) X(timerfd_gettime)  \
	X(signalfd4) X(eventfd2) X(epoll_create1) X(dup3) X(pipe2) X(inotify_init1)        \
	X(preadv) X(pwritev) X(fanotify_init) X(fanotify_mark) X(name_to_handle_at)        \
	X(open_by_handle_at) X(syncfs) X(renameat2) X(copy_file_range) X(preadv2)          \
	X(pwritev2) X(statx) X(io_uring_setup) X(io_uring_register) X(open_tree)           \
	X(move_mount) X(fsopen) X(fsconfig) X(fsmount) X(fspick) X(close_range) X(openat2) \
	X(faccessat2) X(mount_setattr) X(quotactl_fd) X(umask) X(pivot_root) X(chroot)     \
	X(mount) X(umount2) X(quotactl) X(cachestat) X(fchmodat2) X(statmount) X(listmount)\
	X(setxattrat) X(getxattrat) X(listxattrat) X(removexattrat) X(open_tree_attr)      \
	X(file_getattr) X(file_setattr)

#define NETWORK_CALLS(X)                                                                   \
	X(socket) X(connect) X(accept) X(sendto) X(recvfrom) X(sendmsg) X(recvmsg)         \
	X(shutdown) X(bind) X(listen) X(getsockname) X(getpeername) X(socketpair)          \
	X(setsockopt) X(getsockopt) X(accept4) X(recvmmsg) X(sendmmsg)

#define MEMORY_CALLS(X)                                                                    \
	X(mmap) X(mprotect) X(munmap) X(brk) X(mremap) X(msync) X(mincore) X(madvise)      \
	X(mlock) X(munlock) X(mlockall) X(munlockall) X(remap_file_pages) X(mbind)         \
	X(set_mempolicy) X(get_mempolicy) X(migrate_pages) X(move_pages) X(memfd_create)   \
	X(userfaultfd) X(mlock2) X(pkey_mprotect) X(pkey_alloc) X(pkey_free)               \
	X(process_madvise) X(memfd_secret) X(process_mrelease) X(set_mempolicy_home_node)  \
	X(process_vm_readv) X(process_vm_writev) X(shmget) X(shmat) X(shmctl) X(shmdt)     \
	X(map_shadow_stack) X(mseal) X(swapon) X(swapoff)

/* Processes and threads: who they are, what they run, how they end, signals. */
#define PROCESS_CALLS(X)                                                                   \
	OLD_PROCESS_CALLS(X) X(clone) X(clone3) X(execve) X(execveat) X(exit) X(exit_group)\
	X(kill) X(tkill) X(tgkill) X(getpid) X(getppid) X(gettid) X(getuid) X(geteuid)     \
	X(getgid) X(getegid) X(setuid) X(setgid) X(setpgid) X(getpgid) X(setsid) X(getsid) \
	X(setreuid) X(setregid) X(getgroups) X(setgroups) X(setresuid) X(getresuid)        \
	X(setresgid) X(getresgid) X(setfsuid) X(setfsgid) X(capget) X(capset) X(prctl)     \
	X(prlimit64) X(getrlimit) X(setrlimit) X(getrusage) X(times) X(ptrace)             \
	X(personality) X(rt_sigaction) X(rt_sigprocmask) X(rt_sigreturn) X(rt_sigpending)  \
	X(rt_sigqueueinfo) X(rt_tgsigqueueinfo) X(sigaltstack) X(set_tid_address)          \
	X(set_robust_list) X(get_robust_list) X(rseq) X(unshare) X(setns) X(seccomp) X(kcmp)\
	X(pidfd_send_signal) X(pidfd_open) X(pidfd_getfd) X(restart_syscall)               \
	X(landlock_create_ruleset) X(landlock_add_rule) X(landlock_restrict_self)          \
	X(lsm_get_self_attr) X(lsm_set_self_attr) X(lsm_list_modules)

/* Made in order to wait for something. */
#define WAIT_CALLS(X)                                                                      \
	OLD_WAIT_CALLS(X) X(nanosleep) X(clock_nanosleep) X(wait4) X(waitid) X(futex)      \
	X(futex_waitv) X(futex_wake) X(futex_wait) X(futex_requeue) X(pselect6) X(ppoll)   \
	X(epoll_pwait) X(epoll_pwait2) X(io_getevents) X(io_pgetevents) X(io_uring_enter)  \
	X(rt_sigsuspend) X(rt_sigtimedwait) X(semop) X(semtimedop) X(msgrcv) X(msgsnd)     \
	X(mq_timedsend) X(mq_timedreceive)

#define OTHER_CALLS(X)                                                                     \
	OLD_OTHER_CALLS(X) X(gettimeofday) X(settimeofday) X(clock_gettime) X(clock_settime)\
	X(clock_getres) X(clock_adjtime) X(adjtimex) X(getitimer) X(setitimer)             \
	X(timer_create) X(timer_settime) X(timer_gettime) X(timer_getoverrun)              \
	X(timer_delete) X(sched_yield) X(sched_setparam) X(sched_getparam)                 \
	X(sched_setscheduler) X(sched_getscheduler) X(sched_get_priority_max)              \
	X(sched_get_priority_min) X(sched_rr_get_interval) X(sched_setaffinity)            \
	X(sched_getaffinity) X(sched_setattr) X(sched_getattr) X(getpriority) X(setpriority)\
	X(ioprio_set) X(ioprio_get) X(getcpu) X(membarrier) X(getrandom) X(uname) X(sysinfo)\
	X(syslog) X(sethostname) X(setdomainname) X(vhangup) X(acct) X(reboot) X(kexec_load)\
	X(kexec_file_load) X(init_module) X(finit_module) X(delete_module) X(add_key)      \
	X(request_key) X(keyctl) X(perf_event_open) X(bpf) X(semget) X(semctl) X(msgget)   \
	X(msgctl) X(mq_open) X(mq_unlink) X(mq_notify) X(mq_getsetattr)

/* clang-format on */

#define SYSCALLS 512 /* more than there are numbers */

#define CALL_NUMBER(name) SYSCALL_##name = __NR_##name,

/* clang-format off */
enum syscall {
	FILE_CALLS(CALL_NUMBER)
	NETWORK_CALLS(CALL_NUMBER)
	MEMORY_CALLS(CALL_NUMBER)
	PROCESS_CALLS(CALL_NUMBER)
	WAIT_CALLS(CALL_NUMBER)
	OTHER_CALLS(CALL_NUMBER)
	SYSCALL_OTHER = SYSCALLS - 1, /* by other numbers: of 32-bit programs, or of nothing */
};
/* clang-format on */

enum call_kind {
	CALL_KIND_OTHER,
	CALL_KIND_FILE,
	CALL_KIND_NETWORK,
	CALL_KIND_MEMORY,
	CALL_KIND_PROCESS,
	CALL_KIND_WAIT,
};

#define FILE_KIND(name) [__NR_##name] = CALL_KIND_FILE,
#define NETWORK_KIND(name) [__NR_##name] = CALL_KIND_NETWORK,
#define MEMORY_KIND(name) [__NR_##name] = CALL_KIND_MEMORY,
#define PROCESS_KIND(name) [__NR_##name] = CALL_KIND_PROCESS,
#define WAIT_KIND(name) [__NR_##name] = CALL_KIND_WAIT,

/* clang-format off */
static const __u8 call_kinds[SYSCALLS] = {
	FILE_CALLS(FILE_KIND)
	NETWORK_CALLS(NETWORK_KIND)
	MEMORY_CALLS(MEMORY_KIND)
	PROCESS_CALLS(PROCESS_KIND)
	WAIT_CALLS(WAIT_KIND)
};

#define ERRORS(X)                                                                          \
	X(EPERM) X(ENOENT) X(ESRCH) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(ENOEXEC) X(EBADF)  \
	X(ECHILD) X(EAGAIN) X(ENOMEM) X(EACCES) X(EFAULT) X(ENOTBLK) X(EBUSY) X(EEXIST)    \
	X(EXDEV) X(ENODEV) X(ENOTDIR) X(EISDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(ENOTTY)    \
	X(ETXTBSY) X(EFBIG) X(ENOSPC) X(ESPIPE) X(EROFS) X(EMLINK) X(EPIPE) X(EDOM)        \
	X(ERANGE) X(EDEADLK) X(ENAMETOOLONG) X(ENOLCK) X(ENOSYS) X(ENOTEMPTY) X(ELOOP)     \
	X(ENOMSG) X(EIDRM) X(ENODATA) X(ETIME) X(ENONET) X(ENOLINK) X(ECOMM) X(EPROTO)     \
	X(EBADMSG) X(EOVERFLOW) X(EBADFD) X(EILSEQ) X(EUSERS) X(ENOTSOCK) X(EDESTADDRREQ)  \
	X(EMSGSIZE) X(EPROTOTYPE) X(ENOPROTOOPT) X(EPROTONOSUPPORT) X(ESOCKTNOSUPPORT)     \
	X(EOPNOTSUPP) X(EPFNOSUPPORT) X(EAFNOSUPPORT) X(EADDRINUSE) X(EADDRNOTAVAIL)       \
	X(ENETDOWN) X(ENETUNREACH) X(ENETRESET) X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS)   \
	X(EISCONN) X(ENOTCONN) X(ESHUTDOWN) X(ETIMEDOUT) X(ECONNREFUSED) X(EHOSTDOWN)      \
	X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(ESTALE) X(EUCLEAN) X(EREMOTEIO)       \
	X(EDQUOT) X(ENOMEDIUM) X(EMEDIUMTYPE) X(ECANCELED) X(ENOKEY) X(EKEYEXPIRED)        \
	X(EKEYREVOKED) X(EKEYREJECTED) X(EOWNERDEAD) X(ENOTRECOVERABLE) X(EHWPOISON)

#define ERROR_NUMBER(name) ERROR_##name = name,

enum call_error {
	ERROR_OTHER,
	ERRORS(ERROR_NUMBER)
	ERROR_INTERRUPTED, /* by a signal: most such calls are then made again by the kernel */
};
/* clang-format on */

#define MAX_ERRNO 4095	  /* include/linux/err.h */
#define FIRST_RESTART 512 /* ERESTARTSYS and those that follow: include/linux/errno.h */
#define LAST_RESTART 516

static __always_inline enum call_error error_of(__s64 result)
{
	__u64 number = -result;

	if (number >= FIRST_RESTART && number <= LAST_RESTART)
		return ERROR_INTERRUPTED;
	return number < ERROR_INTERRUPTED ? (enum call_error)number : ERROR_OTHER;
}

#endif
