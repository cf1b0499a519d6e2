/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Memory cgroups: whose memory a task's is, how near a cgroup is to its limits, and which of a
 * task's cgroups has reached one. Probe reads throughout: for any program type.
 */
#ifndef HUATUO_MEMORY_H
#define HUATUO_MEMORY_H

#include "cgroup.bpf.h"

#define LEVELS 32 /* of cgroups, looked at */

const volatile bytes_t page_size = 4096; /* set by the loader, not a setting */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	long counter;
} atomic_long_t;

struct page_counter {
	atomic_long_t usage;
	unsigned long high;
	unsigned long max;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter swap;
	struct page_counter memsw;
	atomic_long_t memory_events[9];
	atomic_long_t memory_events_local[9];
};

#pragma clang attribute pop

/* What a cgroup may use and uses. */
struct memory_use {
	__u64 cgroup;
	__u64 limit_pages;
	__u64 used_pages;
};

static __always_inline struct mem_cgroup *memcg_of(struct task_struct *task)
{
	struct cgroup_subsys_state *css = NULL;
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	int memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);

	bpf_core_read(&css, sizeof(css), &set->subsys[memory]);
	return (struct mem_cgroup *)css; /* css is its first member */
}

static __always_inline struct mem_cgroup *parent_of(struct mem_cgroup *memcg)
{
	return (struct mem_cgroup *)BPF_CORE_READ(memcg, css.parent);
}

static __always_inline __u64 cgroup_of(struct mem_cgroup *memcg)
{
	return BPF_CORE_READ(memcg, css.cgroup, kn, id);
}

static __always_inline __u64 limit_of(struct mem_cgroup *memcg, bool throttled)
{
	__u64 max = BPF_CORE_READ(memcg, memory.max), high = ~0ULL;

	if (throttled && !cgroup_v1)
		high = BPF_CORE_READ(memcg, memory.high);
	return high < max ? high : max;
}

/*
 * Fills in what the cgroup may use and uses: memory, or on v1 memory and swap together if there is
 * less left of that. With `throttled` the limit is the one from which on a cgroup is slowed down,
 * if it has one (v2). Returns the pages left, negative above the limit.
 */
static __always_inline __s64 fill_use(struct memory_use *use, struct mem_cgroup *memcg,
				      bool throttled)
{
	use->cgroup = cgroup_of(memcg);
	use->limit_pages = limit_of(memcg, throttled);
	use->used_pages = BPF_CORE_READ(memcg, memory.usage.counter);
	if (cgroup_v1 && bpf_core_field_exists(memcg->memsw)) {
		__u64 limit = BPF_CORE_READ(memcg, memsw.max);
		__u64 used = BPF_CORE_READ(memcg, memsw.usage.counter);

		if ((__s64)(limit - used) < (__s64)(use->limit_pages - use->used_pages)) {
			use->limit_pages = limit;
			use->used_pages = used;
		}
	}
	return use->limit_pages - use->used_pages;
}

/* Of the cgroup and its ancestors the one with the fewest pages left below its limit. */
static __always_inline struct mem_cgroup *nearest_to_limit(struct mem_cgroup *memcg, bool throttled)
{
	struct mem_cgroup *nearest = memcg;
	__s64 least = 1LL << 62;

	for (int i = 0; i < LEVELS && memcg; i++) {
		struct memory_use use;
		__s64 left = fill_use(&use, memcg, throttled);

		if (left < least) {
			least = left;
			nearest = memcg;
		}
		memcg = parent_of(memcg);
	}
	return nearest;
}

#endif
