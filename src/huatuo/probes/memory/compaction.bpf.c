// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Compaction: pages are moved together so that there are free ones side by side. The kernel says
 * when it begins and ends with a zone, in the task that wants the pages (direct), in kcompactd, or
 * in who asked for all of memory to be compacted (manual). What it looked at is in its
 * compact_control.
 *
 * And how memory gets fragmented: an allocation of one kind (unmovable, movable, reclaimable) that
 * takes pages from blocks of another kind.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "task.bpf.h"

#define PF_KTHREAD 0x00200000
#define WHOLE_ZONE (-1) /* order of a compact_control that wants everything compacted */

const volatile duration_ns_t slow_threshold
	DOC("a zone that a task compacts for at least this long is an event") = 100000000;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct zone {
	int node;
	const char *name;
};

struct compact_control {
	struct zone *zone;
	unsigned long total_migrate_scanned;
	unsigned long total_free_scanned;
	__u32 gfp_mask;
	int order;
};

#pragma clang attribute pop

enum compaction_kind {
	COMPACTION_DIRECT,
	COMPACTION_KCOMPACTD,
	COMPACTION_MANUAL,
};

enum mobility { /* as far as all kernels agree on the numbers of enum migratetype */
		MOBILITY_UNMOVABLE,
		MOBILITY_MOVABLE,
		MOBILITY_RECLAIMABLE,
		MOBILITY_OTHER,
};

struct compaction_key {
	cgroup_id_t cgroup DOC("container that compacted; kcompactd is the host's");
	enum compaction_kind kind DOC("who wanted it");
} KEY;

struct compaction_row {
	duration_histogram_t duration DOC("time spent on compacting a zone once");
	counter_t scanned_pages DOC("pages looked at that could be moved");
	counter_t scanned_free_pages DOC("pages looked at as places to move others to");
};

struct result_key {
	enum compaction_kind kind DOC("who wanted it");
	__u32 result DOC("how it ended") KERNEL_ENUM("compact_result");
};

struct result_row {
	counter_t results DOC("zones compacted, by how it ended");
};

struct fallback_key {
	enum mobility wanted DOC("mobility of what was allocated");
	enum mobility taken DOC("mobility of the block that it was taken from");
};

struct fallback_row {
	counter_t fallbacks DOC("allocations that took pages from a block of another mobility");
};

COUNTERS(compactions, struct compaction_key, struct compaction_row);
COUNTERS(results, struct result_key, struct result_row);
COUNTERS(fallbacks, struct fallback_key, struct fallback_row);

static const struct compaction_row no_compaction;
static const struct result_row no_result;
static const struct fallback_row no_fallback;

struct slow_compaction {
	ktime_ns_t time DOC("when it ended");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t duration DOC("how long it took");
	pages_t scanned DOC("pages looked at that could be moved");
	pages_t scanned_free DOC("pages looked at as places to move others to");
	kstack_t stack DOC("the allocation that had to wait");
	tgid_t tgid DOC("process");
	tid_t tid DOC("thread");
	__s32 order DOC("two to the power of this pages were wanted together; -1: all of memory");
	gfp_flags_t gfp DOC("what the allocation may do");
	__s32 node DOC("NUMA node of the zone");
	enum compaction_kind kind DOC("who wanted it");
	__u32 result DOC("how it ended") KERNEL_ENUM("compact_result");
	comm_t comm DOC("name of the thread");
	char zone[12] DOC("zone");
};

RING(slow_compactions, struct slow_compaction, 128 * 1024);

struct doing {
	__u64 since; /* 0: not compacting */
	__u32 gfp;
	__s32 order;
	__u32 has_asked; /* the allocation said what it wants */
	__u32 unused;
};

PER_TASK(doing, struct doing);

/* What a compaction was about, as far as the kernel tells. */
struct done {
	const char *zone;
	__u64 scanned;
	__u64 scanned_free;
	__u32 gfp;
	__s32 order;
	__s32 node;
	__u32 result;
};

static __always_inline bool is_kcompactd(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	const char wanted[] = "kcompactd";
	char name[16];

	bpf_get_current_comm(name, sizeof(name));
	for (__u32 i = 0; i < sizeof(wanted) - 1; i++)
		if (name[i] != wanted[i])
			return false;
	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

static __always_inline void report(void *context, const struct done *done,
				   const struct compaction_key *key, __u64 duration, __u64 now)
{
	struct slow_compaction *slow =
		event_reserve(&slow_compactions, sizeof(*slow), key->cgroup, now);
	__u64 ids = bpf_get_current_pid_tgid();

	if (!slow)
		return;
	__builtin_memset(slow, 0, sizeof(*slow));
	slow->time = now;
	slow->cgroup = key->cgroup;
	slow->duration = duration;
	slow->scanned = done->scanned;
	slow->scanned_free = done->scanned_free;
	slow->tgid = ids >> 32;
	slow->tid = ids;
	slow->order = done->order;
	slow->gfp = done->gfp;
	slow->node = done->node;
	slow->kind = key->kind;
	slow->result = done->result;
	bpf_get_current_comm(slow->comm, sizeof(slow->comm));
	if (done->zone)
		bpf_probe_read_kernel_str(slow->zone, sizeof(slow->zone), done->zone);
	bpf_get_stack(context, slow->stack, sizeof(slow->stack), 0);
	ring_submit(&slow_compactions, slow);
}

static __always_inline int end(void *context, struct doing *task, const struct done *done)
{
	struct result_key result = {.result = done->result};
	struct compaction_key key;
	struct compaction_row *row;
	struct result_row *count;
	__u64 now = bpf_ktime_get_ns();
	__u64 duration = now - task->since;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = current_cgroup();
	if (is_kcompactd())
		key.kind = COMPACTION_KCOMPACTD;
	else
		key.kind = done->order == WHOLE_ZONE ? COMPACTION_MANUAL : COMPACTION_DIRECT;
	result.kind = key.kind;
	task->since = 0;
	row = counter_row(&compactions, &key, &no_compaction);
	if (row) {
		histogram_add(&row->duration, duration);
		row->scanned_pages += done->scanned;
		row->scanned_free_pages += done->scanned_free;
	}
	count = counter_row(&results, &result, &no_result);
	if (count)
		count->results++;
	if (duration >= slow_threshold)
		report(context, done, &key, duration, now);
	return 0;
}

SEC("tp_btf/mm_compaction_begin")
int BPF_PROG(compaction_begin)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (task)
		task->since = bpf_ktime_get_ns();
	return 0;
}

/*
 * As in 5.10, without a compact_control. Tried first, because a kernel with fewer arguments refuses
 * it, while one with this many would take a page number for the control.
 */
SEC("tp_btf/mm_compaction_end")
int BPF_PROG(compaction_end__without_control, unsigned long zone_start, unsigned long migrate_pfn,
	     unsigned long free_pfn, unsigned long zone_end, bool sync, int status)
{
	struct doing *task = TASK_VALUE(doing);
	struct done done = {.order = WHOLE_ZONE, .node = -1, .result = status};

	if (!task || !task->since)
		return 0; /* it began before we did */
	if (task->has_asked) {
		done.order = task->order;
		done.gfp = task->gfp;
	}
	return end(ctx, task, &done);
}

SEC("tp_btf/mm_compaction_end")
int BPF_PROG(compaction_end__control, struct compact_control *control, unsigned long zone_start,
	     unsigned long zone_end, bool sync, int status)
{
	struct doing *task = TASK_VALUE(doing);
	struct done done = {.result = status};

	if (!task || !task->since)
		return 0;
	done.order = control->order;
	done.gfp = control->gfp_mask;
	done.scanned = control->total_migrate_scanned;
	done.scanned_free = control->total_free_scanned;
	done.node = control->zone->node;
	done.zone = control->zone->name;
	return end(ctx, task, &done);
}

/* What a direct compaction is for, where the end does not say it. */
SEC("tp_btf/mm_compaction_try_to_compact_pages")
int BPF_PROG(asked__without_control, int order, __u32 gfp)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (task) {
		task->order = order;
		task->gfp = gfp;
		task->has_asked = 1;
	}
	return 0;
}

static __always_inline enum mobility mobility_of(int migratetype)
{
	return migratetype >= 0 && migratetype < MOBILITY_OTHER ? (enum mobility)migratetype
								: MOBILITY_OTHER;
}

SEC("tp_btf/mm_page_alloc_extfrag")
int BPF_PROG(fallback, void *page, int order, int taken_order, int wanted, int taken)
{
	struct fallback_key key = {.wanted = mobility_of(wanted), .taken = mobility_of(taken)};
	struct fallback_row *row = counter_row(&fallbacks, &key, &no_fallback);

	if (row)
		row->fallbacks++;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
