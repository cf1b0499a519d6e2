/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a record leaves the kernel: token buckets per container and per probe, a ring without
 * wake-up per record, and an account in which produced = delivered + suppressed + lost.
 *
 *	struct slow *slow = event_reserve(&slow_requests, sizeof(*slow), cgroup, now);
 *	if (!slow)
 *		return 0;
 *	… fill …
 *	ring_submit(&slow_requests, slow);
 */
#ifndef HUATUO_EVENT_H
#define HUATUO_EVENT_H

#include "account.bpf.h"

#ifndef MAX_PER_SECOND /* a probe with large records defines less */
#define MAX_PER_SECOND 200
#define MAX_PER_SECOND_PER_CONTAINER 20
#endif

const volatile per_second_t max_per_second DOC("records per second of this probe") = MAX_PER_SECOND;
const volatile per_second_t max_per_second_per_container
	DOC("records per second of this probe that one container may cause") =
		MAX_PER_SECOND_PER_CONTAINER;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* cgroup id; 0 is the probe's own bucket */
	__type(value, __u64);
} token_buckets SEC(".maps");

/*
 * Token bucket as a virtual clock (GCRA): the stored time runs one interval ahead per record and
 * may lead by one second's worth. Two CPUs may race for the last token; nothing is miscounted.
 */
static __always_inline bool take_token(__u64 bucket, __u32 per_second, __u64 now)
{
	__u64 interval = 1000000000ULL / (per_second ? per_second : 1);
	__u64 *clock = bpf_map_lookup_elem(&token_buckets, &bucket);
	__u64 start = now + interval;

	if (!per_second)
		return false;
	if (!clock) {
		bpf_map_update_elem(&token_buckets, &bucket, &start, BPF_ANY);
		return true;
	}
	if (*clock > now + 1000000000ULL)
		return false;
	*clock = (*clock > now ? *clock : now) + interval;
	return true;
}

static __always_inline bool event_allowed(__u64 cgroup, __u64 now)
{
	ACCOUNT(produced);
	if ((cgroup && !take_token(cgroup, max_per_second_per_container, now)) ||
	    !take_token(0, max_per_second, now)) {
		ACCOUNT(rate_limited);
		return false;
	}
	return true;
}

static __always_inline void *event_reserve(void *ring, __u64 size, __u64 cgroup, __u64 now)
{
	void *record;

	if (!event_allowed(cgroup, now))
		return NULL;
	record = bpf_ringbuf_reserve(ring, size, 0);
	if (!record)
		ACCOUNT(ring_full);
	return record;
}

#endif
