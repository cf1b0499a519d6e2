// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only. One numbered record per task_rename of this process, through the usual path. */
#include "event.bpf.h"

const volatile __u32 only_tgid = 0;

struct numbered {
	ktime_ns_t time DOC("when");
	count_t number DOC("1, 2, 3, …");
	tgid_t tgid DOC("process");
	count_t inverted DOC("~number: a record that does not divide the ring, so some wrap");
};

RING(numbers, struct numbered, 64 * 1024);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counter SEC(".maps");

SEC("tp_btf/task_rename")
int BPF_PROG(rename)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, zero = 0;
	__u64 *number = bpf_map_lookup_elem(&counter, &zero);
	__u64 now = bpf_ktime_get_ns();
	struct numbered *record;

	if (tgid != only_tgid || !number)
		return 0;
	++*number;
	record = event_reserve(&numbers, sizeof(*record), 1, now);
	if (!record)
		return 0;
	record->time = now;
	record->number = *number;
	record->tgid = tgid;
	record->inverted = ~*number;
	ring_submit(&numbers, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
