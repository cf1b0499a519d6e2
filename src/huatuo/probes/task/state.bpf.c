// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * All tasks are looked at every few seconds: what they do, how many files their processes have
 * open, and who sleeps uninterruptibly for too long. Since when a task sleeps needs no stamp of
 * ours: the kernel keeps when it last got a CPU and how long it then ran.
 *
 * The kernel's own report of hung tasks comes by its tracepoint.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "waiting.bpf.h"

const volatile duration_ns_t scan_interval DOC("how often all tasks are looked at") = 5000000000ULL;
const volatile duration_ns_t block_threshold DOC("a task that sleeps uninterruptibly for this long "
						 "is an event; again after four, 16 … times "
						 "that long") = 10000000000ULL;
const volatile __u32 descriptors_percent DOC("a process with this share of its RLIMIT_NOFILE open, "
					     "in percent, is an event; the host too, "
					     "of fs.file-max") = 90;

#define ROWS 4096
#define TASK_RUNNING 0
#define TASK_INTERRUPTIBLE 0x1
#define TASK_UNINTERRUPTIBLE 0x2
#define TASK_STOPPED 0xc /* or traced */
#define TASK_WAKEKILL 0x100
#define TASK_NOLOAD 0x400
#define EXIT_ZOMBIE 0x20
#define FIRST_FAIR_PRIO 100
#define RLIMIT_NOFILE 7
#define CHUNK 64 /* words of a table of files that are counted one by one: 4096 files */
#define PAUSE 4

enum task_state {
	STATE_RUNNING,
	STATE_RUNNABLE, /* waits for a CPU */
	STATE_SLEEPING,
	STATE_DISK,    /* uninterruptible, and the kernel counts it as waiting for a disk */
	STATE_LOCK,    /* uninterruptible, for a lock that the kernel notes */
	STATE_BLOCKED, /* uninterruptible for another reason */
	STATE_STOPPED, /* by a signal or a debugger */
	STATE_ZOMBIE,
	STATE_IDLE, /* threads of the kernel that have nothing to do */
};

struct state_key {
	cgroup_id_t cgroup DOC("container of the tasks");
	enum task_state state DOC("what they do");
} KEY;

struct state_row {
	gauge_t tasks DOC("processes and threads in this state, when last looked at");
	__u64 pass;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROWS);
	__type(key, struct state_key);
	__type(value, struct state_row);
} states SEC(".maps");

struct container_key {
	cgroup_id_t cgroup DOC("container of the processes");
};

struct container_row {
	gauge_t processes DOC("processes, without their threads");
	gauge_t descriptors DOC("file descriptors that are open in them");
	__u64 pass;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROWS);
	__type(key, struct container_key);
	__type(value, struct container_row);
} containers SEC(".maps");

/* The number of the pass, set by user space before it starts: rows of former ones begin anew. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} passes SEC(".maps");

/* Who has been told of, and from which value on again. */
struct told_key {
	__u64 since; /* the sleep, or 0: the process's files */
	__u32 id;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct told_key);
	__type(value, __u64);
} told SEC(".maps");

struct blocked_task {
	ktime_ns_t time DOC("when it was looked at");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t blocked DOC("how long it has slept uninterruptibly by then");
	enum task_state reason DOC("what it waits for, as far as the scheduler knows");
	__u32 killable DOC("1 if SIGKILL would end the sleep");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	comm_t comm DOC("name of the thread");
	enum lock_type lock DOC("kind of the kernel's lock that it waits for, if it is one");
	tgid_t holder_tgid
		DOC("process that holds it, or as a reader held it last; 0: none or unknown");
	tid_t holder_tid DOC("its thread");
	__u32 waiter_kernel DOC("1 if the task is a thread of the kernel");
	cgroup_id_t holder_cgroup DOC("container of the holder");
	comm_t holder_comm DOC("name of the holder's thread");
	kstack_t stack DOC("where the task sleeps");
};

RING(blocked_tasks, struct blocked_task, 256 * 1024);
RING(hung_tasks, struct blocked_task, 64 * 1024);

enum descriptor_scope {
	SCOPE_PROCESS,
	SCOPE_HOST,
};

struct descriptors {
	ktime_ns_t time DOC("when they were counted");
	cgroup_id_t cgroup DOC("container of the process");
	count_t open DOC("file descriptors that are open");
	count_t limit DOC("how many the process, or the host, may have");
	enum descriptor_scope scope DOC("whose limit it is");
	tgid_t tgid DOC("process; 0 for the host");
	comm_t comm DOC("its name");
};

RING(descriptors_short, struct descriptors, 64 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rlimit {
	unsigned long rlim_cur;
};

struct signal_struct {
	struct rlimit rlim[16];
};

struct fdtable {
	unsigned int max_fds;
	unsigned long *open_fds;
	unsigned long *full_fds_bits;
};

struct files_struct {
	struct fdtable *fdt;
};

struct sched_info___state {
	unsigned long long last_arrival;
};

struct sched_entity___state {
	__u64 sum_exec_runtime;
	__u64 prev_sum_exec_runtime;
};

struct task_struct___state {
	unsigned int on_cpu; /* a byte since 7.2: only unsigned loads may change their size */
	int exit_state;
	int prio;
	unsigned long nvcsw;
	unsigned in_iowait : 1;
	struct files_struct *files;
	struct signal_struct *signal;
	struct sched_info___state sched_info;
	struct sched_entity___state se;
};

#pragma clang attribute pop

static __always_inline __u32 state_word(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return ((struct task_struct___before_5_14 *)task)->state;
}

static __always_inline enum task_state state_of(struct task_struct *task, __u32 state)
{
	struct task_struct___state *t = (void *)task;
	struct task_struct___waiting *w = (void *)task;

	if (t->exit_state)
		return STATE_ZOMBIE;
	if (state == TASK_RUNNING)
		return t->on_cpu ? STATE_RUNNING : STATE_RUNNABLE;
	if (state & TASK_STOPPED)
		return STATE_STOPPED;
	if (!(state & TASK_UNINTERRUPTIBLE))
		return state & TASK_INTERRUPTIBLE ? STATE_SLEEPING : STATE_IDLE;
	if (state & TASK_NOLOAD)
		return STATE_IDLE;
	if (BPF_CORE_READ_BITFIELD(t, in_iowait))
		return STATE_DISK;
	if ((bpf_core_field_exists(w->blocker) && w->blocker) ||
	    (bpf_core_field_exists(w->blocked_on) && w->blocked_on))
		return STATE_LOCK;
	return STATE_BLOCKED;
}

static __always_inline void count_state(__u64 cgroup, enum task_state state, __u64 pass)
{
	struct state_key key = {.cgroup = cgroup, .state = state};
	struct state_row *row = bpf_map_lookup_elem(&states, &key),
			 first = {.tasks = 1, .pass = pass};

	if (row && row->pass == pass)
		row->tasks++;
	else if (bpf_map_update_elem(&states, &key, &first, BPF_ANY))
		ACCOUNT(map_full);
}

static __always_inline void count_process(__u64 cgroup, __u64 descriptors, __u64 pass)
{
	struct container_key key = {.cgroup = cgroup};
	struct container_row *row = bpf_map_lookup_elem(&containers, &key);
	struct container_row first = {.processes = 1, .descriptors = descriptors, .pass = pass};

	if (row && row->pass == pass) {
		row->processes++;
		row->descriptors += descriptors;
	} else if (bpf_map_update_elem(&containers, &key, &first, BPF_ANY)) {
		ACCOUNT(map_full);
	}
}

static __always_inline __u32 count_bits(__u64 word)
{
	word -= word >> 1 & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) + (word >> 2 & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return word * 0x0101010101010101ULL >> 56;
}

/* Bits set in the first `bits` of an array that begins at `from`; at most 64 words are looked at.
 */
static __always_inline __u32 bits_set(unsigned long *from, __u32 bits)
{
	__u32 count = 0;

	for (__u32 at = 0; at < CHUNK; at++) {
		__u64 word = 0;

		if (at * 64 >= bits || bpf_probe_read_kernel(&word, sizeof(word), from + at))
			break;
		count += count_bits(word);
	}
	return count;
}

/*
 * How many files a process has open. Of a table with more than 4096 places only the words of 64
 * that are full count (the kernel keeps a bit for each), so that a leak of a million is still found
 * at once.
 */
static __always_inline __u64 open_files(struct task_struct___state *task)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	__u32 size = BPF_CORE_READ(table, max_fds);

	if (size <= CHUNK * 64)
		return bits_set(BPF_CORE_READ(table, open_fds), size);
	return bits_set(BPF_CORE_READ(table, full_fds_bits), size / 64) * 64ULL;
}

/* Whether this is to be told, now that it has reached `value`; then not before four times that. */
static __always_inline bool may_tell(struct told_key *key, __u64 value)
{
	__u64 *from = bpf_map_lookup_elem(&told, key), next = value * PAUSE;

	if (from && value < *from)
		return false;
	bpf_map_update_elem(&told, key, &next, BPF_ANY);
	return true;
}

static __always_inline void watch_descriptors(struct task_struct *task, __u64 cgroup, __u64 open)
{
	struct task_struct___state *t = (void *)task;
	struct told_key key = {.id = task->tgid};
	__u64 limit = 0, time = bpf_ktime_get_ns();
	struct descriptors *record;

	bpf_core_read(&limit, sizeof(limit), &t->signal->rlim[RLIMIT_NOFILE].rlim_cur);
	if (!limit || open * 100 < limit * descriptors_percent) {
		if (open * 200 <
		    limit * descriptors_percent) /* well below: tell if it comes again */
			bpf_map_delete_elem(&told, &key);
		return;
	}
	if (!may_tell(&key, open))
		return;
	record = event_reserve(&descriptors_short, sizeof(*record), cgroup, time);
	if (!record)
		return;
	record->time = time;
	record->cgroup = cgroup;
	record->open = open;
	record->limit = limit;
	record->scope = SCOPE_PROCESS;
	record->tgid = task->tgid;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), task->comm);
	ring_submit(&descriptors_short, record);
}

/* When the task left its CPU, in the clock of the run queues, and how long ago that is. */
static __always_inline __u64 blocked_since(struct task_struct *task, __u64 *blocked)
{
	struct task_struct___state *t = (void *)task;
	struct task_struct *current = (void *)bpf_get_current_task();
	__u64 now = BPF_CORE_READ(current, se.cfs_rq, rq, clock);
	__u64 since = t->sched_info.last_arrival;

	if (t->prio >= FIRST_FAIR_PRIO) /* others have no such account of their last turn */
		since += t->se.sum_exec_runtime - t->se.prev_sum_exec_runtime;
	*blocked = now > since ? now - since : 0;
	return since;
}

static __always_inline void fill_blocked(struct blocked_task *record, struct task_struct *task,
					 __u64 blocked, __u32 word)
{
	struct task_struct *holder;
	struct held held;

	find_held(task, &held);
	holder = held.holder;
	record->time = bpf_ktime_get_ns();
	record->cgroup = task_cgroup(task);
	record->blocked = blocked;
	record->reason = state_of(task, word);
	record->killable = !!(word & TASK_WAKEKILL);
	record->tgid = task->tgid;
	record->tid = task->pid;
	record->lock = held.type;
	record->holder_tgid = 0;
	record->holder_tid = 0;
	record->waiter_kernel = !task->mm;
	record->holder_cgroup = 0;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), task->comm);
	__builtin_memset(record->holder_comm, 0, sizeof(record->holder_comm));
	if (holder) {
		record->holder_tgid = BPF_CORE_READ(holder, tgid);
		record->holder_tid = BPF_CORE_READ(holder, pid);
		record->holder_cgroup = task_cgroup_read(holder);
		BPF_CORE_READ_INTO(&record->holder_comm, holder, comm);
	}
	__builtin_memset(record->stack, 0, sizeof(record->stack));
	bpf_get_task_stack(task, record->stack, sizeof(record->stack), 0);
}

static __always_inline void watch_blocked(struct task_struct *task, __u64 cgroup, __u32 word)
{
	__u64 blocked, since = blocked_since(task, &blocked);
	struct told_key key = {.since = since, .id = task->pid};
	struct blocked_task *record;

	if (blocked < block_threshold || !may_tell(&key, blocked))
		return;
	record = event_reserve(&blocked_tasks, sizeof(*record), cgroup, bpf_ktime_get_ns());
	if (!record)
		return;
	fill_blocked(record, task, blocked, word);
	ring_submit(&blocked_tasks, record);
}

SEC("iter/task")
int look_at_task(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	__u32 zero = 0, word;
	__u64 *pass = bpf_map_lookup_elem(&passes, &zero), cgroup, open;
	enum task_state state;

	if (!task || !pass || task == (void *)bpf_get_current_task())
		return 0;
	word = state_word(task);
	state = state_of(task, word);
	cgroup = task_cgroup(task);
	count_state(cgroup, state, *pass);
	if (state == STATE_DISK || state == STATE_LOCK || state == STATE_BLOCKED)
		watch_blocked(task, cgroup, word);
	if (task->pid == task->tgid && state != STATE_ZOMBIE) {
		open = task->mm ? open_files((struct task_struct___state *)task) : 0;
		count_process(cgroup, open, *pass);
		if (open)
			watch_descriptors(task, cgroup, open);
	}
	return 0;
}

/* The kernel's khungtaskd found it; `current` is that thread. */
SEC("tp_btf/sched_process_hang")
int BPF_PROG(sched_process_hang, struct task_struct *task)
{
	__u64 blocked, cgroup = task_cgroup(task);
	struct blocked_task *record =
		event_reserve(&hung_tasks, sizeof(*record), cgroup, bpf_ktime_get_ns());

	if (!record)
		return 0;
	blocked_since(task, &blocked);
	fill_blocked(record, task, blocked, state_word(task));
	ring_submit(&hung_tasks, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
