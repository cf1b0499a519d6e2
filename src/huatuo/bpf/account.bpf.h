/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What happened to every record: produced = delivered + suppressed + lost. Delivered is counted by
 * the reader, everything else here, where it happens. Exported for each probe.
 */
#ifndef HUATUO_ACCOUNT_H
#define HUATUO_ACCOUNT_H

#include "record.bpf.h"

struct account {
	counter_t produced DOC("records that met the probe's condition");
	counter_t rate_limited DOC("suppressed by the token bucket of the container or the probe");
	counter_t excluded DOC("suppressed because the container is not one of those watched");
	counter_t ring_full DOC("lost because the ring was full");
	counter_t map_full DOC("lost because a map was full");
	counter_t negative DOC("lost because a clock difference was negative");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct account);
} account SEC(".maps");

#define ACCOUNT(reason)                                                           \
	do {                                                                      \
		__u32 zero_ = 0;                                                  \
		struct account *account_ = bpf_map_lookup_elem(&account, &zero_); \
		if (account_)                                                     \
			account_->reason++;                                       \
	} while (0)

/*
 * Rows of counters by key: memory only for keys that occur, from the allocator that interrupts may
 * use. `counter_row` gives this CPU's row, made from `empty` if it is new; NULL when the map is
 * full. COUNT_UP is for rows that both tasks and the softirqs that interrupt them write.
 */
#define COUNT_UP(counter, by) __sync_fetch_and_add(&(counter), by)

#define COUNTERS(map, key_type, value_type) COUNTERS_UP_TO(8192, map, key_type, value_type)

#define COUNTERS_UP_TO(most, map, key_type, value_type) \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_PERCPU_HASH); \
		__uint(map_flags, BPF_F_NO_PREALLOC);   \
		__uint(max_entries, most);              \
		__type(key, key_type);                  \
		__type(value, value_type);              \
	} map SEC(".maps")

static __always_inline void *counter_row(void *map, const void *key, const void *empty)
{
	void *row = bpf_map_lookup_elem(map, key);

	if (row)
		return row;
	bpf_map_update_elem(map, key, empty, BPF_NOEXIST);
	row = bpf_map_lookup_elem(map, key);
	if (!row)
		ACCOUNT(map_full);
	return row;
}

static __always_inline bool is_half_full(void *ring)
{
	return bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >
	       bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 2;
}

/* Wakes the reader with the first record after those it has read, and when the ring is half full.
 */
static __always_inline void ring_submit(void *ring, void *record)
{
	bpf_ringbuf_submit(record, is_half_full(ring) ? BPF_RB_FORCE_WAKEUP : 0);
}

/* For records that can wait until the reader looks: wakes it only when the ring is half full. */
static __always_inline void ring_submit_quietly(void *ring, void *record)
{
	bpf_ringbuf_submit(record, is_half_full(ring) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
