/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which containers' records are wanted, filled by user space (probes/bpf.py) as they come and go.
 * What is not wanted is counted as suppressed, and costs no more than that.
 */
#ifndef HUATUO_WANTED_H
#define HUATUO_WANTED_H

#include "account.bpf.h"

enum wanted_cgroups {
	WANTED_ALL,
	WANTED_LISTED,
	WANTED_NOT_LISTED,
};

const volatile __u32 wanted_cgroups = WANTED_ALL; /* set by the loader, not a setting */

#ifndef LISTED_FLAGS
#define LISTED_FLAGS BPF_F_NO_PREALLOC
#endif

struct { /* sized by user space, where anybody is unwanted; it leaves out who has no room here */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, LISTED_FLAGS);
	__type(key, __u64);
	__type(value, __u32);
} listed_cgroups SEC(".maps");

static __always_inline bool is_wanted_cgroup(__u64 cgroup)
{
	if (wanted_cgroups == WANTED_ALL)
		return true;
	return !bpf_map_lookup_elem(&listed_cgroups, &cgroup) == (wanted_cgroups != WANTED_LISTED);
}

#endif
