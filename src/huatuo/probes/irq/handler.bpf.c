// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How long the handlers of hardware interrupts run. Interrupts are off meanwhile, so one stamp per
 * CPU is enough. A handler is known by the address of its action: one interrupt may have several,
 * and a number may be given to another device later. No stack is taken: at a handler's end there
 * is nothing of it left on the stack; its function and its name tell what it was.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

const volatile duration_ns_t
	slow_threshold DOC("handlers of hardware interrupts that run for at least this long are "
			   "events") = 2000000;

typedef char interrupt_name_t[32];

struct handler_key {
	__u32 irq DOC("number of the interrupt");
	__u32 interrupt DOC("its name; here the lower half of its action's address");
};

struct handler_row {
	duration_histogram_t
		run DOC("time one handler of a hardware interrupt took, interrupts off");
};

COUNTERS_UP_TO(1024, handlers, struct handler_key, struct handler_row);

static const struct handler_row never_run;

struct handler_name {
	interrupt_name_t name;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct handler_key);
	__type(value, struct handler_name);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} entered SEC(".maps");

struct slow_handler {
	ktime_ns_t time DOC("end of the handler");
	cgroup_id_t cgroup DOC("container that was interrupted");
	duration_ns_t run DOC("how long the handler ran");
	kaddr_t handler DOC("its function");
	__u32 irq DOC("number of the interrupt");
	__u32 cpu DOC("CPU it ran on");
	tgid_t tgid DOC("process that was interrupted");
	comm_t comm DOC("name of its thread");
	interrupt_name_t interrupt DOC("name of the interrupt, as in /proc/interrupts");
};

RING(slow_handlers, struct slow_handler, 64 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct irqaction {
	void *handler;
	const char *name;
};

#pragma clang attribute pop

static __always_inline struct handler_row *row_of(int irq, struct irqaction *action)
{
	struct handler_key key = {.irq = irq, .interrupt = (__u64)action};
	struct handler_row *row = bpf_map_lookup_elem(&handlers, &key);
	struct handler_name name = {};

	if (row)
		return row;
	bpf_probe_read_kernel_str(name.name, sizeof(name.name), BPF_CORE_READ(action, name));
	bpf_map_update_elem(&names, &key, &name, BPF_ANY);
	return counter_row(&handlers, &key, &never_run);
}

static __always_inline void report(int irq, struct irqaction *action, __u64 run, __u64 now)
{
	__u64 cgroup = current_cgroup();
	struct slow_handler *record = event_reserve(&slow_handlers, sizeof(*record), cgroup, now);

	if (!record)
		return;
	__builtin_memset(record->interrupt, 0, sizeof(record->interrupt));
	record->time = now;
	record->cgroup = cgroup;
	record->run = run;
	record->handler = (kaddr_t)BPF_CORE_READ(action, handler);
	record->irq = irq;
	record->cpu = bpf_get_smp_processor_id();
	record->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	bpf_probe_read_kernel_str(record->interrupt, sizeof(record->interrupt),
				  BPF_CORE_READ(action, name));
	ring_submit(&slow_handlers, record);
}

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(irq_handler_entry)
{
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&entered, &zero);

	if (since)
		*since = bpf_ktime_get_ns();
	return 0;
}

/* raw, so that the address of the action is a number */
SEC("raw_tp/irq_handler_exit")
int BPF_PROG(irq_handler_exit, int irq, struct irqaction *action)
{
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&entered, &zero), now, run;
	struct handler_row *row;

	if (!since || !*since)
		return 0;
	now = bpf_ktime_get_ns();
	run = now - *since;
	*since = 0;
	row = row_of(irq, action);
	if (row)
		histogram_add(&row->run, run);
	if (run >= slow_threshold)
		report(irq, action, run, now);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
