// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How long each softirq vector waits between being raised and being run, and how long it runs.
 * Raise has interrupts off, entry and exit run in softirq context, which is not preempted by
 * another softirq of this CPU: one row per vector and CPU holds both the stamps and the sums.
 *
 * A vector may be raised many times before it runs: the first raise counts. One that is raised
 * again between the start of a round of softirqs and its own turn in it is counted with the raise
 * before, since the tracepoints do not show where a round starts; that run has no delay.
 *
 * Reading the clock is most of the price. A vector that runs more often than `timed_per_second` is
 * timed every so many runs, spread evenly, each standing for those since the one before; of the
 * others only those are measured, by jiffies, that are slow.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

const volatile duration_ns_t
	slow_threshold DOC("runs of one vector that last at least this long are events") = 10000000;
const volatile per_second_t timed_per_second
	DOC("runs of one vector on one CPU that are timed; of more, a share") = 2000;
const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

/* include/linux/interrupt.h; the same on all kernels since 2.6.36 */
enum vector {
	VECTOR_HI,
	VECTOR_TIMER,
	VECTOR_NET_TX,
	VECTOR_NET_RX,
	VECTOR_BLOCK,
	VECTOR_IRQ_POLL,
	VECTOR_TASKLET,
	VECTOR_SCHED,
	VECTOR_HRTIMER,
	VECTOR_RCU,
};
#define VECTORS 10

struct softirq_key {
	enum vector vector DOC("softirq vector");
};

struct softirq_row {
	duration_histogram_t delay DOC("time from the first raise of a softirq to its run");
	duration_histogram_t run DOC("time one run of a softirq took");
	__u64 raised;  /* the first since it last ran; 0: none */
	__u64 entered; /* 0: not running */
	__u64 waited;  /* delay of the run that goes on */
	__u64 tick;    /* jiffies when it last began to run */
	__u32 runs;    /* begun in that jiffy */
	__u32 step;    /* of so many runs one is timed */
	__u32 untimed; /* runs since the last that was timed, and the one that goes on */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VECTORS);
	__type(key, struct softirq_key);
	__type(value, struct softirq_row);
} vectors SEC(".maps");

struct slow_softirq {
	ktime_ns_t time DOC("end of the run");
	cgroup_id_t cgroup DOC("container that was interrupted");
	duration_ns_t run DOC("how long the vector ran");
	duration_ns_t delay DOC("how long it had waited since it was raised; 0 if unknown");
	enum vector vector DOC("which softirq");
	__u32 cpu DOC("CPU it ran on");
	tgid_t tgid DOC("process that was interrupted, or ksoftirqd");
	comm_t comm DOC("name of that process");
};

RING(slow_runs, struct slow_softirq, 64 * 1024);

static __always_inline struct softirq_row *find_row(unsigned int vector)
{
	struct softirq_key key = {(enum vector)vector};

	return bpf_map_lookup_elem(&vectors, &key);
}

static __always_inline void report(const struct softirq_row *row, unsigned int vector, __u64 run,
				   __u64 now)
{
	__u64 cgroup = current_cgroup();
	struct slow_softirq *record = event_reserve(&slow_runs, sizeof(*record), cgroup, now);

	if (!record)
		return;
	record->time = now;
	record->cgroup = cgroup;
	record->run = run;
	record->delay = row->waited;
	record->vector = (enum vector)vector;
	record->cpu = bpf_get_smp_processor_id();
	record->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	ring_submit(&slow_runs, record);
}

SEC("tp_btf/softirq_raise")
int BPF_PROG(softirq_raise, unsigned int vector)
{
	struct softirq_row *row = find_row(vector);

	if (!row || row->raised)
		return 0;
	if (row->untimed + 1 >= row->step || bpf_jiffies64() > row->tick + 1)
		row->raised = bpf_ktime_get_ns();
	return 0;
}

/* Whether the run that begins is timed: rather one whose raise was stamped. */
static __always_inline bool is_timed(struct softirq_row *row, bool is_stamped)
{
	__u64 tick = bpf_jiffies64();

	if (tick != row->tick) {
		row->step = tick == row->tick + 1
				    ? row->runs / (timed_per_second * jiffy_ns / 1000000000 + 1)
				    : 0;
		row->tick = tick;
		row->runs = 0;
	}
	row->runs++;
	if (++row->untimed < row->step)
		return false;
	return is_stamped || row->step <= 1 || row->untimed > row->step + 16;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_entry, unsigned int vector)
{
	struct softirq_row *row = find_row(vector);
	__u64 raised, now;

	if (!row)
		return 0;
	raised = row->raised;
	row->raised = 0; /* before the clock: what is raised from here on is for the next run */
	if (!is_timed(row, raised))
		return 0;
	now = bpf_ktime_get_ns();
	row->entered = now;
	row->waited = 0;
	if (raised) {
		row->waited = now - raised;
		histogram_add_many(&row->delay, now - raised, row->untimed);
	}
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(softirq_exit, unsigned int vector)
{
	struct softirq_row *row = find_row(vector);
	__u64 now, run;

	if (!row)
		return 0;
	if (!row->entered) {
		run = (bpf_jiffies64() - row->tick) * jiffy_ns;
		if (!row->untimed || run < slow_threshold)
			return 0;
		row->untimed--;
		row->waited = 0;
		histogram_add(&row->run, run);
		report(row, vector, run, bpf_ktime_get_ns());
		return 0;
	}
	now = bpf_ktime_get_ns();
	run = now - row->entered;
	row->entered = 0;
	histogram_add_many(&row->run, run, row->untimed);
	row->untimed = 0;
	if (run >= slow_threshold)
		report(row, vector, run, now);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
