// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What every CPU is doing, some times a second: a clock event on each of them, stopped while idle.
 * It is an interrupt, so nothing else runs on this CPU until the sample is taken.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"
#include <linux/bpf_perf_event.h>

/* Read by cpu.py, which sets the clocks. */
const volatile per_second_t samples_per_second DOC("samples of each busy CPU per second") = 19;

RING(samples, struct sample, 256 * 1024);

SEC("perf_event")
int cpu_clock(struct bpf_perf_event_data *context)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct unwinder *u = this_unwinder();
	struct sample *sample;
	long size;

	if (!u || !task->pid)
		return 0;
	size = bpf_get_stack(context, u->stack.kernel, sizeof(u->stack.kernel), 0);
	u->stack.kernel_count = size > 0 ? size / sizeof(__u64) : 0;
	unwind_user(u, task);
	sample = reserve_sample(&samples, u, task, bpf_ktime_get_ns());
	if (!sample)
		return 0;
	sample->value = context->sample_period;
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
