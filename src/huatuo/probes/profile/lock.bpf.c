// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Waits for the kernel's own locks, exactly: the tracepoints fire only on the slow path of a lock
 * that is taken. A task waits for one lock at a time, but an interrupt on its CPU may wait for
 * another meanwhile: the wait of a spinning CPU is kept per CPU, that of a sleeping task with the
 * task.
 *
 * contention_begin/end: commit 16edd9b511a1 ("locking: Add lock contention tracepoints"), v5.19.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile duration_ns_t minimum_wait DOC("shorter waits are not sampled") = 10000;

enum lock_kind {
	LOCK_SPIN,
	LOCK_READ_SPIN,
	LOCK_WRITE_SPIN,
	LOCK_MUTEX,
	LOCK_RWSEM_READ,
	LOCK_RWSEM_WRITE,
	LOCK_RTMUTEX,
	LOCK_PERCPU_RWSEM,
};

/* include/trace/events/lock.h */
#define LCB_F_SPIN 1
#define LCB_F_READ 2
#define LCB_F_WRITE 4
#define LCB_F_RT 8
#define LCB_F_PERCPU 16
#define LCB_F_MUTEX 32

KINDS(lock_kind);
RING(samples, struct sample, 1024 * 1024);

struct wait {
	__u64 lock;
	__u64 since;
	__u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wait);
} spinning SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wait);
} sleeping SEC(".maps");

static __always_inline __u32 kind_of(__u32 flags)
{
	if (flags & LCB_F_MUTEX)
		return LOCK_MUTEX;
	if (flags & LCB_F_SPIN)
		return flags & LCB_F_READ    ? LOCK_READ_SPIN
		       : flags & LCB_F_WRITE ? LOCK_WRITE_SPIN
					     : LOCK_SPIN;
	if (flags & LCB_F_PERCPU)
		return LOCK_PERCPU_RWSEM;
	if (flags & LCB_F_RT)
		return LOCK_RTMUTEX;
	return flags & LCB_F_READ ? LOCK_RWSEM_READ : LOCK_RWSEM_WRITE;
}

static __always_inline struct wait *wait_of(struct task_struct *task, __u32 flags, bool create)
{
	__u32 zero = 0;

	/* A mutex spins first and says so, then sleeps: it is a sleeper's wait all along. */
	if (flags & LCB_F_SPIN && !(flags & LCB_F_MUTEX))
		return bpf_map_lookup_elem(&spinning, &zero);
	return bpf_task_storage_get(&sleeping, task, NULL,
				    create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

SEC("tp_btf/contention_begin")
int BPF_PROG(contention_begin, void *lock, unsigned int flags)
{
	struct wait *wait = wait_of(bpf_get_current_task_btf(), flags, true);

	if (!wait || (wait->lock == (__u64)lock && flags & LCB_F_MUTEX))
		return 0; /* the second phase of the same wait */
	wait->lock = (__u64)lock;
	wait->flags = flags;
	wait->since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int waited(void *context, struct wait *wait)
{
	__u64 lock = wait->lock, spent = bpf_ktime_get_ns() - wait->since;
	struct sample *sample;

	wait->lock = 0;
	if (spent < minimum_wait)
		return 0;
	sample = sample_current(context, &samples);
	if (!sample)
		return 0;
	sample->value = spent;
	sample->object = lock;
	sample->kind = kind_of(wait->flags);
	ring_submit_quietly(&samples, sample);
	return 0;
}

SEC("tp_btf/contention_end")
int BPF_PROG(contention_end, void *lock, int ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct wait *wait = wait_of(task, LCB_F_SPIN, false);

	if (!wait || wait->lock != (__u64)lock)
		wait = wait_of(task, 0, false);
	if (!wait || wait->lock != (__u64)lock)
		return 0; /* it began before we looked, or an interrupt's wait took its place */
	return waited(ctx, wait);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
