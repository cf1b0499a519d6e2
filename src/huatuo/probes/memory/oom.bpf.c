// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Processes killed because memory ran out. The kernel marks its victim in the tracepoint
 * oom:mark_victim, running in the task whose allocation failed, under the mutex oom_lock: one kill
 * at a time on the whole machine.
 *
 * Whose memory ran out is in oom_control, which only oom_kill_process() sees. Where that function
 * can be hooked it is exact. Elsewhere the kernel stack tells a container's limit from the host's
 * memory, and the cgroup is the one nearest to its limit among those that hold both the victim and
 * the task that allocated.
 */
#include <linux/ptrace.h>
#include "event.bpf.h"
#include "memory.bpf.h"

#define FRAMES 20      /* from the tracepoint to mem_cgroup_out_of_memory and some more */
#define LONGEST 0x600  /* code of mem_cgroup_out_of_memory */
#define NEARLY_FULL 64 /* pages of headroom: the kernel charges in batches of 64 */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum memcg_memory_event {
	MEMCG_OOM_KILL = 4, /* relocated */
};

enum oom_constraint {
	CONSTRAINT_NONE,
};

struct oom_control {
	struct mem_cgroup *memcg;
	enum oom_constraint constraint;
};

struct percpu_counter {
	__s64 count;
};

struct mm_struct {
	struct percpu_counter rss_stat[4];
	unsigned long total_vm;
};

struct mm_rss_stat {
	atomic_long_t count[4];
};

/* commit f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter"), v6.2 */
struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct signal_struct {
	short oom_score_adj;
};

struct task_struct___oom {
	struct mm_struct *mm;
	struct signal_struct *signal;
};

#pragma clang attribute pop

enum oom_scope { /* as enum oom_constraint */
		 SCOPE_HOST,
		 SCOPE_CPUSET,
		 SCOPE_MEMORY_POLICY,
		 SCOPE_MEMCG,
};

enum rss { /* include/linux/mm_types_task.h */
	   RSS_FILE,
	   RSS_ANON,
	   RSS_SWAP,
	   RSS_SHMEM,
};

/* Why the kill that goes on happens: one is enough, under oom_lock. */
struct cause {
	struct memory_use domain; /* all 0: the host */
	__u32 scope;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cause);
} cause_now SEC(".maps");

struct { /* kills that a cgroup's memory.events has counted when its last victim was marked */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} kills_seen SEC(".maps");

struct kill_key {
	cgroup_id_t cgroup DOC("container of the victim");
	enum oom_scope scope DOC("whose memory ran out");
} KEY;

struct kill_count {
	counter_t kills DOC("processes killed because memory ran out");
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct kill_key);
	__type(value, struct kill_count);
} kills SEC(".maps");

struct oom_kill {
	ktime_ns_t time DOC("when the victim was marked");
	cgroup_id_t victim_cgroup DOC("container of the process that was killed");
	cgroup_id_t trigger_cgroup DOC("container of the task whose allocation failed");
	cgroup_id_t domain_cgroup DOC("cgroup that reached its limit; 0: the host");
	bytes_t domain_limit DOC("its limit");
	bytes_t domain_usage DOC("what it used when the victim was chosen");
	bytes_t victim_anon DOC("anonymous memory of the victim");
	bytes_t victim_file DOC("mapped files of the victim");
	bytes_t victim_shmem DOC("shared memory of the victim");
	bytes_t victim_swap DOC("memory of the victim that is swapped out");
	bytes_t victim_virtual DOC("address space of the victim");
	kstack_t stack DOC("the allocation that failed");
	tgid_t victim_tgid DOC("process that was killed");
	tgid_t trigger_tgid DOC("process whose allocation failed");
	tid_t trigger_tid DOC("and its thread");
	__s32 victim_oom_score_adj DOC("-1000: never a victim, 1000: the first");
	enum oom_scope scope DOC("whose memory ran out");
	comm_t victim_comm DOC("name of the thread that was chosen");
	comm_t trigger_comm DOC("name of the thread whose allocation failed");
};

RING(oom_kills, struct oom_kill, 64 * 1024);

extern const void mem_cgroup_out_of_memory __ksym __weak;

static __always_inline struct cause *cause_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cause_now, &zero);
}

static __always_inline int level_of(struct mem_cgroup *memcg)
{
	return BPF_CORE_READ(memcg, css.cgroup, level);
}

/* The lowest cgroup that holds both tasks. */
static __always_inline struct mem_cgroup *common_ancestor(struct mem_cgroup *one,
							  struct mem_cgroup *other)
{
	for (int i = 0; i < LEVELS && level_of(one) > level_of(other); i++)
		one = parent_of(one);
	for (int i = 0; i < LEVELS && level_of(other) > level_of(one); i++)
		other = parent_of(other);
	for (int i = 0; i < LEVELS && one != other; i++) {
		one = parent_of(one);
		other = parent_of(other);
	}
	return one;
}

/* Whether a limit's own OOM handling is on the kernel stack; true if that cannot be known. */
static __always_inline bool limit_on_stack(void *context)
{
	__u64 start = (__u64)&mem_cgroup_out_of_memory, frames[FRAMES] = {};

	if (!start || bpf_get_stack(context, frames, sizeof(frames), 0) < 0)
		return true;
	for (int i = 0; i < FRAMES; i++)
		if (frames[i] - start < LONGEST)
			return true;
	return false;
}

static __always_inline int remember(struct oom_control *control)
{
	struct mem_cgroup *memcg = BPF_CORE_READ(control, memcg);
	struct cause *cause = cause_slot();

	if (!cause)
		return 0;
	__builtin_memset(cause, 0, sizeof(*cause));
	if (memcg)
		fill_use(&cause->domain, memcg, false);
	cause->scope = BPF_CORE_READ(control, constraint);
	return 0;
}

SEC("fentry/oom_kill_process")
int BPF_PROG(cause__fentry, struct oom_control *control)
{
	return remember(control);
}

SEC("kprobe/oom_kill_process")
int BPF_KPROBE(cause__kprobe, struct oom_control *control)
{
	return remember(control);
}

SEC("tp_btf/mark_victim")
int BPF_PROG(cause__inferred, struct task_struct *victim)
{
	struct task_struct *trigger = (struct task_struct *)bpf_get_current_task();
	struct cause *cause = cause_slot();
	struct memory_use use;
	__s64 left;

	if (!cause)
		return 0;
	__builtin_memset(cause, 0, sizeof(*cause));
	if (!limit_on_stack(ctx))
		return 0;
	left = fill_use(
		&use, nearest_to_limit(common_ancestor(memcg_of(victim), memcg_of(trigger)), false),
		false);
	if (left <= NEARLY_FULL || &mem_cgroup_out_of_memory) {
		cause->domain = use;
		cause->scope = SCOPE_MEMCG;
	}
	return 0;
}

/* The kernel also marks tasks that are exiting anyway; they are in no cgroup's count of kills. */
static __always_inline bool is_kill(struct task_struct *victim)
{
	struct mem_cgroup *memcg = memcg_of(victim);
	__u64 id = BPF_CORE_READ(memcg, css.cgroup, kn, id), count = 0;
	__u64 *seen = bpf_map_lookup_elem(&kills_seen, &id);
	atomic_long_t *events;

	events = __builtin_preserve_access_index(&memcg->memory_events_local[0]);
	events += bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL);
	if (bpf_probe_read_kernel(&count, sizeof(count), events))
		return true;
	if (seen ? *seen == count : !count)
		return false;
	bpf_map_update_elem(&kills_seen, &id, &count, BPF_ANY);
	return true;
}

static __always_inline void count_kill(__u64 cgroup, __u32 scope)
{
	struct kill_key key = {.cgroup = cgroup, .scope = scope};
	struct kill_count *found = bpf_map_lookup_elem(&kills, &key), first = {.kills = 1};

	if (found)
		__sync_fetch_and_add(&found->kills, 1);
	else if (bpf_map_update_elem(&kills, &key, &first, BPF_NOEXIST))
		ACCOUNT(map_full);
}

/* A macro, because CO-RE needs the array's index as a constant. */
#define READ_RSS(mm, index)                                                                   \
	({                                                                                    \
		struct mm_struct___before_6_2 *old_ = (void *)(mm);                           \
		__s64 pages_ = 0;                                                             \
		if (bpf_core_field_exists(old_->rss_stat.count))                              \
			bpf_core_read(&pages_, sizeof(pages_), &old_->rss_stat.count[index]); \
		else                                                                          \
			bpf_core_read(&pages_, sizeof(pages_), &(mm)->rss_stat[index].count); \
		pages_ > 0 ? pages_ *page_size : 0;                                           \
	})

static __always_inline void fill_victim(struct oom_kill *kill, struct task_struct *victim)
{
	struct task_struct___oom *task = (void *)victim;
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	kill->victim_tgid = victim->tgid;
	kill->victim_oom_score_adj = BPF_CORE_READ(task, signal, oom_score_adj);
	bpf_probe_read_kernel_str(kill->victim_comm, sizeof(kill->victim_comm), victim->comm);
	if (!mm)
		return;
	kill->victim_anon = READ_RSS(mm, RSS_ANON);
	kill->victim_file = READ_RSS(mm, RSS_FILE);
	kill->victim_shmem = READ_RSS(mm, RSS_SHMEM);
	kill->victim_swap = READ_RSS(mm, RSS_SWAP);
	kill->victim_virtual = BPF_CORE_READ(mm, total_vm) * page_size;
}

static __always_inline void fill_trigger(struct oom_kill *kill)
{
	__u64 ids = bpf_get_current_pid_tgid();

	kill->trigger_cgroup = current_cgroup();
	kill->trigger_tgid = ids >> 32;
	kill->trigger_tid = ids;
	bpf_get_current_comm(kill->trigger_comm, sizeof(kill->trigger_comm));
}

SEC("tp_btf/mark_victim")
int BPF_PROG(killed, struct task_struct *victim)
{
	__u64 now = bpf_ktime_get_ns(), cgroup = task_cgroup(victim);
	struct cause *cause = cause_slot();
	struct oom_kill *kill;

	if (!cause || !is_kill(victim))
		return 0;
	count_kill(cgroup, cause->scope);
	kill = event_reserve(&oom_kills, sizeof(*kill), cgroup, now);
	if (!kill)
		return 0;
	__builtin_memset(kill, 0, sizeof(*kill));
	kill->time = now;
	kill->victim_cgroup = cgroup;
	kill->scope = cause->scope;
	kill->domain_cgroup = cause->domain.cgroup;
	kill->domain_limit = cause->domain.limit_pages * page_size;
	kill->domain_usage = cause->domain.used_pages * page_size;
	bpf_get_stack(ctx, kill->stack, sizeof(kill->stack), 0);
	fill_victim(kill, victim);
	fill_trigger(kill);
	ring_submit(&oom_kills, kill);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
