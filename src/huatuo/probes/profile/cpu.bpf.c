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
	struct sample *sample;

	if (!(__u32)bpf_get_current_pid_tgid())
		return 0; /* the idle task */
	sample = sample_current(context, &samples);
	if (!sample)
		return 0;
	sample->value = context->sample_period;
	ring_submit(&samples, sample);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
