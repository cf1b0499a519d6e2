// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Page faults of user space, sampled by a hash of the page's address: a sampled page is sampled at
 * each of its faults, so user space always knows who touched last what is resident now
 * (resident.py).
 *
 * A huge page is faulted once for all of its small ones. So regions of 2 MiB are sampled by a hash
 * of their own, at their first fault; user space knows which of the two kinds of sample counts.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile count_t one_page_in DOC("of how many pages one is sampled, a power of two") = 256;
const volatile count_t one_region_in
	DOC("of how many regions of 2 MiB one is sampled for huge pages, a power of two") = 16;

/* Read by resident.py, which looks what is still there. */
const volatile duration_ns_t
	look_every DOC("how often sampled memory is looked at") = 10000000000ULL;

#define HUGE_BITS 21

/* What a sample stands for, either or both: struct sample's kind. */
#define FAULT_PAGE 1
#define FAULT_REGION 2

RING(samples, struct sample, 1024 * 1024);

/*
 * Regions that were sampled already, and the page that was: a region of small pages is sampled
 * once. If that page faults again, everything there was unmapped meanwhile, and the region is news.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} regions SEC(".maps");

static __always_inline bool is_news(__u64 tgid, __u64 address)
{
	__u64 region = address >> HUGE_BITS | tgid << 32, page = address >> PAGE_BITS;
	__u64 *known = bpf_map_lookup_elem(&regions, &region);

	if (known)
		return *known == page;
	bpf_map_update_elem(&regions, &region, &page, BPF_ANY);
	return true;
}

static __always_inline bool is_chosen(__u64 number, __u64 tgid, __u64 one_in)
{
	__u64 hash = (number ^ tgid << 40) * 0x9e3779b97f4a7c15ULL;

	return !((hash >> 40) & (one_in - 1));
}

static __always_inline int faulted(void *context, __u64 address)
{
	__u64 tgid = bpf_get_current_pid_tgid() >> 32;
	struct sample *sample;
	__u32 kind = 0;

	if (address >> 47)
		return 0; /* the kernel's own memory */
	if (is_chosen(address >> PAGE_BITS, tgid, one_page_in))
		kind |= FAULT_PAGE;
	if (is_chosen(address >> HUGE_BITS, tgid, one_region_in) && is_news(tgid, address))
		kind |= FAULT_REGION;
	if (!kind)
		return 0;
	sample = sample_current(context, &samples);
	if (!sample)
		return 0;
	sample->object = address;
	sample->kind = kind;
	ring_submit_quietly(&samples, sample);
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
