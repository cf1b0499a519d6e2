// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Processes that end: how, and where a signal ended one, who sent it. When a process ends its
 * sender is long forgotten, so a signal that will end its receiver is noted when it is sent:
 * signals with a handler, and those that nobody dies of, are left out, so that no more is kept than
 * there are deaths.
 *
 * A process ends with its last thread. Which one that is the kernel says from 6.16 on; before,
 * several threads that end at once may all find that none is left, and the first one counts.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"

const volatile bool
	requested_ends DOC("also report processes that SIGHUP, SIGINT, SIGPIPE, SIGALRM "
			   "or SIGTERM ended: these ask for it");

#define PF_EXITING 0x4
#define PF_KTHREAD 0x200000
#define SIGKILL 9
#define SIGNAL_GROUP_EXIT 0x4
#define CORE_DUMPED 0x80
#define AS_BY_KILL ((void *)0) /* instead of a siginfo: a signal of the kernel, as if by kill() */
#define PRIVATE ((void *)1)    /* … and one that is not to be asked who sent it */
#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6
#define BIT(signal) (1ULL << (signal))
/* numbers of x86 and arm64 */
#define IGNORED_BY_DEFAULT (BIT(17) | BIT(18) | BIT(23) | BIT(28)) /* CHLD, CONT, URG, WINCH */
#define STOPS (BIT(19) | BIT(20) | BIT(21) | BIT(22))
#define FAULTS (BIT(4) | BIT(5) | BIT(7) | BIT(8) | BIT(11) | BIT(31))
#define REQUESTS (BIT(1) | BIT(2) | BIT(13) | BIT(14) | BIT(15))

enum signal_result { /* include/trace/events/signal.h */
		     RESULT_DELIVERED,
		     RESULT_LOSE_INFO = 4,
};

enum exit_kind {
	EXIT_CLEAN, /* exit(0) */
	EXIT_ERROR, /* exit() with another code */
	EXIT_SIGNAL,
	EXIT_CORE, /* a signal, and its memory was dumped */
	EXIT_OOM,  /* the kernel killed it for want of memory */
};

enum exit_signal {
	SIGNAL_NONE,
	SIGNAL_HUP,
	SIGNAL_INT,
	SIGNAL_QUIT,
	SIGNAL_ILL,
	SIGNAL_TRAP,
	SIGNAL_ABRT,
	SIGNAL_BUS,
	SIGNAL_FPE,
	SIGNAL_KILL,
	SIGNAL_USR1,
	SIGNAL_SEGV,
	SIGNAL_USR2,
	SIGNAL_PIPE,
	SIGNAL_ALRM,
	SIGNAL_TERM,
	SIGNAL_STKFLT,
	SIGNAL_XCPU = 24,
	SIGNAL_XFSZ,
	SIGNAL_VTALRM,
	SIGNAL_PROF,
	SIGNAL_IO = 29,
	SIGNAL_PWR,
	SIGNAL_SYS,
};

/* How the signal came about. */
enum signal_origin {
	ORIGIN_UNKNOWN,	  /* it was not seen being sent */
	ORIGIN_PROCESS,	  /* a process called kill(), or made the kernel do as if */
	ORIGIN_FAULT,	  /* the process itself did what the CPU or the kernel refuses */
	ORIGIN_KERNEL,	  /* the kernel, while the sender ran: memory, a timer, a terminal */
	ORIGIN_NAMESPACE, /* process 1 of its PID namespace ended, which ends all others in it */
};

struct exit_key {
	cgroup_id_t cgroup DOC("container of the process");
	enum exit_kind kind DOC("how it ended");
} KEY;

struct exit_count {
	counter_t processes DOC("processes that ended");
};

COUNTERS(exits, struct exit_key, struct exit_count);

static const struct exit_count no_exits;

struct sender {
	__u64 cgroup;
	__u64 address;
	__u32 signal;
	__s32 code;
	__u32 origin;
	__u32 tgid;
	comm_t comm;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, struct sender);
} senders SEC(".maps");

/* Processes that ended just now, by their number and when they began. */
struct ended {
	__u64 began;
	__u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended);
	__type(value, __u32);
} ended_before_6_16 SEC(".maps");

struct abnormal_exit {
	ktime_ns_t time DOC("when the process ended");
	cgroup_id_t cgroup DOC("container of the process");
	duration_ns_t ran DOC("how long the process had existed");
	cgroup_id_t sender_cgroup DOC("container of the sender of the signal");
	__u64 address DOC("where it may not read, write or execute, for a fault; 0: unknown");
	enum exit_kind kind DOC("how it ended");
	enum exit_signal signal DOC("the signal that ended it");
	enum signal_origin origin DOC("how the signal came about");
	__s32 code DOC("si_code of the signal, see sigaction(2); 0 if the kernel gives none");
	__u32 status DOC("what it gave to exit(), if it did");
	__u32 init DOC("1 if it was process 1 of its PID namespace, which ends with it");
	__u32 number DOC("its number in its PID namespace");
	tgid_t tgid DOC("the process");
	tgid_t parent_tgid DOC("its parent, or who has adopted it");
	tgid_t sender_tgid DOC("who sent the signal, or ran when the kernel did; 0: unknown");
	comm_t comm DOC("name of the process");
	comm_t parent_comm DOC("name of the parent");
	comm_t sender_comm DOC("name of the sender's thread");
};

RING(abnormal_exits, struct abnormal_exit, 128 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct siginfo_fault {
	void *_addr;
};

union __sifields {
	struct siginfo_fault _sigfault;
};

struct kernel_siginfo {
	int si_code;
	union __sifields _sifields;
};

struct sigaction {
	void *sa_handler;
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[64];
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
	struct mm_struct *oom_mm;
};

struct task_struct___exit {
	int exit_code;
	__u64 start_time;
	struct pid *thread_pid;
	struct task_struct *real_parent;
	struct signal_struct *signal;
	struct sighand_struct *sighand;
};

#pragma clang attribute pop

/* Whether the process does nothing of its own about a signal, and so ends by it. */
static __always_inline bool ends_by(struct task_struct *task, int signal)
{
	struct sighand_struct *hand = BPF_CORE_READ((struct task_struct___exit *)task, sighand);
	void *actions = __builtin_preserve_access_index(&hand->action);
	struct k_sigaction *action =
		actions + (signal - 1) * (__u64)bpf_core_type_size(struct k_sigaction);

	return !BPF_CORE_READ(action, sa.sa_handler);
}

static __always_inline enum signal_origin origin_of(int signal, void *info, int code,
						    bool by_itself)
{
	struct task_struct *current = (void *)bpf_get_current_task();

	if (info == AS_BY_KILL)
		return ORIGIN_PROCESS;
	if (info == PRIVATE) {
		if (signal == SIGKILL && BPF_CORE_READ(current, flags) & PF_EXITING)
			return ORIGIN_NAMESPACE;
		return ORIGIN_KERNEL;
	}
	if (code == SI_USER || code == SI_QUEUE || code == SI_TKILL)
		return ORIGIN_PROCESS;
	return code > 0 && by_itself && BIT(signal & 63) & FAULTS ? ORIGIN_FAULT : ORIGIN_KERNEL;
}

static __always_inline void note_sender(struct task_struct *task, int signal,
					struct kernel_siginfo *info)
{
	__u32 target = task->tgid;
	struct sender sender = {.signal = signal, .tgid = bpf_get_current_pid_tgid() >> 32};

	if (info != AS_BY_KILL && info != PRIVATE)
		sender.code = BPF_CORE_READ(info, si_code);
	sender.origin = origin_of(signal, info, sender.code, sender.tgid == target);
	sender.cgroup = current_cgroup();
	bpf_get_current_comm(sender.comm, sizeof(sender.comm));
	if (sender.origin == ORIGIN_FAULT)
		sender.address = (__u64)BPF_CORE_READ(info, _sifields._sigfault._addr);
	bpf_map_update_elem(&senders, &target, &sender, BPF_ANY);
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int signal, struct kernel_siginfo *info, struct task_struct *task,
	     int group, int result)
{
	if (signal < 1 || signal > 64 || BIT(signal & 63) & (IGNORED_BY_DEFAULT | STOPS))
		return 0;
	if (result != RESULT_DELIVERED && result != RESULT_LOSE_INFO)
		return 0;
	if (ends_by(task, signal))
		note_sender(task, signal, info);
	return 0;
}

/* As wait() will give it: the group's code, or that of the first thread. */
static __always_inline __u32 status_of(struct task_struct *task)
{
	struct task_struct___exit *t = (void *)task;

	if (t->signal->flags & SIGNAL_GROUP_EXIT)
		return t->signal->group_exit_code;
	return ((struct task_struct___exit *)task->group_leader)->exit_code;
}

static __always_inline enum exit_kind kind_of(struct task_struct *task, __u32 status)
{
	struct task_struct___exit *t = (void *)task;

	if (!(status & 0x7f))
		return status >> 8 & 0xff ? EXIT_ERROR : EXIT_CLEAN;
	if (t->signal->oom_mm)
		return EXIT_OOM;
	return status & CORE_DUMPED ? EXIT_CORE : EXIT_SIGNAL;
}

/* The process's number in its own PID namespace; 0 in that of the host. */
static __always_inline __u32 number_inside(struct task_struct *leader)
{
	struct pid *pid = BPF_CORE_READ((struct task_struct___exit *)leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	void *numbers = __builtin_preserve_access_index(&pid->numbers);
	struct upid *innermost = numbers + level * (__u64)bpf_core_type_size(struct upid);

	return level ? BPF_CORE_READ(innermost, nr) : 0;
}

/* Who sent that signal to the process; NULL if it was not seen. */
static __always_inline struct sender *sender_to(struct task_struct *task, __u32 signal)
{
	__u32 tgid = task->tgid;
	struct sender *sender = bpf_map_lookup_elem(&senders, &tgid);

	return sender && sender->signal == signal ? sender : NULL;
}

static __always_inline void fill_sender(struct abnormal_exit *record, const struct sender *sender)
{
	record->origin = sender->origin;
	record->code = sender->code;
	record->address = sender->address;
	record->sender_cgroup = sender->cgroup;
	record->sender_tgid = sender->tgid;
	__builtin_memcpy(record->sender_comm, sender->comm, sizeof(record->sender_comm));
}

static __always_inline void report(struct task_struct *task, __u64 cgroup, __u32 status,
				   __u32 number, const struct sender *sender)
{
	__u64 now = bpf_ktime_get_ns();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct task_struct___exit *first = (void *)leader;
	struct task_struct *parent = BPF_CORE_READ(first, real_parent);
	struct abnormal_exit *record = event_reserve(&abnormal_exits, sizeof(*record), cgroup, now);

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->ran = now - BPF_CORE_READ(first, start_time);
	record->kind = kind_of(task, status);
	record->signal = (enum exit_signal)(status & 0x7f);
	record->status = status & 0x7f ? 0 : status >> 8 & 0xff;
	record->tgid = task->tgid;
	record->number = number ?: record->tgid;
	record->init = number == 1;
	record->parent_tgid = BPF_CORE_READ(parent, tgid);
	BPF_CORE_READ_INTO(&record->comm, leader, comm);
	BPF_CORE_READ_INTO(&record->parent_comm, parent, comm);
	if (sender)
		fill_sender(record, sender);
	ring_submit(&abnormal_exits, record);
}

/* A status is told to the parent, and who is asked to end does: both are ordinary. */
static __always_inline bool is_abnormal(__u32 signal, const struct sender *sender)
{
	if (!signal || (BIT(signal & 63) & REQUESTS && !requested_ends))
		return false;
	return !sender || sender->origin != ORIGIN_NAMESPACE;
}

static __always_inline int ended(struct task_struct *task)
{
	__u64 cgroup = task_cgroup(task);
	__u32 status = status_of(task), signal = status & 0x7f, tgid = task->tgid, number;
	struct sender *sender;
	struct exit_key key = {.cgroup = cgroup, .kind = kind_of(task, status)};
	struct exit_count *count;

	if (task->flags & PF_KTHREAD)
		return 0;
	count = counter_row(&exits, &key, &no_exits);
	if (count)
		COUNT_UP(count->processes, 1);
	if (key.kind == EXIT_CLEAN)
		return 0;
	sender = signal ? sender_to(task, signal) : NULL;
	number = number_inside(task->group_leader);
	if (number == 1 || is_abnormal(signal, sender))
		report(task, cgroup, status, number, sender);
	if (sender)
		bpf_map_delete_elem(&senders, &tgid);
	return 0;
}

/* The last thread as an argument: "exit: move and extend sched_process_exit() tracepoint", v6.16 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit__last_thread, struct task_struct *task, bool group_dead)
{
	return group_dead ? ended(task) : 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit__none_left, struct task_struct *task)
{
	struct task_struct___exit *t = (void *)task;
	struct ended key = {.tgid = task->tgid};
	__u32 one = 1;

	if (t->signal->live.counter)
		return 0;
	key.began = ((struct task_struct___exit *)task->group_leader)->start_time;
	if (bpf_map_update_elem(&ended_before_6_16, &key, &one, BPF_NOEXIST))
		return 0;
	return ended(task);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
