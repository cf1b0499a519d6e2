/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Histograms in power-of-two slots whose edges are powers of two of a SECOND, so that they are
 * Prometheus native histograms (schema 0) without resampling:
 *   slot 0: below 2^-20 s (0.95 us); slot i: [2^(i-21), 2^(i-20)) s; the last: 32 s and more.
 */
#ifndef HUATUO_HISTOGRAM_H
#define HUATUO_HISTOGRAM_H

#include "record.bpf.h"

#define HISTOGRAM_SLOTS 27

struct histogram {
	__u64 slots[HISTOGRAM_SLOTS];
	__u64 sum;
};

typedef struct histogram duration_histogram_t; /* values in ns */

static __always_inline __u32 ilog2(__u64 value)
{
	__u32 log = 0;

	if (value >> 32) {
		value >>= 32;
		log += 32;
	}
	if (value >> 16) {
		value >>= 16;
		log += 16;
	}
	if (value >> 8) {
		value >>= 8;
		log += 8;
	}
	if (value >> 4) {
		value >>= 4;
		log += 4;
	}
	if (value >> 2) {
		value >>= 2;
		log += 2;
	}
	return log + (value >> 1);
}

static __always_inline __u32 duration_slot(__u64 ns)
{
	/* in units of 2^-30 s: ns * 2^30 / 10^9, as a fraction of 2^30 */
	__u64 binary = ns >> 33 ? ((ns >> 10) * 1152921505ULL) >> 20 : (ns * 1152921505ULL) >> 30;
	__u32 slot = binary >> 10 ? ilog2(binary) - 9 : 0;

	if (ns >> 43) /* over two hours, where the product would overflow */
		return HISTOGRAM_SLOTS - 1;
	return slot < HISTOGRAM_SLOTS ? slot : HISTOGRAM_SLOTS - 1;
}

/* For rows that only this CPU writes, with interrupts off or the row of a per-CPU map. */
static __always_inline void histogram_add(duration_histogram_t *histogram, __u64 ns)
{
	__u32 slot = duration_slot(ns);

	if (slot < HISTOGRAM_SLOTS) /* for the verifier */
		histogram->slots[slot]++;
	histogram->sum += ns;
}

/* One measured value that stands for `count` of them. */
static __always_inline void histogram_add_many(duration_histogram_t *histogram, __u64 ns,
					       __u32 count)
{
	__u32 slot = duration_slot(ns);

	if (slot < HISTOGRAM_SLOTS) /* for the verifier */
		histogram->slots[slot] += count;
	histogram->sum += ns * count;
}

/* For rows that several CPUs, or both tasks and the softirqs that interrupt them, write. */
static __always_inline void histogram_add_shared(duration_histogram_t *histogram, __u64 ns)
{
	__u32 slot = duration_slot(ns);

	if (slot < HISTOGRAM_SLOTS) /* for the verifier */
		__sync_fetch_and_add(&histogram->slots[slot], 1);
	__sync_fetch_and_add(&histogram->sum, ns);
}

#endif
