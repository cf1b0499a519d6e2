// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Page faults of user space, sampled by a hash of the page's address: a sampled page is sampled at each
 * of its faults, so user space always knows who touched last what is resident now (resident.py).
 *
 * A huge page is faulted once for all of its small ones. So regions of 2 MiB are sampled by a hash
 * of their own, at their first fault; user space knows which of the two kinds of sample counts.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile count_t one_page_in DOC("of how many pages one is sampled, a power of two") = 256;
const volatile count_t one_region_in
	DOC("of how many regions of 2 MiB one is sampled for huge pages, a power of two") = 16;

#define HUGE_BITS 21

enum fault_kind {
	FAULT_PAGE,
	FAULT_REGION,
};

RING(samples, struct sample, 1024 * 1024);

/* Regions that were sampled already: one sample is enough until user space asks again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u32);
} regions SEC(".maps");

static __always_inline bool is_chosen(__u64 number, __u64 tgid, __u64 one_in)
{
	__u64 hash = (number ^ tgid << 40) * 0x9e3779b97f4a7c15ULL;

	return !((hash >> 40) & (one_in - 1));
}

static __always_inline int faulted(void *context, __u64 address)
{
	__u64 tgid = bpf_get_current_pid_tgid() >> 32, region = address >> HUGE_BITS | tgid << 32;
	__u32 kind = FAULT_PAGE, one = 1;
	struct sample *sample;

	if (address >> 47)
		return 0; /* the kernel's own memory */
	if (!is_chosen(address >> PAGE_BITS, tgid, one_page_in)) {
		if (!is_chosen(address >> HUGE_BITS, tgid, one_region_in) ||
		    bpf_map_update_elem(&regions, &region, &one, BPF_NOEXIST))
			return 0;
		kind = FAULT_REGION;
	}
	sample = sample_current(context, &samples);
	if (!sample)
		return 0;
	sample->object = address;
	sample->kind = kind;
	ring_submit(&samples, sample);
	return 0;
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(page_fault_user, unsigned long address)
{
	return faulted(ctx, address);
}

/* What the kernel writes into fresh memory of the task: read(2) into a new buffer. */
SEC("tp_btf/page_fault_kernel")
int BPF_PROG(page_fault_kernel, unsigned long address)
{
	return faulted(ctx, address);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
