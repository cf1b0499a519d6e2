// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * One program on sched_switch for everything the scheduler tells: how long runnable tasks waited
 * for a CPU, who ran meanwhile, switches, migrations, time on CPU, uninterruptible sleeps.
 * Interrupts are off and the run-queue lock is held there: no allocation, no lock that can sleep,
 * rows of this CPU only.
 *
 * The wait needs no hook on wakeup: the kernel stamps the enqueue in sched_info.last_queued, and
 * a migration moves the wait so far into run_delay. The wait is therefore
 *	(rq clock - last_queued) + (run_delay - run_delay when the task last got a CPU)
 * and that last value is kept per task (kernel/sched/stats.h: sched_info_arrive). What came before
 * the wait is an uninterruptible sleep if the task left its CPU for one: it is stamped then, and
 * only then, so that the sleep's end is the wait's beginning.
 */
#define MAX_PER_SECOND 20 /* a record is 5 KiB and has many names to find */
#define MAX_PER_SECOND_PER_CONTAINER 5
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

#define ROWS 1024     /* cgroups with a row of their own; the rest share row 0 */
#define OCCUPANTS 128 /* turns back on a CPU that are remembered */
#define TURNS (OCCUPANTS - 1)
#define BLAMED 64	  /* to so many of them any wait is attributed; an event has them all */
#define SHORT_TURN 100000 /* ns; turns of one container that are shorter may share an entry */
#define NOISE 16	  /* a turn is left out where those around it are so much longer */
#define TASK_RUNNING 0
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_WAKEKILL 0x100
#define TASK_NOLOAD 0x400

const volatile duration_ns_t blame_threshold
	DOC("shortest wait that is attributed to the tasks that ran meanwhile") = 1000000;
const volatile duration_ns_t slow_wait_threshold
	DOC("waits for a CPU that last at least this long are events") = 100000000;
const volatile duration_ns_t block_threshold
	DOC("uninterruptible sleeps that last at least this long are events, when they end") =
		1000000000;
const volatile duration_ns_t contention_threshold DOC(
	"a container that another one delays by this much within contention_window is an event") =
	2000000000;
const volatile duration_ns_t contention_window
	DOC("time over which delays between two containers add up; at most one event in it") =
		10000000000ULL;

/* Why a task sleeps uninterruptibly. */
enum block_reason {
	BLOCK_IO,    /* the kernel counts it as waiting for a disk */
	BLOCK_LOCK,  /* for a lock of the kernel, where it notes which one (6.16 and later) */
	BLOCK_OTHER, /* an event, a frozen file system, or a lock on older kernels */
};

struct sched_row {
	duration_histogram_t wait DOC("time runnable tasks waited for a CPU");
	counter_ns_t run DOC("time tasks spent on a CPU, added when they leave it");
	counter_t involuntary_switches DOC("switches away from a task that wanted to go on");
	counter_t voluntary_switches DOC("switches away from a task that went to sleep");
	counter_t migrations DOC("moves of tasks to another CPU");
	counter_ns_t throttled_wait DOC(
		"part of waits above blame_threshold in which the container's own limit held it");
	__u64 throttled;       /* total of the run queue, when last looked at */
	__u64 throttled_until; /* then, and how long before */
	__u64 throttled_for;
};

struct block_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum block_reason reason DOC("what it waited for");
} KEY;

struct block_row {
	duration_histogram_t
		blocked DOC("lengths of uninterruptible sleeps (state D), counted when they end");
};

struct sched_key {
	cgroup_id_t victim DOC("container that waited for a CPU");
	cgroup_id_t culprit DOC("container that ran meanwhile; none if too long ago");
};

struct sched_blame {
	counter_ns_t delay DOC("wait of the victim while the culprit ran on its CPU");
	__u64 recent; /* delay since the window began */
	__u64 began;
	__u64 told;
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

static const struct block_row empty_block_row; /* too large for the stack */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct block_key);
	__type(value, struct block_row);
} blocks SEC(".maps");

/* A turn on a CPU; several, if they were short and of one container: then the first one's process.
 */
struct occupant {
	__u64 cgroup;
	__u64 until;
	__u32 tgid;
	__u32 mixed; /* turns of other processes in it */
	__u64 comm[2];
};

struct cpu_state {
	__u64 since;  /* rq clock at the last switch */
	__u64 cgroup; /* of the task that runs since */
	__u32 row;
	__u32 head;
	__u32 told; /* the occupant with which a contention is reported, back from head */
	__u32 last; /* the last one looked at */
	struct occupant occupants[OCCUPANTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct task_state {
	__u64 run_delay;  /* when the task last got a CPU */
	__u64 migrations; /* likewise */
	__u64 cgroup;	  /* row is the row of this cgroup */
	__u32 row;
	__u32 known;
	__u64 blocked_since; /* rq clock when it left for an uninterruptible sleep; 0: it did not */
	__u32 block_reason;
	__u32 killable;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} tasks SEC(".maps");

struct turn {
	duration_ns_t ran DOC("time on the CPU meanwhile");
	cgroup_id_t cgroup DOC("container of the task that ran");
	tgid_t tgid DOC("its process");
	__u32 mixed DOC("turns of other processes of that container, each below 0.1 ms, in it");
	comm_t comm DOC("name of its thread");
};

struct slow_wait {
	ktime_ns_t time DOC("when the task got its CPU");
	cgroup_id_t cgroup DOC("container of the task that waited");
	duration_ns_t wait DOC("how long it was runnable without running");
	duration_ns_t here DOC("part of it on the run queue of this CPU, to which the rest refers");
	duration_ns_t throttled DOC("part of it in which its container's own CPU limit held it");
	tgid_t tgid DOC("process that waited");
	tid_t tid DOC("thread that waited");
	__u32 cpu DOC("CPU it waited for");
	__u32 count DOC("turns that follow");
	comm_t comm DOC("name of the thread that waited");
	struct turn turns[TURNS] DOC("who ran on that CPU meanwhile, latest first");
};

RING(slow_waits, struct slow_wait, 512 * 1024);

struct long_block {
	ktime_ns_t time DOC("when the task ran again");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t blocked DOC("how long it slept uninterruptibly");
	duration_ns_t wait DOC("how long it then waited for a CPU");
	enum block_reason reason DOC("what it waited for, as far as the scheduler knows");
	__u32 killable DOC("1 if SIGKILL would have ended the sleep");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	comm_t comm DOC("name of the thread");
	kstack_t stack DOC("where it slept");
};

RING(long_blocks, struct long_block, 128 * 1024);

struct contention {
	ktime_ns_t time DOC("when the threshold was passed");
	cgroup_id_t cgroup DOC("container that waits");
	cgroup_id_t culprit DOC("container that runs meanwhile");
	duration_ns_t delay DOC("wait of the one's tasks while the other's ran, within the window");
	duration_ns_t window DOC("since the window began");
	__u32 cpu DOC("CPU of the latest wait");
	tgid_t tgid DOC("process that waited last");
	tgid_t culprit_tgid DOC("process that ran before it");
	__u32 unused DOC("nothing");
	comm_t comm DOC("name of the thread that waited last");
	comm_t culprit_comm DOC("name of the thread that ran before it");
};

RING(contentions, struct contention, 64 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___sched {
	unsigned in_iowait : 1;
	void *blocked_on;      /* 6.17, the mutex */
	unsigned long blocker; /* 6.16 with CONFIG_DETECT_HUNG_TASK_BLOCKER */
	struct sched_entity___sched {
		__u64 nr_migrations;
	} se;
};

struct cfs_rq___sched {
	__u64 throttled_clock_self_time; /* 6.6, commit 677ea015f231 */
	__u64 throttled_clock_pelt_time; /* 5.19 and stable kernels, commit 64eaf50731ac */
	__u64 throttled_clock_task_time; /* before */
};

#pragma clang attribute pop

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

/* Returns whether the two of them are to be reported. */
static __always_inline bool add_blame(__u64 victim, __u64 culprit, __u64 ns, __u64 now)
{
	struct sched_key key = {.victim = victim, .culprit = culprit};
	struct sched_blame *found = bpf_map_lookup_elem(&blame, &key);
	struct sched_blame first = {.delay = ns, .recent = ns, .began = now};

	if (!found) {
		if (bpf_map_update_elem(&blame, &key, &first, BPF_NOEXIST))
			ACCOUNT(map_full);
		return false;
	}
	__sync_fetch_and_add(&found->delay, ns);
	if (now - found->began >= contention_window) { /* CPUs may race: a window's worth at most */
		found->began = now;
		found->recent = 0;
		found->told = 0;
	}
	__sync_fetch_and_add(&found->recent, ns);
	if (found->told || victim == culprit || found->recent < contention_threshold)
		return false;
	found->told = 1;
	return true;
}

static __always_inline void report_contention(struct occupant *occupant, struct task_struct *next,
					      __u64 victim, __u64 now)
{
	struct sched_key key = {.victim = victim, .culprit = occupant->cgroup};
	struct sched_blame *found = bpf_map_lookup_elem(&blame, &key);
	__u64 time = bpf_ktime_get_ns();
	struct contention *record;

	if (!found)
		return;
	record = event_reserve(&contentions, sizeof(*record), victim, time);
	if (!record)
		return;
	record->time = time;
	record->cgroup = victim;
	record->culprit = occupant->cgroup;
	record->delay = found->recent;
	record->window = now - found->began;
	record->cpu = bpf_get_smp_processor_id();
	record->tgid = next->tgid;
	record->culprit_tgid = occupant->tgid;
	record->unused = 0;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), next->comm);
	__builtin_memcpy(record->culprit_comm, occupant->comm, sizeof(record->culprit_comm));
	ring_submit(&contentions, record);
}

#define OCCUPANT(cpu, back) (&(cpu)->occupants[((cpu)->head - (back)) % OCCUPANTS])

/* The wait began later, or it is not known since when this one ran: nothing, or something taken
 * back. */
static __always_inline bool ends_walk(const struct occupant *occupant,
				      const struct occupant *before, __u64 from)
{
	return occupant->until <= from || !before->until || before->until > occupant->until;
}

/*
 * Walk this CPU's last occupants back to when the wait began; what was before them is nobody's, as
 * is the time when the CPU was idle: waking it up took that.
 */
static __always_inline void blame_occupants(struct cpu_state *cpu, struct task_struct *next,
					    __u64 victim, __u64 from, __u64 now)
{
	__u64 culprit = 0, ran = 0;
	__u32 told;

	cpu->told = 0;
	for (int back = 1; back < BLAMED; back++) {
		struct occupant *occupant = OCCUPANT(cpu, back);
		struct occupant *before = OCCUPANT(cpu, back + 1);
		__u64 start = before->until > from ? before->until : from;

		if (ends_walk(occupant, before, from))
			break;
		if (occupant->cgroup != culprit) {
			if (culprit && add_blame(victim, culprit, ran, now))
				cpu->told = back - 1; /* in memory: else each value is verified */
			culprit = occupant->cgroup;
			ran = 0;
		}
		ran += occupant->until - start;
		cpu->last = back;
	}
	if (culprit && add_blame(victim, culprit, ran, now))
		cpu->told = cpu->last;
	told = cpu->told;
	if (told)
		report_contention(OCCUPANT(cpu, told), next, victim, now);
}

/*
 * The occupant of this CPU leaves: a new entry, or a longer one if it is of the container that was
 * there before and of the same process, or too short to be told apart from it. What interrupts a
 * long turn for a moment only (kernel threads do, all the time) is forgotten when the turn goes on.
 */
static __always_inline void remember_occupant(struct cpu_state *cpu, struct task_struct *prev,
					      __u64 now)
{
	struct occupant *last = OCCUPANT(cpu, 1), *before = OCCUPANT(cpu, 2);
	__u64 ran = now - cpu->since;
	__u32 tgid = prev->tgid;

	if (last->until && last->cgroup == cpu->cgroup) {
		if (last->tgid == tgid) {
			last->until = now;
			return;
		}
		if (ran < SHORT_TURN) {
			last->until = now;
			last->mixed++;
			return;
		}
	}
	if (before->until && before->cgroup == cpu->cgroup && before->tgid == tgid &&
	    (last->until - before->until) * NOISE < ran) {
		before->until = now;
		cpu->head--;
		return;
	}
	last = OCCUPANT(cpu, 0);
	last->cgroup = cpu->cgroup;
	last->until = now;
	last->tgid = tgid;
	last->mixed = 0;
	last->comm[0] = ((__u64 *)prev->comm)[0];
	last->comm[1] = ((__u64 *)prev->comm)[1];
	cpu->head++;
}

static __always_inline __u32 reason_of(struct task_struct *task)
{
	struct task_struct___sched *t = (void *)task;

	if (BPF_CORE_READ_BITFIELD(t, in_iowait))
		return BLOCK_IO;
	if (bpf_core_field_exists(t->blocker) && t->blocker)
		return BLOCK_LOCK;
	if (bpf_core_field_exists(t->blocked_on) && t->blocked_on)
		return BLOCK_LOCK;
	return BLOCK_OTHER;
}

static __always_inline void leave(struct cpu_state *cpu, struct task_struct *prev, bool runnable,
				  __u64 now)
{
	struct sched_row *row;

	remember_occupant(cpu, prev, now);
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

/* The row of the task's cgroup, from now on that of this CPU; row 0 and no state without storage.
 */
static __always_inline struct sched_row *take_row(struct cpu_state *cpu, struct task_state *task,
						  __u64 cgroup)
{
	if (task && task->cgroup == cgroup) {
		cpu->row = task->row;
	} else {
		cpu->row = find_row(cgroup);
		if (task) {
			task->row = cpu->row;
			task->cgroup = cgroup;
		}
	}
	cpu->cgroup = cgroup;
	return bpf_map_lookup_elem(&rows, &cpu->row);
}

/*
 * How much of a wait since `from` the container's own limit took. The kernel adds up for each of
 * its run queues how long it was throttled; what was added since the last long wait ended just now,
 * for the tasks behind this one too. (The value's first sight may be old: it says nothing.)
 */
static __always_inline __u64 throttled_since(struct sched_row *row, struct task_struct *next,
					     __u64 from, __u64 now)
{
	struct cfs_rq___sched *queue = (void *)next->se.cfs_rq;
	__u64 total = 0, start;

	if (bpf_core_field_exists(queue->throttled_clock_self_time))
		total = queue->throttled_clock_self_time;
	else if (bpf_core_field_exists(queue->throttled_clock_pelt_time))
		total = queue->throttled_clock_pelt_time;
	else if (bpf_core_field_exists(queue->throttled_clock_task_time))
		total = queue->throttled_clock_task_time;
	if (total > row->throttled && row->throttled) {
		row->throttled_until = now;
		row->throttled_for = total - row->throttled;
	}
	row->throttled = total;
	if (row->throttled_until <= from)
		return 0;
	start = row->throttled_until - row->throttled_for;
	return row->throttled_until - (start > from ? start : from);
}

static __always_inline void report_wait(struct cpu_state *cpu, struct task_struct *next,
					__u64 waited, __u64 here, __u64 throttled, __u64 now)
{
	__u64 time = bpf_ktime_get_ns(), cgroup = cpu->cgroup, from = now - here;
	struct slow_wait *record = event_reserve(&slow_waits, sizeof(*record), cgroup, time);

	if (!record)
		return;
	record->time = time;
	record->cgroup = cgroup;
	record->wait = waited;
	record->here = here;
	record->throttled = throttled;
	record->tgid = next->tgid;
	record->tid = next->pid;
	record->cpu = bpf_get_smp_processor_id();
	record->count = TURNS;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), next->comm);
	for (int at = 0; at < TURNS; at++) {
		struct occupant *occupant = OCCUPANT(cpu, at + 1);
		struct occupant *before = OCCUPANT(cpu, at + 2);
		struct turn *turn = &record->turns[at];

		if (ends_walk(occupant, before, from)) {
			record->count = at;
			break;
		}
		turn->ran = occupant->until - (before->until > from ? before->until : from);
		turn->cgroup = occupant->cgroup;
		turn->tgid = occupant->tgid;
		turn->mixed = occupant->mixed;
		__builtin_memcpy(turn->comm, occupant->comm, sizeof(turn->comm));
	}
	ring_submit(&slow_waits, record);
}

static __always_inline void report_block(struct cpu_state *cpu, struct task_struct *next,
					 struct task_state *task, __u64 blocked, __u64 waited)
{
	__u64 time = bpf_ktime_get_ns();
	struct long_block *record = event_reserve(&long_blocks, sizeof(*record), cpu->cgroup, time);

	if (!record)
		return;
	record->time = time;
	record->cgroup = cpu->cgroup;
	record->blocked = blocked;
	record->wait = waited;
	record->reason = task->block_reason;
	record->killable = task->killable;
	record->tgid = next->tgid;
	record->tid = next->pid;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), next->comm);
	__builtin_memset(record->stack, 0, sizeof(record->stack));
	bpf_get_task_stack(next, record->stack, sizeof(record->stack), 0);
	ring_submit(&long_blocks, record);
}

static __always_inline void count_block(__u64 cgroup, __u32 reason, __u64 blocked)
{
	struct block_key key = {.cgroup = cgroup, .reason = reason};
	struct block_row *row = bpf_map_lookup_elem(&blocks, &key);

	if (!row) {
		bpf_map_update_elem(&blocks, &key, &empty_block_row, BPF_NOEXIST);
		row = bpf_map_lookup_elem(&blocks, &key);
	}
	if (row)
		histogram_add_shared(&row->blocked, blocked);
	else
		ACCOUNT(map_full);
}

/* The task comes from an uninterruptible sleep: it ended when the wait for a CPU began. */
static __always_inline void unblock(struct cpu_state *cpu, struct task_struct *next,
				    struct task_state *task, __u64 waited, __u64 now)
{
	__u64 since = task->blocked_since, blocked = now - waited - since;

	task->blocked_since = 0;
	if (now - waited < since) { /* clocks of two CPUs */
		ACCOUNT(negative);
		return;
	}
	count_block(cpu->cgroup, task->block_reason, blocked);
	if (blocked >= block_threshold)
		report_block(cpu, next, task, blocked, waited);
}

static __always_inline void arrive(struct cpu_state *cpu, struct task_struct *next,
				   struct task_state *task, __u64 now)
{
	__u64 queued = next->sched_info.last_queued;
	__u64 here = queued && now > queued ? now - queued : 0; /* on this CPU's queue */
	__u64 waited = here, cgroup = task_cgroup(next), moved = 0, throttled = 0;
	struct sched_row *row = take_row(cpu, task, cgroup);

	if (task) {
		__u64 run_delay = next->sched_info.run_delay;
		__u64 arrived = run_delay + waited; /* what sched_info_arrive() will store */
		__u64 migrations = ((struct task_struct___sched *)next)->se.nr_migrations;

		if (task->known && run_delay > task->run_delay)
			waited += run_delay - task->run_delay;
		if (task->known)
			moved = migrations - task->migrations;
		task->run_delay = arrived;
		task->migrations = migrations;
		task->known = 1;
	}
	if (!row)
		return;
	histogram_add(&row->wait, waited);
	row->migrations += moved;
	if (task && task->blocked_since)
		unblock(cpu, next, task, waited, now);
	if (here > blame_threshold && cpu->since) {
		throttled = throttled_since(row, next, now - here, now);
		row->throttled_wait += throttled;
		blame_occupants(cpu, next, cgroup, now - here + throttled, now);
	}
	if (waited >= slow_wait_threshold)
		report_wait(cpu, next, waited, here, throttled, now);
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

/* The only switches that look up the state of the task that leaves. */
static __always_inline void stamp_block(struct task_struct *prev, unsigned int state, __u64 now)
{
	struct task_state *task = bpf_task_storage_get(&tasks, prev, NULL, 0);

	if (!task)
		return;
	task->block_reason = reason_of(prev);
	task->killable = !!(state & TASK_WAKEKILL);
	task->blocked_since = now;
}

/* prev_state as an argument: commit fa2c3254d7cf ("sched/tracing: Don't re-read p->state"), v5.18
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch__exact, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	if (!preempt && (prev_state & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD)) == TASK_UNINTERRUPTIBLE)
		stamp_block(prev, prev_state, next->se.cfs_rq->rq->clock);
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

SEC("iter/task")
int once_per_task__exact(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task; /* read once: the verifier forgets a check */

	if (task)
		bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
