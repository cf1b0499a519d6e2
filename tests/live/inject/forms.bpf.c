// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only. Forms that cannot be had anywhere, before one that can: the loader must find it. */
#include "account.bpf.h"

struct {
	__uint(type, 250); /* no such map type */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} impossible SEC(".maps");

struct hits {
	counter_t count DOC("runs of the form in use");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hits);
} hits SEC(".maps");

static __always_inline int count(void)
{
	__u32 zero = 0;
	struct hits *found = bpf_map_lookup_elem(&hits, &zero);

	if (found)
		found->count++;
	return 0;
}

SEC("tp_btf/no_such_tracepoint")
int BPF_PROG(rename__absent)
{
	return count();
}

SEC("tp_btf/task_rename")
int BPF_PROG(rename__impossible_map)
{
	__u32 zero = 0;

	bpf_map_lookup_elem(&impossible, &zero);
	return count();
}

SEC("tp_btf/task_rename")
int BPF_PROG(rename__too_many_arguments, void *task, const char *comm, void *third, void *fourth)
{
	return fourth ? count() : 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(rename__works)
{
	return count();
}

SEC("tp_btf/task_newtask")
int BPF_PROG(companion__absent)
{
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(newtask__works)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
