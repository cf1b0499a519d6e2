// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * One program on sched_switch for everything the scheduler tells: how long runnable tasks waited
 * for a CPU, who ran meanwhile, involuntary switches, time on CPU. Interrupts are off and the
 * run-queue lock is held there: no allocation, no lock that can sleep, rows of this CPU only.
 *
 * The wait needs no hook on wakeup: the kernel stamps the enqueue in sched_info.last_queued, and
 * a migration moves the wait so far into run_delay. The wait is therefore
 *	(rq clock - last_queued) + (run_delay - run_delay when the task last got a CPU)
 * and that last value is the only word kept per task (kernel/sched/stats.h: sched_info_arrive).
 */
#include "account.bpf.h"
#include "cgroup.bpf.h"
#include "histogram.bpf.h"

#define ROWS 1024    /* cgroups with a row of their own; the rest share row 0 */
#define OCCUPANTS 64 /* turns of containers back on a CPU to which a wait is attributed */
#define TASK_RUNNING 0

const volatile duration_ns_t blame_threshold
	DOC("shortest wait that is attributed to the tasks that ran meanwhile") = 1000000;

struct sched_row {
	duration_histogram_t wait DOC("time runnable tasks waited for a CPU");
	counter_ns_t run DOC("time tasks spent on a CPU, added when they leave it");
	counter_t involuntary_switches DOC("switches away from a task that wanted to go on");
	counter_t voluntary_switches DOC("switches away from a task that went to sleep");
};

struct sched_key {
	cgroup_id_t victim DOC("container that waited for a CPU");
	cgroup_id_t culprit DOC("container that ran meanwhile; none if too long ago");
};

struct sched_blame {
	counter_ns_t delay DOC("wait of the victim while the culprit ran on its CPU");
};

/* A dense row number per cgroup makes the hot path two array look-ups instead of a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROWS);
	__type(key, cgroup_id_t);
	__type(value, __u32);
} row_of_cgroup SEC(".maps");

struct { /* filled and refilled by user space: rows of cgroups that are gone come back */
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ROWS);
	__type(value, __u32);
} free_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROWS);
	__type(key, __u32);
	__type(value, struct sched_row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct sched_key);
	__type(value, struct sched_blame);
} blame SEC(".maps");

struct occupant {
	__u64 cgroup;
	__u64 until;
};

struct cpu_state {
	__u64 since;  /* rq clock at the last switch */
	__u64 cgroup; /* of the task that runs since */
	__u32 row;
	__u32 head;
	struct occupant occupants[OCCUPANTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct task_state {
	__u64 run_delay; /* when the task last got a CPU */
	__u64 cgroup;	 /* row is the row of this cgroup */
	__u32 row;
	__u32 known;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

static __always_inline __u32 find_row(__u64 cgroup)
{
	__u32 *found = bpf_map_lookup_elem(&row_of_cgroup, &cgroup);
	__u32 row = 0;

	if (found)
		return *found;
	if (bpf_map_pop_elem(&free_rows, &row)) {
		ACCOUNT(map_full);
		return 0;
	}
	if (bpf_map_update_elem(&row_of_cgroup, &cgroup, &row, BPF_NOEXIST)) {
		bpf_map_push_elem(&free_rows, &row, 0); /* another CPU was faster */
		found = bpf_map_lookup_elem(&row_of_cgroup, &cgroup);
		return found ? *found : 0;
	}
	return row;
}

static __always_inline void add_blame(__u64 victim, __u64 culprit, __u64 ns)
{
	struct sched_key key = {.victim = victim, .culprit = culprit};
	struct sched_blame *found = bpf_map_lookup_elem(&blame, &key);
	struct sched_blame first = {.delay = ns};

	if (!culprit) /* the CPU was idle: waking it up took the time */
		return;
	if (found)
		__sync_fetch_and_add(&found->delay, ns);
	else if (bpf_map_update_elem(&blame, &key, &first, BPF_NOEXIST))
		ACCOUNT(map_full);
}

/* Walk this CPU's last occupants back to when the wait began; what was before them is nobody's. */
static __always_inline void blame_occupants(struct cpu_state *cpu, __u64 victim, __u64 from)
{
	for (int back = 1; back < OCCUPANTS; back++) {
		struct occupant *occupant = &cpu->occupants[(cpu->head - back) % OCCUPANTS];
		struct occupant *before = &cpu->occupants[(cpu->head - back - 1) % OCCUPANTS];
		__u64 start = before->until > from ? before->until : from;

		if (occupant->until <= from || !before->until)
			return;
		add_blame(victim, occupant->cgroup, occupant->until - start);
	}
}

/* The occupant of this CPU leaves: a new entry, or a longer one if its container was there before.
 */
static __always_inline void remember_occupant(struct cpu_state *cpu, __u64 now)
{
	struct occupant *last = &cpu->occupants[(cpu->head - 1) % OCCUPANTS];

	if (!last->until || last->cgroup != cpu->cgroup) {
		last = &cpu->occupants[cpu->head % OCCUPANTS];
		last->cgroup = cpu->cgroup;
		cpu->head++;
	}
	last->until = now;
}

static __always_inline void leave(struct cpu_state *cpu, struct task_struct *prev, bool runnable,
				  __u64 now)
{
	struct sched_row *row;

	remember_occupant(cpu, now);
	if (!prev->pid || !cpu->since)
		return;
	row = bpf_map_lookup_elem(&rows, &cpu->row);
	if (!row)
		return;
	row->run += now - cpu->since;
	if (runnable)
		row->involuntary_switches++;
	else
		row->voluntary_switches++;
}

static __always_inline void arrive(struct cpu_state *cpu, struct task_struct *next,
				   struct task_state *task, __u64 now)
{
	__u64 queued = next->sched_info.last_queued;
	__u64 here = queued && now > queued ? now - queued : 0; /* on this CPU's queue */
	__u64 waited = here;
	__u64 cgroup = task_cgroup(next);
	struct sched_row *row;

	if (task && task->cgroup == cgroup) {
		cpu->row = task->row;
	} else {
		cpu->row = find_row(cgroup);
		if (task) {
			task->row = cpu->row;
			task->cgroup = cgroup;
		}
	}
	if (task) {
		__u64 run_delay = next->sched_info.run_delay;
		__u64 arrived = run_delay + waited; /* what sched_info_arrive() will store */

		if (task->known && run_delay > task->run_delay)
			waited += run_delay - task->run_delay;
		task->run_delay = arrived;
		task->known = 1;
	}
	row = bpf_map_lookup_elem(&rows, &cpu->row);
	if (row)
		histogram_add(&row->wait, waited);
	if (here > blame_threshold && cpu->since)
		blame_occupants(cpu, cgroup, now - here);
	cpu->cgroup = cgroup;
}

static __always_inline int on_switch(struct task_struct *prev, struct task_struct *next,
				     bool runnable, struct task_state *task)
{
	__u64 now = next->se.cfs_rq->rq->clock;
	__u32 zero = 0;
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &zero);

	if (!cpu)
		return 0;
	leave(cpu, prev, runnable, now);
	if (next->pid) {
		arrive(cpu, next, task, now);
	} else {
		cpu->cgroup = 0;
		cpu->row = 0;
	}
	cpu->since = now;
	return 0;
}

/* prev_state as an argument: commit fa2c3254d7cf ("sched/tracing: Don't re-read p->state"), v5.18
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch__exact, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	return on_switch(prev, next, preempt || prev_state == TASK_RUNNING,
			 next->pid ? bpf_task_storage_get(&tasks, next, NULL, 0) : NULL);
}

/* Without task storage (before v5.11) a migration restarts the wait: long waits are undercounted.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch__restart_on_migration, bool preempt, struct task_struct *prev,
	     struct task_struct *next)
{
	long state = bpf_core_field_exists(prev->__state)
			     ? prev->__state
			     : ((struct task_struct___before_5_14 *)prev)->state;

	return on_switch(prev, next, preempt || state == TASK_RUNNING, NULL);
}

/*
 * The word per task is made where allocating is safe, never under the run-queue lock: for new
 * tasks when they are forked, for those already there by walking them once.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork__exact, struct task_struct *parent, struct task_struct *child)
{
	bpf_task_storage_get(&tasks, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

struct bpf_iter__task {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct task_struct *, task);
} __attribute__((preserve_access_index));

SEC("iter/task")
int once_per_task__exact(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task; /* read once: the verifier forgets a check */

	if (task)
		bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
