/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Test only: spin for an exact time in a tracepoint. At most one stall per gap and `limit` in all,
 * so that a test that dies leaves the machine usable; each is reported with its true duration.
 */
#ifndef HUATUO_STALL_H
#define HUATUO_STALL_H

#include "record.bpf.h"

#define ANY 0xffffffff
#define STEPS (1 << 20) /* take 20 ms or more */
#define ROUNDS 1000

const volatile duration_ns_t stall_duration = 1000000;
const volatile duration_ns_t stall_gap = 10000000;
const volatile __u32 stall_limit = 1;
const volatile __u32 only_cpu = ANY;
const volatile __u32 only_tid = ANY;
const volatile __u32 only_vector = ANY;
const volatile __u32 only_disk = ANY;

struct stall {
	ktime_ns_t time;
	duration_ns_t duration;
	__u32 cpu;
	tid_t tid;
};

RING(stalls, struct stall, 64 * 1024);

struct stall_state {
	__u64 next; /* no stall before */
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stall_state);
} state SEC(".maps");

static int spin_until(__u32 step, void *until)
{
	return bpf_ktime_get_ns() >= *(__u64 *)until;
}

static int spin_round(__u32 round, void *until)
{
	bpf_loop(STEPS, spin_until, until, 0);
	return bpf_ktime_get_ns() >= *(__u64 *)until;
}

/* Whether it is our turn; another CPU may ask at the same time. */
static __always_inline bool may_stall(struct stall_state *found, __u64 now)
{
	__u64 next = found->next;

	if (now < next || found->count >= stall_limit)
		return false;
	if (__sync_val_compare_and_swap(&found->next, next, now + stall_gap) != next)
		return false;
	return __sync_fetch_and_add(&found->count, 1) < stall_limit;
}

static __always_inline int stall(void)
{
	__u64 now = bpf_ktime_get_ns(), until = now + stall_duration;
	__u32 zero = 0, tid = (__u32)bpf_get_current_pid_tgid(), cpu = bpf_get_smp_processor_id();
	struct stall_state *found = bpf_map_lookup_elem(&state, &zero);
	struct stall *record;

	if ((only_cpu != ANY && only_cpu != cpu) || (only_tid != ANY && only_tid != tid))
		return 0;
	if (!found || !may_stall(found, now))
		return 0;
	bpf_loop(ROUNDS, spin_round, &until, 0);
	record = bpf_ringbuf_reserve(&stalls, sizeof(*record), 0);
	if (!record)
		return 0;
	record->time = now;
	record->duration = bpf_ktime_get_ns() - now;
	record->cpu = cpu;
	record->tid = tid;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

#endif
