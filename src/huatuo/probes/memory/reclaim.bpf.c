// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Who looks for memory to free, for how long, and what came of it. The kernel says when a task
 * begins and ends to reclaim: because the host has no free pages (direct), because its cgroup or
 * one above it has reached a limit (memcg), or because its NUMA node is full and zone_reclaim_mode
 * is set (node); and when kswapd wakes up and goes to sleep. In between it says for each batch of
 * pages how many it looked at.
 *
 * The first two arguments of the beginnings changed places in 7.2, and the memory cgroup came with
 * them: the program that reads three arguments is tried first, a kernel with two refuses it.
 */
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "memory.bpf.h"
#include "task.bpf.h"

#define PF_KTHREAD 0x00200000
#define NODES 64

const volatile duration_ns_t slow_threshold
	DOC("a task that reclaims memory for at least this long, for one allocation, is an event") =
		100000000;
const volatile duration_ns_t kswapd_threshold DOC(
	"kswapd that reclaims for at least this long without going to sleep is an event, and its "
	"end is another") = 10000000000ULL;
const volatile duration_ns_t over_high_threshold DOC(
	"a task that is held up for at least this long because its cgroup uses more than "
	"memory.high is an event") = 100000000;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_entity___reclaim {
	__u64 sum_exec_runtime;
};

struct task_struct___reclaim {
	struct sched_entity___reclaim se;
	unsigned int memcg_nr_pages_over_high;
};

#pragma clang attribute pop

enum reclaim_kind {
	RECLAIM_DIRECT,
	RECLAIM_MEMCG,
	RECLAIM_NODE,
	RECLAIM_KSWAPD, /* in no record and no key */
};

struct reclaim_key {
	cgroup_id_t cgroup DOC("container that had to reclaim");
	enum reclaim_kind kind DOC("what had no room: the host, a memory cgroup, a NUMA node");
} KEY;

struct reclaim_row {
	duration_histogram_t duration DOC("time that tasks reclaimed memory for an allocation");
	counter_t scanned_pages DOC("pages that these tasks looked at");
	counter_t reclaimed_pages DOC("pages that these tasks freed, the kernel's caches included");
};

struct throttle_key {
	cgroup_id_t cgroup DOC("container that had to wait");
	__u32 reason DOC("what it waited for") KERNEL_ENUM("vmscan_throttle_state");
} KEY;

struct throttle_row {
	duration_histogram_t throttled DOC("time that reclaiming tasks waited for progress");
};

struct over_high_key {
	cgroup_id_t cgroup DOC("container that was slowed down");
};

struct over_high_row {
	duration_histogram_t over_high DOC("time that tasks were held up because of memory.high");
};

struct waker_key {
	cgroup_id_t cgroup DOC("container whose allocation woke kswapd");
};

struct waker_row {
	counter_t kswapd_wakeups DOC("allocations that woke kswapd");
};

struct kswapd_key {
	__u32 node DOC("NUMA node");
};

struct kswapd_row {
	duration_histogram_t kswapd_run DOC("time from kswapd's waking up to its going to sleep");
	counter_ns_t kswapd_cpu DOC("CPU time of kswapd, added when it goes to sleep");
	counter_t kswapd_scanned_pages DOC("pages that kswapd looked at");
	counter_t kswapd_reclaimed_pages DOC("pages of programs and files that kswapd freed");
};

COUNTERS(reclaims, struct reclaim_key, struct reclaim_row);
COUNTERS(throttles, struct throttle_key, struct throttle_row);
COUNTERS(over_highs, struct over_high_key, struct over_high_row);
COUNTERS(wakers, struct waker_key, struct waker_row);
COUNTERS(kswapds, struct kswapd_key, struct kswapd_row);

static const struct reclaim_row no_reclaim;
static const struct throttle_row no_throttle;
static const struct over_high_row no_over_high;
static const struct waker_row no_waker;
static const struct kswapd_row no_kswapd;

struct slow_reclaim {
	ktime_ns_t time DOC("when it ended");
	cgroup_id_t cgroup DOC("container of the task");
	cgroup_id_t domain_cgroup DOC("cgroup that had reached its limit; 0: the host");
	bytes_t domain_limit DOC("its limit");
	bytes_t domain_used DOC("what it used afterwards");
	duration_ns_t duration DOC("how long the task reclaimed");
	pages_t scanned DOC("pages it looked at");
	pages_t reclaimed DOC("pages it freed");
	kstack_t stack DOC("the allocation that had to wait");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	__u32 order DOC("it wanted two to the power of this pages together");
	gfp_flags_t gfp DOC("what the allocation may do");
	enum reclaim_kind kind DOC("what had no room: the host, a memory cgroup, a NUMA node");
	comm_t comm DOC("name of the thread");
};

struct kswapd_long_run {
	ktime_ns_t time DOC("when the threshold was passed, or when it went to sleep");
	cgroup_id_t cgroup DOC("container whose allocation woke it last");
	duration_ns_t duration DOC("since it woke up");
	duration_ns_t cpu DOC("its CPU time in that");
	pages_t scanned DOC("pages it looked at");
	pages_t reclaimed DOC("pages of programs and files it freed");
	kstack_t stack DOC("where it is");
	tgid_t tgid DOC("process whose allocation woke it last");
	__u32 node DOC("NUMA node");
	__u32 order DOC("it wants two to the power of this pages together");
	__u32 finished DOC("0: still running, 1: went to sleep");
	comm_t comm DOC("name of the thread whose allocation woke it last");
};

struct over_high_wait {
	ktime_ns_t time DOC("when it ended");
	cgroup_id_t cgroup DOC("container of the task");
	cgroup_id_t domain_cgroup DOC("cgroup that uses more than its memory.high");
	bytes_t domain_limit DOC("its memory.high");
	bytes_t domain_used DOC("what it used afterwards");
	duration_ns_t duration DOC("how long the task was held up, reclaiming or asleep");
	kstack_t stack DOC("where it was held up");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	comm_t comm DOC("name of the thread");
};

RING(slow_reclaims, struct slow_reclaim, 256 * 1024);
RING(kswapd_long_runs, struct kswapd_long_run, 64 * 1024);
RING(over_high_waits, struct over_high_wait, 128 * 1024);

struct doing {
	__u64 since; /* 0: not reclaiming */
	__u64 scanned;
	__u64 reclaimed;
	__u64 domain;	  /* struct mem_cgroup */
	__u64 cpu;	  /* of kswapd, when it last slept */
	__u64 over_since; /* held up because of memory.high */
	__u32 kind;
	__u32 order;
	__u32 gfp;
	__u32 node;
	__u32 is_reported;
	__u32 unused;
};

PER_TASK(doing, struct doing);

/* Who woke a node's kswapd last. */
struct waker {
	__u64 cgroup;
	__u32 tgid;
	__u32 unused;
	comm_t comm;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NODES);
	__type(key, __u32);
	__type(value, struct waker);
} last_wakers SEC(".maps");

static __always_inline int begin(enum reclaim_kind kind, __u32 order, __u32 gfp)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (!task)
		return 0;
	task->scanned = 0;
	task->kind = kind;
	task->order = order;
	task->gfp = gfp;
	task->since = bpf_ktime_get_ns();
	return 0;
}

/* Kernel threads reclaim for others: what a worker frees for memory.high is the cgroup's. */
static __always_inline __u64 whose_reclaim(struct mem_cgroup *domain)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (domain && BPF_CORE_READ(task, flags) & PF_KTHREAD)
		return cgroup_of(domain);
	return current_cgroup();
}

static __always_inline void report(void *context, struct doing *task, __u64 cgroup,
				   struct mem_cgroup *domain, bool is_nearest, __u64 reclaimed,
				   __u64 now)
{
	struct slow_reclaim *slow = event_reserve(&slow_reclaims, sizeof(*slow), cgroup, now);
	__u64 ids = bpf_get_current_pid_tgid();
	struct memory_use use = {};

	if (!slow)
		return;
	__builtin_memset(slow, 0, sizeof(*slow));
	if (is_nearest)
		domain = nearest_to_limit(memcg_of((void *)bpf_get_current_task()), true);
	if (domain)
		fill_use(&use, domain, true);
	slow->time = now;
	slow->cgroup = cgroup;
	slow->domain_cgroup = use.cgroup;
	slow->domain_limit = use.limit_pages * page_size;
	slow->domain_used = use.used_pages * page_size;
	slow->duration = now - task->since;
	slow->scanned = task->scanned;
	slow->reclaimed = reclaimed;
	slow->tgid = ids >> 32;
	slow->tid = ids;
	slow->order = task->order;
	slow->gfp = task->gfp;
	slow->kind = task->kind;
	bpf_get_current_comm(slow->comm, sizeof(slow->comm));
	bpf_get_stack(context, slow->stack, sizeof(slow->stack), 0);
	ring_submit(&slow_reclaims, slow);
}

static __always_inline int end(void *context, enum reclaim_kind kind, __u64 reclaimed,
			       struct mem_cgroup *domain, bool is_nearest)
{
	struct doing *task = TASK_VALUE(doing);
	struct reclaim_key key;
	struct reclaim_row *row;
	__u64 now;

	if (!task || !task->since || task->kind != kind)
		return 0; /* it began before we did */
	now = bpf_ktime_get_ns();
	__builtin_memset(&key, 0, sizeof(key)); /* what is between its members, too */
	key.cgroup = whose_reclaim(domain);
	key.kind = kind;
	row = counter_row(&reclaims, &key, &no_reclaim);
	if (row) {
		histogram_add(&row->duration, now - task->since);
		row->scanned_pages += task->scanned;
		row->reclaimed_pages += reclaimed;
	}
	if (now - task->since >= slow_threshold)
		report(context, task, key.cgroup, domain, is_nearest, reclaimed, now);
	task->since = 0;
	return 0;
}

/* As in 7.2: with the cgroup, and the flags before the order. */
SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(direct_begin__with_cgroup, __u32 gfp, int order, struct mem_cgroup *memcg)
{
	begin(RECLAIM_DIRECT, order, gfp);
	return memcg ? 0 : 1; /* read, so that a kernel without it refuses */
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(direct_begin__order_first, int order, __u32 gfp)
{
	return begin(RECLAIM_DIRECT, order, gfp);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(direct_end, unsigned long reclaimed)
{
	return end(ctx, RECLAIM_DIRECT, reclaimed, NULL, false);
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int BPF_PROG(node_begin, int node, int order, __u32 gfp)
{
	return begin(RECLAIM_NODE, order, gfp);
}

SEC("tp_btf/mm_vmscan_node_reclaim_end")
int BPF_PROG(node_end, unsigned long reclaimed)
{
	return end(ctx, RECLAIM_NODE, reclaimed, NULL, false);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memcg_begin__with_cgroup, __u32 gfp, int order, struct mem_cgroup *memcg)
{
	begin(RECLAIM_MEMCG, order, gfp);
	return memcg ? 0 : 1;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memcg_begin__order_first, int order, __u32 gfp)
{
	return begin(RECLAIM_MEMCG, order, gfp);
}

/* Which cgroup has reached its limit: an argument, or that of the function around, or inferred. */
SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_end__argument, unsigned long reclaimed, struct mem_cgroup *memcg)
{
	return end(ctx, RECLAIM_MEMCG, reclaimed, memcg, false);
}

SEC("fentry/try_to_free_mem_cgroup_pages")
int BPF_PROG(memcg_enter__fentry, struct mem_cgroup *memcg)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (task)
		task->domain = (__u64)memcg;
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_end__fentry, unsigned long reclaimed)
{
	struct doing *task = TASK_VALUE(doing);

	return end(ctx, RECLAIM_MEMCG, reclaimed, task ? (void *)task->domain : NULL, false);
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_end__inferred, unsigned long reclaimed)
{
	return end(ctx, RECLAIM_MEMCG, reclaimed, NULL, true);
}

static __always_inline __u64 cpu_time(void)
{
	struct task_struct___reclaim *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, se.sum_exec_runtime);
}

static __always_inline void report_kswapd(void *context, struct doing *task, bool finished,
					  __u64 now)
{
	__u32 node = task->node;
	struct waker *waker = bpf_map_lookup_elem(&last_wakers, &node);
	struct kswapd_long_run *run = event_reserve(&kswapd_long_runs, sizeof(*run), 0, now);

	if (!run)
		return;
	__builtin_memset(run, 0, sizeof(*run));
	run->time = now;
	run->duration = now - task->since;
	run->cpu = cpu_time() - task->cpu;
	run->scanned = task->scanned;
	run->reclaimed = task->reclaimed;
	run->node = node;
	run->order = task->order;
	run->finished = finished;
	if (waker) {
		run->cgroup = waker->cgroup;
		run->tgid = waker->tgid;
		__builtin_memcpy(run->comm, waker->comm, sizeof(run->comm));
	}
	bpf_get_stack(context, run->stack, sizeof(run->stack), 0);
	ring_submit(&kswapd_long_runs, run);
}

/* Also when it was woken for more before it could sleep: the run goes on. */
SEC("tp_btf/mm_vmscan_kswapd_wake")
int BPF_PROG(kswapd_wake, int node, int zone, int order)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (!task)
		return 0;
	task->order = order;
	if (task->since)
		return 0;
	task->scanned = 0;
	task->reclaimed = 0;
	task->kind = RECLAIM_KSWAPD;
	task->node = node;
	task->is_reported = 0;
	if (!task->cpu)
		task->cpu = cpu_time();
	task->since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mm_vmscan_kswapd_sleep")
int BPF_PROG(kswapd_sleep, int node)
{
	struct kswapd_key key = {.node = node};
	struct doing *task = TASK_VALUE(doing);
	struct kswapd_row *row;
	__u64 now, cpu;

	if (!task || !task->since)
		return 0;
	now = bpf_ktime_get_ns();
	cpu = cpu_time();
	row = counter_row(&kswapds, &key, &no_kswapd);
	if (row) {
		histogram_add(&row->kswapd_run, now - task->since);
		row->kswapd_cpu += cpu - task->cpu;
		row->kswapd_scanned_pages += task->scanned;
		row->kswapd_reclaimed_pages += task->reclaimed;
	}
	if (now - task->since >= kswapd_threshold)
		report_kswapd(ctx, task, true, now);
	task->cpu = cpu;
	task->since = 0;
	return 0;
}

SEC("tp_btf/mm_vmscan_wakeup_kswapd")
int BPF_PROG(wakeup_kswapd, int node)
{
	struct waker_key key = {.cgroup = current_cgroup()};
	struct waker_row *row = counter_row(&wakers, &key, &no_waker);
	struct waker *last = bpf_map_lookup_elem(&last_wakers, &node);

	if (row)
		row->kswapd_wakeups++;
	if (!last)
		return 0;
	last->cgroup = key.cgroup;
	last->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(last->comm, sizeof(last->comm));
	return 0;
}

/* For each batch of up to 32 pages, in whatever reclaims. */
SEC("tp_btf/mm_vmscan_lru_shrink_inactive")
int BPF_PROG(batch, int node, unsigned long scanned, unsigned long reclaimed)
{
	struct doing *task = TASK_VALUE(doing);
	__u64 now;

	if (!task || !task->since)
		return 0;
	task->scanned += scanned;
	task->reclaimed += reclaimed;
	if (task->kind != RECLAIM_KSWAPD || task->is_reported)
		return 0;
	now = bpf_ktime_get_ns();
	if (now - task->since >= kswapd_threshold) {
		task->is_reported = 1;
		report_kswapd(ctx, task, false, now);
	}
	return 0;
}

/* commit 8cd7c588decf ("mm/vmscan: throttle reclaim until some writeback completes if congested"),
 * v5.16 */
SEC("tp_btf/mm_vmscan_throttled")
int BPF_PROG(throttled, int node, int timeout_us, int delayed_us, int reason)
{
	struct throttle_key key;
	struct throttle_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = current_cgroup();
	key.reason = reason;
	row = counter_row(&throttles, &key, &no_throttle);
	if (row)
		histogram_add(&row->throttled, delayed_us * 1000ULL);
	return 0;
}

/* What a task is held up for on its way back to user space, once per system call or fault. */
static __always_inline int over_high_begin(void)
{
	struct task_struct___reclaim *current = (void *)bpf_get_current_task();
	struct doing *task;

	if (!BPF_CORE_READ(current, memcg_nr_pages_over_high))
		return 0;
	task = NEW_TASK_VALUE(doing);
	if (task)
		task->over_since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline void report_over_high(void *context, __u64 cgroup, __u64 duration, __u64 now)
{
	struct over_high_wait *wait = event_reserve(&over_high_waits, sizeof(*wait), cgroup, now);
	__u64 ids = bpf_get_current_pid_tgid();
	struct mem_cgroup *domain;
	struct memory_use use = {};

	if (!wait)
		return;
	__builtin_memset(wait, 0, sizeof(*wait));
	domain = nearest_to_limit(memcg_of((void *)bpf_get_current_task()), true);
	fill_use(&use, domain, true);
	wait->time = now;
	wait->cgroup = cgroup;
	wait->domain_cgroup = use.cgroup;
	wait->domain_limit = use.limit_pages * page_size;
	wait->domain_used = use.used_pages * page_size;
	wait->duration = duration;
	wait->tgid = ids >> 32;
	wait->tid = ids;
	bpf_get_current_comm(wait->comm, sizeof(wait->comm));
	bpf_get_stack(context, wait->stack, sizeof(wait->stack), 0);
	ring_submit(&over_high_waits, wait);
}

static __always_inline int over_high_end(void *context)
{
	struct doing *task = TASK_VALUE(doing);
	struct over_high_key key = {};
	struct over_high_row *row;
	__u64 now, duration;

	if (!task || !task->over_since)
		return 0;
	now = bpf_ktime_get_ns();
	duration = now - task->over_since;
	task->over_since = 0;
	key.cgroup = current_cgroup();
	row = counter_row(&over_highs, &key, &no_over_high);
	if (row)
		histogram_add(&row->over_high, duration);
	if (duration >= over_high_threshold)
		report_over_high(context, key.cgroup, duration, now);
	return 0;
}

SEC("fentry/__mem_cgroup_handle_over_high")
int BPF_PROG(over_high_begin__out_of_line)
{
	return over_high_begin();
}

SEC("fentry/mem_cgroup_handle_over_high")
int BPF_PROG(over_high_begin__whole)
{
	return over_high_begin();
}

SEC("kprobe/__mem_cgroup_handle_over_high")
int BPF_KPROBE(over_high_begin__kprobe_out_of_line)
{
	return over_high_begin();
}

SEC("kprobe/mem_cgroup_handle_over_high")
int BPF_KPROBE(over_high_begin__kprobe_whole)
{
	return over_high_begin();
}

SEC("fexit/__mem_cgroup_handle_over_high")
int BPF_PROG(over_high_end__out_of_line)
{
	return over_high_end(ctx);
}

SEC("fexit/mem_cgroup_handle_over_high")
int BPF_PROG(over_high_end__whole)
{
	return over_high_end(ctx);
}

SEC("kretprobe/__mem_cgroup_handle_over_high")
int BPF_KRETPROBE(over_high_end__kprobe_out_of_line)
{
	return over_high_end(ctx);
}

SEC("kretprobe/mem_cgroup_handle_over_high")
int BPF_KRETPROBE(over_high_end__kprobe_whole)
{
	return over_high_end(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
