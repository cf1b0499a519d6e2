/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What all profilers record: a sample of a stack, with whom it is about and what it weighs.
 *
 *	u = take_stack(…)		the stack into this CPU's unwinder
 *	emit_sample(&samples, u, …)	the sample; its stack goes along the first time
 */
#ifndef HUATUO_SAMPLE_H
#define HUATUO_SAMPLE_H

#include "account.bpf.h"
#include "cgroup.bpf.h"
#include "unwind.bpf.h"
#include "wanted.bpf.h"

struct sample {
	ktime_ns_t time DOC("when it was taken");
	__u64 stack DOC("id of its stack");
	cgroup_id_t cgroup DOC("container of the thread");
	__u64 value DOC("what it stands for: nanoseconds or bytes");
	__u64 object DOC("what it is about besides the stack: address of the lock or of the page");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	__u32 local_tid DOC("its number in its own PID namespace");
	__u32 group DOC("process group");
	__u32 cpu DOC("CPU it was taken on");
	__u32 owner DOC("thread that holds the lock; 0: none or unknown");
	__u32 kind DOC("what the profiler tells apart");
	__u32 unused DOC("nothing");
	comm_t comm DOC("name of the process");
	comm_t thread DOC("name of the thread");
};

/* The names of what a profiler tells apart, for user space. */
#define KINDS(type) enum type *kinds SEC(".kinds")

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct signal_struct {
	struct pid *pids[4];
};

enum pid_type {
	PIDTYPE_PGID = 2, /* relocated */
};

struct task_struct___sample {
	struct signal_struct *signal;
	struct pid *thread_pid;
};

#pragma clang attribute pop

static __always_inline __u32 process_group(struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ((struct task_struct___sample *)task, signal);
	struct pid *pid = NULL;

	bpf_core_read(&pid, sizeof(pid),
		      &signal->pids[bpf_core_enum_value(enum pid_type, PIDTYPE_PGID)]);
	return BPF_CORE_READ(pid, numbers[0].nr);
}

/* As gettid() says it to the thread itself, and as its locks name it. */
static __always_inline __u32 local_tid(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ((struct task_struct___sample *)task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	void *numbers = __builtin_preserve_access_index(&pid->numbers);
	struct upid *innermost = numbers + level * bpf_core_type_size(struct upid);

	return BPF_CORE_READ(innermost, nr);
}

static __always_inline struct unwinder *this_unwinder(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&unwinders, &zero);
}

/* Whether samples of a task are wanted; one that is not is counted here. */
static __always_inline bool is_sampled(struct task_struct *task)
{
	if (wanted_cgroups == WANTED_ALL || is_wanted_cgroup(task_cgroup_read(task)))
		return true;
	ACCOUNT(produced);
	ACCOUNT(excluded);
	return false;
}

/* Everything about a sample that the task says; the rest is empty. */
static __always_inline void describe_task(struct sample *sample, struct task_struct *task)
{
	sample->cgroup = task_cgroup_read(task);
	sample->value = 0;
	sample->object = 0;
	sample->tgid = BPF_CORE_READ(task, tgid);
	sample->tid = BPF_CORE_READ(task, pid);
	sample->local_tid = local_tid(task);
	sample->group = process_group(task);
	sample->cpu = bpf_get_smp_processor_id();
	sample->owner = 0;
	sample->kind = 0;
	sample->unused = 0;
	BPF_CORE_READ_INTO(&sample->comm, task, group_leader, comm);
	BPF_CORE_READ_INTO(&sample->thread, task, comm);
}

/* The sample of a task and a stack that was sent, 0: it was not; NULL if it is lost, which is
 * counted. */
static __always_inline struct sample *reserve_sample(void *ring, __u64 stack,
						     struct task_struct *task, __u64 now)
{
	struct sample *sample = stack ? bpf_ringbuf_reserve(ring, sizeof(*sample), 0) : NULL;

	ACCOUNT(produced);
	if (!sample) {
		ACCOUNT(ring_full);
		return NULL;
	}
	describe_task(sample, task);
	sample->time = now;
	sample->stack = stack;
	return sample;
}

static __always_inline void take_kernel_stack(void *context, struct unwinder *u)
{
	long size = bpf_get_stack(context, u->stack.kernel, sizeof(u->stack.kernel), 0);

	u->stack.kernel_count = size > 0 ? size / sizeof(__u64) : 0;
}

/* A sample of the running task, with its kernel stack as the program's context has it. */
static __always_inline struct sample *sample_current(void *context, void *ring)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct unwinder *u = this_unwinder();

	if (!u || !is_sampled(task))
		return NULL;
	take_kernel_stack(context, u);
	unwind_user(u, task);
	u->stack.tgid = task->tgid;
	return reserve_sample(ring, send_stack(u), task, bpf_ktime_get_ns());
}

#endif
