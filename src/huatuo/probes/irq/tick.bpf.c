// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What the timer's tick tells, from one hook: it runs a few hundred times a second on every CPU
 * that is not idle, by a timer of the kernel whose due time is known.
 *
 * - A tick that comes too late was held up: interrupts were off. It comes the moment they are on
 *   again, on top of whoever switched them on: the stack is that of the culprit at the end of its
 *   doing. (No sample can be taken before that, but by an interrupt that cannot be switched off.)
 *   Idle CPUs have no tick, or one that is due later: they are never late.
 * - A task that is found at tick after tick, was not switched away in between, was never found in
 *   user space (the kernel counts that) and has others waiting for its CPU: it does not let go of
 *   it, as the kernel's own watchdog says after twenty seconds. Here the stack is that of what goes
 *   on. Ticks are counted, not time: nobody is blamed for a machine that stood still.
 *
 * The tracepoints preemptirq:irq_disable and irq_enable would tell of every stretch with interrupts
 * off, however short. No distribution's kernel has them (CONFIG_PREEMPTIRQ_TRACEPOINTS comes with
 * debugging), since they make each of some million such stretches a second slower.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

const volatile duration_ns_t late_threshold DOC(
	"a tick that comes so much too late is an event: interrupts were off, or the "
	"hypervisor had taken the CPU") = 20000000;
const volatile duration_ns_t stuck_threshold DOC(
	"a task that stays in the kernel for this long and does not let others have the CPU is "
	"an event; again after four, 16 … times that long") = 2000000000;
const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

#define CPUS 1024
#define PERIOD 30000000000ULL
#define PAUSE 4
#define KNOWS_CURRENT bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)

struct tick_row {
	duration_histogram_t delay DOC("how much too late ticks of the timer came, all CPUs");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick_row);
} ticks SEC(".maps");

struct cpu_key {
	__u32 cpu DOC("CPU");
};

struct cpu_row {
	gauge_ns_t
		longest DOC("longest that a tick came too late in the last half to whole minute");
	__u64 until; /* when the half minute that goes on ends */
	__u64 most;  /* in it */
	__u64 switches;
	__u64 user;
	__u32 tid;  /* found at the last tick, with so many switches and so long in user space */
	__u32 kept; /* ticks at which it kept others waiting */
	__u64 told; /* it is an event, or is again, when it has done so for this long */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CPUS);
	__type(key, struct cpu_key);
	__type(value, struct cpu_row);
} cpus SEC(".maps");

struct late_tick {
	ktime_ns_t time DOC("when the tick came");
	cgroup_id_t cgroup DOC("container of the task that ran then");
	duration_ns_t late
		DOC("how much too late: interrupts were off for so long, and up to a tick longer");
	__u32 cpu DOC("CPU");
	tgid_t tgid DOC("process that ran then; 0: none, the CPU was idle");
	tid_t tid DOC("its thread");
	comm_t comm DOC("name of the thread");
	__u32 unused DOC("nothing");
	kstack_t stack
		DOC("where interrupts were switched on again, below the tick's own functions");
};

RING(late_ticks, struct late_tick, 128 * 1024);

struct stuck_cpu {
	ktime_ns_t time DOC("of the tick at which it was found");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t stuck DOC("how long it has kept others waiting by then, counted in ticks");
	__u32 cpu DOC("CPU");
	__u32 waiting DOC("how many other tasks wait for this CPU");
	tgid_t tgid DOC("process");
	tid_t tid DOC("its thread");
	comm_t comm DOC("name of the thread");
	kstack_t stack DOC("what it does, below the tick's own functions");
};

RING(stuck_cpus, struct stuck_cpu, 64 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct timerqueue_node {
	__s64 expires;
};

struct hrtimer {
	struct timerqueue_node node;
	void *function;
	__u8 is_soft;
};

struct rq___tick {
	unsigned int nr_running;
};

struct task_struct___tick {
	unsigned long nvcsw;
	unsigned long nivcsw;
	__u64 utime;
};

#pragma clang attribute pop

/* The function of the tick: tick_sched_timer() until 6.8. */
extern const void tick_nohz_handler __ksym __weak;
extern const void tick_sched_timer __ksym __weak;

#define KNOWS_TICK ((__u64)&tick_nohz_handler || (__u64)&tick_sched_timer)

/* Where the kernel hides its addresses from us any timer that is run by an interrupt will do. */
static __always_inline bool is_tick(struct hrtimer *timer)
{
	__u64 function = (__u64)timer->function;

	if (!KNOWS_TICK)
		return !timer->is_soft;
	return function == (__u64)&tick_nohz_handler || function == (__u64)&tick_sched_timer;
}

static __always_inline void keep_longest(struct cpu_row *cpu, __u64 late, __u64 now)
{
	if (now >= cpu->until) {
		cpu->until = now + PERIOD;
		cpu->longest = cpu->most;
		cpu->most = 0;
	}
	if (late > cpu->most)
		cpu->most = late;
	if (late > cpu->longest)
		cpu->longest = late;
}

static __always_inline void report_late(void *context, __u64 late, __u64 now)
{
	__u64 cgroup = current_cgroup(), ids = bpf_get_current_pid_tgid();
	struct late_tick *record = event_reserve(&late_ticks, sizeof(*record), cgroup, now);

	if (!record)
		return;
	record->time = now;
	record->cgroup = cgroup;
	record->late = late;
	record->cpu = bpf_get_smp_processor_id();
	record->tgid = ids >> 32;
	record->tid = ids;
	record->unused = 0;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	__builtin_memset(record->stack, 0, sizeof(record->stack));
	bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
	ring_submit(&late_ticks, record);
}

static __always_inline void report_stuck(void *context, __u64 stuck, __u32 waiting, __u64 now)
{
	__u64 cgroup = current_cgroup(), ids = bpf_get_current_pid_tgid();
	struct stuck_cpu *record = event_reserve(&stuck_cpus, sizeof(*record), cgroup, now);

	if (!record)
		return;
	record->time = now;
	record->cgroup = cgroup;
	record->stuck = stuck;
	record->cpu = bpf_get_smp_processor_id();
	record->waiting = waiting;
	record->tgid = ids >> 32;
	record->tid = ids;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	__builtin_memset(record->stack, 0, sizeof(record->stack));
	bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
	ring_submit(&stuck_cpus, record);
}

/* How often the current task was switched away so far, and how long it was in user space. */
static __always_inline void look_at_current(__u64 *switches, __u64 *user)
{
	struct task_struct___tick *task;

	if (KNOWS_CURRENT) {
		task = (void *)bpf_get_current_task_btf();
		*switches = task->nvcsw + task->nivcsw;
		*user = task->utime;
	} else {
		task = (void *)bpf_get_current_task();
		*switches = BPF_CORE_READ(task, nvcsw) + BPF_CORE_READ(task, nivcsw);
		*user = BPF_CORE_READ(task, utime);
	}
}

static __always_inline __u32 tasks_here(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct rq___tick *queue = (void *)BPF_CORE_READ(task, se.cfs_rq, rq);

	return BPF_CORE_READ(queue, nr_running);
}

static __always_inline void watch_current(void *context, struct cpu_row *cpu, __u64 now)
{
	__u64 switches, user, stuck;
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), tasks;

	if (!tid) { /* idle */
		cpu->tid = 0;
		return;
	}
	look_at_current(&switches, &user);
	if (cpu->tid != tid || cpu->switches != switches || cpu->user != user) {
		cpu->tid = tid;
		cpu->switches = switches;
		cpu->user = user;
		cpu->kept = 0;
		return;
	}
	tasks = tasks_here();
	if (tasks < 2) {
		cpu->kept = 0;
		return;
	}
	cpu->kept++;
	stuck = cpu->kept * jiffy_ns;
	if (cpu->kept == 1)
		cpu->told = stuck_threshold;
	if (stuck < cpu->told)
		return;
	cpu->told = stuck * PAUSE;
	report_stuck(context, stuck, tasks - 1, now);
}

SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(hrtimer_expire_entry, struct hrtimer *timer)
{
	struct cpu_key number = {.cpu = bpf_get_smp_processor_id()};
	struct tick_row *row;
	struct cpu_row *cpu;
	__u64 now, due, late;
	__u32 zero = 0;

	if (!is_tick(timer))
		return 0;
	now = bpf_ktime_get_ns();
	due = timer->node.expires;
	late = now > due ? now - due : 0;
	row = bpf_map_lookup_elem(&ticks, &zero);
	cpu = bpf_map_lookup_elem(&cpus, &number);
	if (!row || !cpu)
		return 0;
	histogram_add(&row->delay, late);
	keep_longest(cpu, late, now);
	if (KNOWS_TICK) /* else what is counted are not ticks */
		watch_current(ctx, cpu, now);
	if (late >= late_threshold)
		report_late(ctx, late, now);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
