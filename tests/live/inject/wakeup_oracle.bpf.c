// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Test only. The usual way to measure run-queue wait, as the oracle for cpu.sched: stamp at wakeup
 * and at preemption in a hash keyed by pid, histogram at switch. Dear, but exact by construction.
 */
#include "histogram.bpf.h"
#include "kernel.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} queued SEC(".maps");

struct oracle_row {
	duration_histogram_t wait;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oracle_row);
} oracle SEC(".maps");

static __always_inline void stamp(__u32 pid)
{
	__u64 now = bpf_ktime_get_ns();

	if (pid)
		bpf_map_update_elem(&queued, &pid, &now, BPF_ANY);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *task)
{
	stamp(task->pid);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *task)
{
	stamp(task->pid);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	long state = bpf_core_field_exists(prev->__state)
			     ? prev->__state
			     : ((struct task_struct___before_5_14 *)prev)->state;
	__u32 pid = next->pid, zero = 0;
	__u64 *since = bpf_map_lookup_elem(&queued, &pid);
	struct oracle_row *row = bpf_map_lookup_elem(&oracle, &zero);

	if (preempt || !state)
		stamp(prev->pid);
	if (!since || !row)
		return 0;
	histogram_add(&row->wait, bpf_ktime_get_ns() - *since);
	bpf_map_delete_elem(&queued, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
