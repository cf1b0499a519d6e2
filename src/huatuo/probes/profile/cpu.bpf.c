// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What every CPU is doing, some times a second: a clock event on each of them, stopped while idle.
 * It is an interrupt, so nothing else runs on this CPU until the sample is taken.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#define LISTED_FLAGS 0 /* older kernels let perf events use no map that allocates */
#include "sample.bpf.h"
#include <linux/bpf_perf_event.h>

/* Read by cpu.py, which sets the clocks. */
const volatile per_second_t samples_per_second DOC("samples of each busy CPU per second") = 19;

RING(samples, struct sample, 256 * 1024);

SEC("perf_event")
int cpu_clock__unwind_rows(struct bpf_perf_event_data *context)
{
	struct sample *sample;

	if (!(__u32)bpf_get_current_pid_tgid())
		return 0; /* the idle task */
	sample = sample_current(context, &samples);
	if (!sample)
		return 0;
	sample->value = context->sample_period;
	ring_submit_quietly(&samples, sample);
	return 0;
}

/*
 * For kernels where unwind.bpf.h cannot work: the kernel follows the frame pointers, and user space
 * looks the addresses up in /proc/PID/maps. A program that is new wakes it: it may be gone soon.
 */
#define MOST_FOLLOWED 127 /* perf_event_max_stack */

static __always_inline void follow_frame_pointers(void *context, struct unwinder *u)
{
	long size = bpf_get_stack(context, u->stack.user, MOST_FOLLOWED * sizeof(__u64),
				  BPF_F_USER_STACK);

	u->stack.user_count = size > 0 ? size / sizeof(__u64) : 0;
	u->stack.status = size > 0 ? STACK_FRAME_POINTERS : STACK_COMPLETE;
	for (int i = 0; i < MOST_FOLLOWED; i++) /* all but the first are return addresses */
		u->stack.user[i] = (u->stack.user[i] - (i > 0)) | NOWHERE;
}

/* `program`: what the addresses mean something in. */
static __always_inline __u64 send_followed(struct unwinder *u, __u64 program)
{
	start_hash(u);
	hash(u, program);
	for (__u32 i = 0; i < KERNEL_FRAMES && i < u->stack.kernel_count; i++)
		hash(u, u->stack.kernel[i]);
	for (__u32 i = 0; i < MOST_FOLLOWED && i < u->stack.user_count; i++)
		hash(u, u->stack.user[i]);
	u->stack.tgid = bpf_get_current_pid_tgid() >> 32;
	return send_hashed(u);
}

SEC("perf_event")
int cpu_clock__frame_pointers(struct bpf_perf_event_data *context)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 program = (__u64)BPF_CORE_READ(task, mm); /* no stack has such an id */
	struct unwinder *u = this_unwinder();
	struct sample *sample;
	__u32 one = 1;

	if (!(__u32)bpf_get_current_pid_tgid() || !u || !is_sampled(task))
		return 0;
	take_kernel_stack(context, u);
	follow_frame_pointers(context, u);
	sample = reserve_sample(&samples, send_followed(u, program), task, bpf_ktime_get_ns());
	if (!sample)
		return 0;
	sample->value = context->sample_period;
	if (program && !bpf_map_update_elem(&known_stacks, &program, &one, BPF_NOEXIST))
		bpf_ringbuf_submit(sample, BPF_RB_FORCE_WAKEUP);
	else
		ring_submit_quietly(&samples, sample);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
