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
const volatile duration_ns_t
	back_off_after DOC("a storm that lasts so long has its rate halved, and again, down to a "
			   "sixteenth; when it is "
			   "over for so long the rate doubles again") = 10000000000ULL;

#define SECOND 1000000000ULL
#define BACK_OFF_STEPS 4 /* to a sixteenth of the rate */

/* `clock` runs ahead of time by an interval per record; `level` halves the rate. */
struct token_bucket {
	__u64 clock;
	__u64 limited; /* when a record was last suppressed */
	__u64 changed; /* when the level last changed */
	__u32 level;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* cgroup id; 0 is the probe's own bucket */
	__type(value, struct token_bucket);
} token_buckets SEC(".maps");

/* A storm that lasts says the same over and over. */
static __always_inline void back_off(struct token_bucket *bucket, bool is_limited, __u64 now)
{
	if (is_limited) {
		if (now - bucket->limited > back_off_after)
			bucket->changed = now; /* a new storm */
		bucket->limited = now;
		if (bucket->level < BACK_OFF_STEPS && now - bucket->changed > back_off_after) {
			bucket->level++;
			bucket->changed = now;
		}
	} else if (bucket->level && now - bucket->limited > back_off_after &&
		   now - bucket->changed > back_off_after) {
		bucket->level--;
		bucket->changed = now;
	}
}

/*
 * Token bucket as a virtual clock (GCRA): the stored time runs one interval ahead per record and
 * may lead by one second's worth. Two CPUs may race for the last token; nothing is miscounted.
 */
static __always_inline bool take_token(__u64 key, __u32 per_second, __u64 now)
{
	__u64 interval = SECOND / (per_second ? per_second : 1);
	struct token_bucket *bucket = bpf_map_lookup_elem(&token_buckets, &key);
	bool is_limited;

	if (!per_second)
		return false;
	if (!bucket) {
		struct token_bucket first = {.clock = now + interval, .changed = now};

		bpf_map_update_elem(&token_buckets, &key, &first, BPF_ANY);
		return true;
	}
	is_limited = bucket->clock > now + SECOND;
	back_off(bucket, is_limited, now);
	if (is_limited)
		return false;
	bucket->clock =
		(bucket->clock > now ? bucket->clock : now) + (interval << (bucket->level & 7));
	return true;
}

/*
 * Whose events are not wanted, kept by user space (probes/bpf.py) as containers come and go:
 * cgroups, and namespaces as in bucket_of. What nobody knows yet is wanted, user space looks again.
 * What is not wanted is not produced: it is in no account.
 */
const volatile bool has_unwanted = false; /* set by the loader, not a setting */

struct { /* sized by user space */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u8);
} unwanted SEC(".maps");

static __always_inline bool is_wanted_owner(__u64 bucket)
{
	return !has_unwanted || !bpf_map_lookup_elem(&unwanted, &bucket);
}

static __always_inline bool event_allowed(__u64 cgroup, __u64 now)
{
	if (!is_wanted_owner(cgroup))
		return false;
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
