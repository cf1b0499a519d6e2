// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Time off the CPU, exactly: the stack of every thread that leaves a CPU is taken there and then,
 * and counts for as long as the thread stays away. Interrupts are off and the run-queue lock is
 * held, so nothing is allocated; a thread that finds no room in `away` is not counted, which is.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile duration_ns_t minimum_wait DOC("shorter absences are not sampled") = 1000;
const volatile tgid_t only_process DOC("process to look at; 0: all") = 0;

enum offcpu_kind {
	OFFCPU_SLEEPING,
	OFFCPU_UNINTERRUPTIBLE,
	OFFCPU_IO,
	OFFCPU_RUNNABLE,
};

#define TASK_RUNNING 0
#define TASK_UNINTERRUPTIBLE 0x2

KINDS(offcpu_kind);
RING(samples, struct sample, 4 * 1024 * 1024);

struct absence {
	__u64 since;
	__u64 stack;
	__u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32); /* thread */
	__type(value, struct absence);
} away SEC(".maps");

struct task_struct___offcpu {
	unsigned in_iowait : 1;
} __attribute__((preserve_access_index));

static __always_inline __u32 kind_of(struct task_struct *task, bool preempt, __u32 state)
{
	struct task_struct___offcpu *t = (void *)task;

	if (preempt || state == TASK_RUNNING)
		return OFFCPU_RUNNABLE;
	if (!(state & TASK_UNINTERRUPTIBLE))
		return OFFCPU_SLEEPING;
	return BPF_CORE_READ_BITFIELD(t, in_iowait) ? OFFCPU_IO : OFFCPU_UNINTERRUPTIBLE;
}

static __always_inline bool is_wanted(struct task_struct *task)
{
	return task->pid && (!only_process || (__u32)task->tgid == only_process);
}

static __always_inline void leave(void *context, struct task_struct *task, __u32 kind, __u64 now)
{
	struct absence absence = {.since = now, .kind = kind};
	struct unwinder *u = this_unwinder();
	__u32 tid = task->pid;
	long size;

	if (!u)
		return;
	size = bpf_get_stack(context, u->stack.kernel, sizeof(u->stack.kernel), 0);
	u->stack.kernel_count = size > 0 ? size / sizeof(__u64) : 0;
	unwind_user(u, task);
	u->stack.tgid = task->tgid;
	absence.stack = send_stack(u);
	if (!absence.stack)
		ACCOUNT(ring_full);
	else if (bpf_map_update_elem(&away, &tid, &absence, BPF_ANY))
		ACCOUNT(map_full);
}

static __always_inline void come_back(struct task_struct *task, __u64 now)
{
	__u32 tid = task->pid;
	struct absence *absence = bpf_map_lookup_elem(&away, &tid);
	struct sample *sample;

	if (!absence)
		return;
	if (now - absence->since >= minimum_wait && is_sampled(task)) {
		ACCOUNT(produced);
		sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
		if (sample) {
			describe_task(sample, task);
			sample->time = now;
			sample->stack = absence->stack;
			sample->value = now - absence->since;
			sample->kind = absence->kind;
			ring_submit_quietly(&samples, sample);
		} else {
			ACCOUNT(ring_full);
		}
	}
	bpf_map_delete_elem(&away, &tid);
}

/* prev_state as an argument: commit fa2c3254d7cf ("sched/tracing: Don't re-read p->state"), v5.18
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	__u64 now = bpf_ktime_get_ns();

	if (is_wanted(prev) && !(prev->flags & PF_EXITING))
		leave(ctx, prev, kind_of(prev, preempt, prev_state), now);
	if (is_wanted(next))
		come_back(next, now);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
