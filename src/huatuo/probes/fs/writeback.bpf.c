// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Writers that the kernel puts to sleep because there is more dirty page cache than the disks can
 * write in time. The tracepoint is in the writer, before each sleep, and says how long it will be:
 * nothing is paired. A pause of 0 or less is none.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

#define WRITERS 4096
#define EPISODE_GAP 1000000000ULL /* a writer that was not paused for that long starts anew */

const volatile duration_ns_t slow_throttle DOC(
	"a process that is paused for this long is an event; for twice as long another one, and so "
	"on, until it writes for a second without a pause") = 1000000000;
const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct device {
	__u32 devt;
};

struct backing_dev_info {
	struct device *owner; /* the disk's; none of btrfs and network file systems */
};

struct bdi_writeback {
	struct backing_dev_info *bdi;
};

struct dirty_throttle_control {
	unsigned long dirty;
	unsigned long thresh;
};

#pragma clang attribute pop

struct pause_key {
	cgroup_id_t cgroup DOC("container of the writer");
	disk_t disk DOC("device that is written to; none: btrfs, network file systems");
} KEY;

struct pause_row {
	duration_histogram_t pause DOC("pauses of writers, because too much is not written yet");
};

COUNTERS_UP_TO(2048, pauses, struct pause_key, struct pause_row);

struct throttled_writer {
	ktime_ns_t time DOC("when its pauses added up to that");
	cgroup_id_t cgroup DOC("container of the writer");
	duration_ns_t paused DOC("how long it was paused, all its threads together");
	duration_ns_t since DOC("since the first of these pauses");
	pages_t dirty DOC("page cache that was not written yet");
	pages_t limit DOC("above which writers are paused");
	pages_t rate DOC("how much this task may write per second");
	disk_t disk DOC("device that is written to; none: btrfs, network file systems");
	tgid_t tgid DOC("process");
	tid_t tid DOC("and the thread that paused last");
	comm_t comm DOC("and that thread's name");
};

RING(throttled_writers, struct throttled_writer, 64 * 1024);

struct episode {
	__u64 began;
	__u64 last; /* end of the last pause */
	__u64 paused;
	__u64 next; /* what `paused` must reach for the next event */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, WRITERS);
	__type(key, __u32); /* tgid */
	__type(value, struct episode);
} episodes SEC(".maps");

static const struct pause_row empty_row;

struct state {
	__u64 dirty;
	__u64 limit;
	__u64 rate;
};

static __always_inline void count_pause(const struct pause_key *key, __u64 pause)
{
	struct pause_row *row = counter_row(&pauses, key, &empty_row);

	if (row)
		histogram_add(&row->pause, pause);
}

/* Add a pause to the process's episode; whether it is long enough for an event now. Threads may
 * race here: then one of two pauses counts. */
static __always_inline bool add_to_episode(struct episode *out, __u32 tgid, __u64 pause, __u64 now)
{
	struct episode *found = bpf_map_lookup_elem(&episodes, &tgid), first = {};

	if (!found || now > found->last + EPISODE_GAP) {
		first.began = now;
		first.next = slow_throttle;
		bpf_map_update_elem(&episodes, &tgid, &first, BPF_ANY);
		found = bpf_map_lookup_elem(&episodes, &tgid);
	}
	if (!found)
		return false;
	found->paused += pause;
	found->last = now + pause;
	if (found->paused < found->next)
		return false;
	found->next = found->paused * 2;
	*out = *found;
	return true;
}

static __always_inline int paused(struct bdi_writeback *wb, long jiffies, const struct state *state)
{
	__u64 now, thread = bpf_get_current_pid_tgid();
	struct throttled_writer *record;
	struct pause_key key = {};
	struct episode episode;

	if (jiffies <= 0)
		return 0;
	now = bpf_ktime_get_ns();
	key.cgroup = current_cgroup();
	key.disk = wb->bdi->owner->devt;
	count_pause(&key, jiffies * jiffy_ns);
	if (!add_to_episode(&episode, thread >> 32, jiffies * jiffy_ns, now))
		return 0;
	record = event_reserve(&throttled_writers, sizeof(*record), key.cgroup, now);
	if (!record)
		return 0;
	record->time = now;
	record->cgroup = key.cgroup;
	record->paused = episode.paused;
	record->since = now + jiffies * jiffy_ns - episode.began;
	record->dirty = state->dirty;
	record->limit = state->limit;
	record->rate = state->rate;
	record->disk = key.disk;
	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	ring_submit(&throttled_writers, record);
	return 0;
}

/* Twelve arguments first: a kernel with eight (6.18 and later) refuses what reads the eleventh. */
SEC("tp_btf/balance_dirty_pages")
int BPF_PROG(balance_dirty_pages__twelve, struct bdi_writeback *wb, unsigned long thresh,
	     unsigned long bg_thresh, unsigned long dirty, unsigned long bdi_thresh,
	     unsigned long bdi_dirty, unsigned long dirty_ratelimit, unsigned long task_ratelimit,
	     unsigned long dirtied, unsigned long period, long pause, unsigned long start_time)
{
	struct state state = {.dirty = dirty, .limit = thresh, .rate = task_ratelimit};

	return paused(wb, pause, &state);
}

/* 6.18 and later */
SEC("tp_btf/balance_dirty_pages")
int BPF_PROG(balance_dirty_pages__control, struct bdi_writeback *wb,
	     struct dirty_throttle_control *control, unsigned long dirty_ratelimit,
	     unsigned long task_ratelimit, unsigned long dirtied, unsigned long period, long pause)
{
	struct state state = {
		.dirty = control->dirty, .limit = control->thresh, .rate = task_ratelimit};

	return paused(wb, pause, &state);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
