// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Processes, threads and programs that are started, by container; a container that starts too many
 * at once. One row per container holds the counters, and of the second that goes on how many were
 * started and by whom most: a few processes are counted, and one that is new takes the place of
 * the one with the least and its count, so that who starts a good part of all is never missed.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"

#define FORKERS 4
#define WINDOW SECOND
#define REMINDER (60 * SECOND)

const volatile per_second_t surge_threshold DOC(
	"a container that starts so many processes and threads within a second is an event; one "
	"that goes on is again every minute") = 1000;

struct fork_key {
	cgroup_id_t cgroup DOC("container of the process that starts another");
};

struct forker {
	__u32 tgid;
	__u32 started;
	comm_t comm;
};

struct fork_row {
	counter_t processes DOC("processes started, by fork or clone");
	counter_t threads DOC("threads started");
	counter_t programs DOC("programs started in a process, by exec");
	__u64 began;  /* the second that goes on */
	__u64 recent; /* started in it */
	__u64 recent_threads;
	__u64 told; /* the surge that goes on, when last reported; 0: none goes on */
	struct forker forkers[FORKERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fork_key);
	__type(value, struct fork_row);
} forks SEC(".maps");

static const struct fork_row no_forks; /* too large for the stack */

struct fork_surge {
	ktime_ns_t time DOC("when the threshold was passed");
	cgroup_id_t cgroup DOC("container");
	duration_ns_t within DOC("in this time it started so many, at most a second");
	count_t started DOC("processes and threads that it started");
	count_t threads DOC("of these, threads");
	count_t by_forker DOC("of all, by the process that started most; some may be another's");
	tgid_t tgid DOC("the process that started most");
	comm_t comm DOC("name of its thread that started one first");
};

RING(fork_surges, struct fork_surge, 64 * 1024);

/* A new second. A surge is over when a second passes without. */
static __always_inline void begin_window(struct fork_row *row, __u64 now)
{
	if (row->recent < surge_threshold || now - row->began >= 2 * WINDOW)
		row->told = 0;
	row->began = now;
	row->recent = 0;
	row->recent_threads = 0;
	__builtin_memset(row->forkers, 0, sizeof(row->forkers));
}

static __always_inline void count_forker(struct fork_row *row, struct task_struct *parent)
{
	__u32 tgid = parent->tgid, least = 0;

	for (__u32 at = 0; at < FORKERS; at++) {
		if (row->forkers[at].tgid == tgid) {
			row->forkers[at].started++;
			return;
		}
		if (row->forkers[at].started < row->forkers[least % FORKERS].started)
			least = at;
	}
	row->forkers[least % FORKERS].tgid = tgid;
	row->forkers[least % FORKERS].started++;
	bpf_probe_read_kernel(row->forkers[least % FORKERS].comm, sizeof(comm_t), parent->comm);
}

static __always_inline void report(struct fork_row *row, __u64 cgroup, __u64 now)
{
	struct fork_surge *record = event_reserve(&fork_surges, sizeof(*record), cgroup, now);
	__u32 most = 0;

	if (!record)
		return;
	for (__u32 at = 1; at < FORKERS; at++)
		if (row->forkers[at].started > row->forkers[most % FORKERS].started)
			most = at;
	record->time = now;
	record->cgroup = cgroup;
	record->within = now - row->began;
	record->started = row->recent;
	record->threads = row->recent_threads;
	record->by_forker = row->forkers[most % FORKERS].started;
	record->tgid = row->forkers[most % FORKERS].tgid;
	__builtin_memcpy(record->comm, row->forkers[most % FORKERS].comm, sizeof(record->comm));
	ring_submit(&fork_surges, record);
}

/* CPUs may race: a count or two, or an event, too many. */
static __always_inline void watch_surge(struct fork_row *row, struct task_struct *parent,
					__u64 cgroup, bool is_thread)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - row->began >= WINDOW)
		begin_window(row, now);
	COUNT_UP(row->recent, 1);
	if (is_thread)
		COUNT_UP(row->recent_threads, 1);
	count_forker(row, parent);
	if (row->recent < surge_threshold || (row->told && now - row->told < REMINDER))
		return;
	row->told = now;
	report(row, cgroup, now);
}

/* One row for all CPUs: forks are not that frequent, and their second is one. */
static __always_inline struct fork_row *row_of(__u64 cgroup)
{
	struct fork_key key = {.cgroup = cgroup};

	return counter_row(&forks, &key, &no_forks);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u64 cgroup = task_cgroup(parent);
	bool is_thread = child->pid != child->tgid;
	struct fork_row *row = row_of(cgroup);

	if (!row)
		return 0;
	if (is_thread)
		COUNT_UP(row->threads, 1);
	else
		COUNT_UP(row->processes, 1);
	watch_surge(row, parent, cgroup, is_thread);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task)
{
	struct fork_row *row = row_of(task_cgroup(task));

	if (row)
		COUNT_UP(row->programs, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
