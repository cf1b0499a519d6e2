// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Pages taken from the page allocator, by anybody for anything: every so many bytes on a CPU the
 * stack that takes them is sampled, and stands for all of them.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile bytes_t sample_every DOC("one sample stands for this much") = 1048576;

#define PAGE_BYTES 4096ULL

RING(samples, struct sample, 1024 * 1024);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} unsampled SEC(".maps");

SEC("tp_btf/mm_page_alloc")
int BPF_PROG(mm_page_alloc, void *page, unsigned int order)
{
	__u32 zero = 0;
	__u64 *sum = bpf_map_lookup_elem(&unsampled, &zero);
	struct sample *sample;
	__u64 bytes;

	if (!sum || !page)
		return 0;
	bytes = __sync_fetch_and_add(sum, PAGE_BYTES << order) + (PAGE_BYTES << order);
	if (bytes < sample_every)
		return 0;
	__sync_fetch_and_sub(sum, bytes);
	sample = sample_current(ctx, &samples);
	if (!sample)
		return 0;
	sample->value = bytes;
	ring_submit_quietly(&samples, sample);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
