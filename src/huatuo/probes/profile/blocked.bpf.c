// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Where threads are while they do not run: all of them are looked at some times a second. Nothing
 * hangs on the scheduler; the cost follows the number of threads, not that of context switches.
 *
 * A thread whose switch counter has not moved is where it was, so its stack is taken once, and what
 * it waits adds up until it moves on. A sample therefore says: this long in this place, by now.
 *
 * Threads in a futex are asked what they wait for. The lock's owner is a fact of glibc's mutex (the
 * third word behind the futex) or of a priority-inheriting futex itself, checked by user space.
 */
#define READ_USER(task, to, size, from) bpf_copy_from_user_task(to, size, from, task, 0)
#include "sample.bpf.h"

/* Read by blocked.py, which starts the passes. */
const volatile per_second_t passes_per_second DOC("how often all threads are looked at; waits much "
						  "shorter are met by chance, as many as they "
						  "deserve") = 5;
const volatile duration_ns_t report_after
	DOC("a thread that stays in one place is reported at least this often") = 30000000000ULL;

#define TASK_RUNNING 0
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_NOLOAD 0x400
#define FUTEX 202
#define FUTEX_WAIT_OPERATION 0
#define FUTEX_LOCK_PI 6
#define FUTEX_WAIT_BITSET 9
#define FUTEX_LOCK_PI2 13
#define FUTEX_OPERATION 0x7f
#define FUTEX_TID_MASK 0x3fffffff
#define MUTEX_CONTENDED 2 /* glibc: locked, and somebody waits */

enum blocked_kind {
	BLOCKED_SLEEPING,
	BLOCKED_UNINTERRUPTIBLE,
	BLOCKED_IO,	  /* uninterruptible, and the kernel counts it as waiting for a disk */
	BLOCKED_RUNNABLE, /* wants a CPU and has none */
};

KINDS(blocked_kind);
RING(samples, struct sample, 1024 * 1024);

/* Where a thread was when it was last looked at. */
struct place {
	__u64 switches;
	__u64 stack;
	__u64 waited; /* not yet reported */
	__u64 since;  /* of the last report */
	__u64 object;
	__u32 owner;
	__u32 kind;
	__u32 lacks_rows; /* its stack is taken again: they have been asked for */
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct place);
} places SEC(".maps");

/* One pass: set by user space before it starts. */
struct pass {
	__u64 time;
	__u64 interval; /* since the pass before */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pass);
} passes SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___blocked {
	unsigned int __state;
	unsigned int on_cpu; /* a byte since 7.2: only unsigned loads may change their size */
	int exit_state;
	unsigned long nvcsw;
	unsigned long nivcsw;
	unsigned in_iowait : 1;
};

#pragma clang attribute pop

/* Whether a task is off the CPU in a way that means something, and how. */
static __always_inline bool is_blocked(struct task_struct *task, __u32 *kind)
{
	struct task_struct___blocked *t = (void *)task;
	__u32 state = t->__state;

	if (t->exit_state || !task->pid)
		return false;
	if (state == TASK_RUNNING) {
		*kind = BLOCKED_RUNNABLE;
		return !BPF_CORE_READ_BITFIELD(t, on_cpu); /* a byte in newer kernels */
	}
	if (state & TASK_UNINTERRUPTIBLE) {
		*kind = BPF_CORE_READ_BITFIELD(t, in_iowait) ? BLOCKED_IO : BLOCKED_UNINTERRUPTIBLE;
		return !(state & TASK_NOLOAD);
	}
	*kind = BLOCKED_SLEEPING;
	return state & TASK_INTERRUPTIBLE && task->mm; /* idle threads of the kernel are no news */
}

struct glibc_mutex {
	__u32 lock;
	__u32 count;
	__u32 owner;
};

/* What a thread in the futex call waits for, and who has it. */
static __always_inline void find_lock(struct task_struct *task, struct place *place)
{
	struct pt_regs___x86 *regs = (void *)bpf_task_pt_regs(task);
	__u32 operation = regs->si & FUTEX_OPERATION;
	struct glibc_mutex mutex = {};

	if (regs->orig_ax != FUTEX)
		return;
	place->object = regs->di;
	if (bpf_copy_from_user_task(&mutex, sizeof(mutex), (void *)place->object, task, 0))
		return;
	if (operation == FUTEX_LOCK_PI || operation == FUTEX_LOCK_PI2)
		place->owner = mutex.lock & FUTEX_TID_MASK;
	else if (mutex.lock == MUTEX_CONTENDED)
		place->owner = mutex.owner;
}

static __always_inline void report(struct task_struct *task, struct place *place, __u64 now)
{
	struct sample *sample;

	if (!is_sampled(task)) {
		place->waited = 0;
		place->since = now;
		return;
	}
	ACCOUNT(produced);
	sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	if (!sample) {
		ACCOUNT(ring_full);
		return;
	}
	describe_task(sample, task);
	sample->time = now;
	sample->stack = place->stack;
	sample->value = place->waited;
	sample->object = place->object;
	sample->owner = place->owner;
	sample->kind = place->kind;
	ring_submit_quietly(&samples, sample);
	place->waited = 0;
	place->since = now;
}

/* Its stack as it is now; false if it ran meanwhile, so that this is no stack of one moment. */
static __always_inline bool look_at(struct unwinder *u, struct task_struct *task,
				    struct place *place, __u64 switches)
{
	struct task_struct___blocked *t = (void *)task;
	long size = bpf_get_task_stack(task, u->stack.kernel, sizeof(u->stack.kernel), 0);

	u->stack.kernel_count = size > 0 ? size / sizeof(__u64) : 0;
	unwind_user(u, task);
	place->object = 0;
	place->owner = 0;
	if (place->kind == BLOCKED_SLEEPING && task->mm)
		find_lock(task, place);
	if (t->nvcsw + t->nivcsw != switches)
		return false;
	u->stack.tgid = task->tgid;
	place->lacks_rows = u->stack.status == STACK_NO_ROWS;
	place->stack = send_stack(u);
	return place->stack;
}

SEC("iter.s/task")
int blocked_threads(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct unwinder *u = this_unwinder();
	struct task_struct___blocked *t = (void *)task;
	struct place *place;
	struct pass *pass;
	__u32 zero = 0, kind;
	__u64 switches;
	bool blocked, stayed;

	pass = bpf_map_lookup_elem(&passes, &zero);
	if (!task || !u || !pass)
		return 0;
	blocked = is_blocked(task, &kind);
	place = bpf_task_storage_get(&places, task, NULL,
				     blocked ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!place)
		return 0;
	switches = t->nvcsw + t->nivcsw;
	stayed = blocked && place->stack && switches == place->switches && kind == place->kind;
	if (stayed)
		place->waited += pass->interval;
	if (place->waited && (!stayed || pass->time - place->since >= report_after))
		report(task, place, pass->time);
	if (!blocked || (stayed && !place->lacks_rows))
		return 0;
	place->kind = kind;
	if (!look_at(u, task, place, switches)) {
		place->stack = 0;
		place->waited = 0;
	} else if (!stayed) {
		place->switches = switches;
		place->waited = pass->interval;
		place->since = pass->time;
	}
	return 0;
}

/* The wait that a thread's end ended. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(thread_exits, struct task_struct *task)
{
	struct place *place = bpf_task_storage_get(&places, task, NULL, 0);

	if (place && place->waited)
		report(task, place, bpf_ktime_get_ns());
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
