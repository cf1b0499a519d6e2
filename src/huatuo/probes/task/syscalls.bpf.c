// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * System calls of everybody. A hook on them makes all of them slower, so syscalls.py attaches these
 * programs in short windows.
 *
 * A call counts in the window in which it ends. Its duration is known if it began there, too: when
 * a window opens nobody knows since when each thread has been in a call, and what a thread noted in
 * an earlier window may be of another call.
 */
#include "cgroup.bpf.h"
#include "histogram.bpf.h"
#include "syscall.bpf.h"
#include "syscalls.bpf.h"
#include "task.bpf.h"

#define COMPAT_X86 0x2	       /* TS_COMPAT in thread_info.status */
#define COMPAT_ARM64 (1 << 22) /* TIF_32BIT in thread_info.flags */

struct call_key {
	enum syscall syscall DOC("which system call");
};

struct call_row {
	duration_histogram_t
		duration DOC("time of system calls that began and ended in the same window");
	counter_t untimed DOC("system calls that ended in a window and had begun before it");
};

struct container_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum call_kind kind DOC("what such calls are made for");
} KEY;

struct container_row {
	duration_histogram_t container_duration
		DOC("time of a container's system calls that began and ended in the same window");
	counter_t container_untimed
		DOC("a container's system calls that ended in a window and had begun before it");
};

struct error_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum syscall syscall DOC("which system call");
	enum call_error error DOC("why it failed");
};

struct error_row {
	counter_t errors DOC("system calls that failed in a window");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SYSCALLS);
	__type(key, struct call_key);
	__type(value, struct call_row);
} by_call SEC(".maps");

COUNTERS(by_container, struct container_key, struct container_row);
COUNTERS(by_error, struct error_key, struct error_row);

struct { /* when the present window was opened; 0: there is none */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} window_began SEC(".maps");

struct call {
	__u64 since; /* 0: it has ended */
	__u64 number;
};

PER_TASK(calls, struct call);

static const struct container_row empty_container;
static const struct error_row no_errors;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	unsigned long flags;
	__u32 status;
};

struct task_struct___thread {
	struct thread_info thread_info;
};

#pragma clang attribute pop

/* By the numbers of 32-bit programs, which are others. Direct loads: a probe read costs 35 ns. */
static __always_inline bool is_compat(void)
{
	struct task_struct___thread *task;

	if (!HAS_TASK_STORAGE) {
		task = (void *)bpf_get_current_task();
#ifdef __TARGET_ARCH_arm64
		return BPF_CORE_READ(task, thread_info.flags) & COMPAT_ARM64;
#else
		return BPF_CORE_READ(task, thread_info.status) & COMPAT_X86;
#endif
	}
	task = (void *)bpf_get_current_task_btf();
#ifdef __TARGET_ARCH_arm64
	return task->thread_info.flags & COMPAT_ARM64;
#else
	return task->thread_info.status & COMPAT_X86;
#endif
}

/* As current_cgroup(), and likewise. */
static __always_inline __u64 cgroup_of_caller(void)
{
	return HAS_TASK_STORAGE ? task_cgroup(bpf_get_current_task_btf()) : current_cgroup();
}

static __always_inline __u32 named(long number)
{
	if ((__u64)number >= SYSCALL_OTHER || is_compat())
		return SYSCALL_OTHER;
	return number;
}

/* The end of its parent's call, which a child is born with. */
static __always_inline bool is_of_parent(__u32 number, __s64 result)
{
	switch (number) {
	case SYSCALL_clone:
	case SYSCALL_clone3:
#ifdef __NR_fork
	case SYSCALL_fork:
	case SYSCALL_vfork:
#endif
		return result == 0;
	}
	return false;
}

/* What rt_sigreturn seems to return is the result of what the signal interrupted. */
static __always_inline bool has_failed(__u32 number, __s64 result)
{
	return result < 0 && result >= -MAX_ERRNO && number != SYSCALL_rt_sigreturn;
}

static __always_inline void count_error(__u64 cgroup, __u32 number, __s64 result)
{
	struct error_key key = {cgroup, (enum syscall)number, error_of(result)};
	struct error_row *row = counter_row(&by_error, &key, &no_errors);

	if (row)
		row->errors++;
}

static __always_inline void count_call(__u32 number, __u64 cgroup, bool is_timed, __u64 duration)
{
	struct call_key call = {(enum syscall)number};
	struct call_row *row = bpf_map_lookup_elem(&by_call, &call);
	struct container_row *container;
	struct container_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.kind = call_kinds[number & (SYSCALLS - 1)];
	container = counter_row(&by_container, &key, &empty_container);
	if (row && is_timed)
		histogram_add(&row->duration, duration);
	else if (row)
		row->untimed++;
	if (container && is_timed)
		histogram_add(&container->container_duration, duration);
	else if (container)
		container->container_untimed++;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	struct call *call = NEW_TASK_VALUE(calls);

	if (!call)
		return 0;
	call->number = named(number);
	call->since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	__u64 now = bpf_ktime_get_ns(), since = 0, cgroup;
	struct call *call = TASK_VALUE(calls);
	__u32 zero = 0, number;
	__u64 *began = bpf_map_lookup_elem(&window_began, &zero);

	if (!began || !*began)
		return 0;
	if (call && call->since >= *began) {
		since = call->since;
		number = call->number;
		call->since = 0;
	} else {
		number = named(syscall_number(regs));
	}
	if (is_of_parent(number, result))
		return 0;
	cgroup = cgroup_of_caller();
	count_call(number, cgroup, since, now - since);
	if (has_failed(number, result))
		count_error(cgroup, number, result);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
