// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How long fsync takes, whatever asks for it (fsync, fdatasync, msync, O_SYNC writes, io_uring, an
 * NFS server), how long journals take to commit, and how long tasks wait to enter one.
 *
 * fsync is timed around vfs_fsync_range(), and around the two system calls, into which compilers
 * copy it: of Debian's kernels 6.12 calls it for both, 5.10 and 6.1 for fsync only, 7.2 for none.
 * Where all are seen the inner one counts. A kernel that lets nobody hook functions has tracepoints
 * at both ends of ext4's only; xfs and btrfs say when an fsync begins and never when it is done, so
 * there they appear in the samples of fs.latency.
 *
 * The tracepoints of file systems are hooked raw, not typed: they may come with a module long after
 * the probe has started, and 5.10 has no types of modules at all. Of jbd2 only struct
 * transaction_run_stats_s is needed, which has been the same since 3.5.
 */
#include <linux/ptrace.h>
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "syscall.bpf.h"

#define IN_PROGRESS 8192

const volatile duration_ns_t
	slow_sync DOC("an fsync of at least this long is an event") = 1000000000;
const volatile duration_ns_t
	slow_commit DOC("a journal's commit of at least this long is an event") = 1000000000;
const volatile duration_ns_t slow_journal
	DOC("a task that waits at least this long to enter a journal is an event") = 500000000;
const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

enum sync_operation {
	SYNC_OPERATION_FSYNC,
	SYNC_OPERATION_FDATASYNC,
};

/* include/linux/jbd2.h; times in jiffies */
struct transaction_run_stats_s {
	unsigned long rs_wait;
	unsigned long rs_request_delay;
	unsigned long rs_running;
	unsigned long rs_locked;
	unsigned long rs_flushing;
	unsigned long rs_logging;
	__u32 rs_handle_count;
	__u32 rs_blocks;
	__u32 rs_blocks_logged;
};

struct sync_key {
	cgroup_id_t cgroup DOC("container of the task");
	disk_t disk DOC("device of the file system");
	enum filesystem filesystem DOC("kind of the file system");
	enum sync_operation
		operation DOC("with all of the file's metadata, or only what data needs");
} KEY;

struct sync_row {
	duration_histogram_t duration DOC("time that fsync takes");
	counter_t errors DOC("fsyncs that failed: the data is not safe");
};

COUNTERS_UP_TO(4096, syncs, struct sync_key, struct sync_row);

struct commit_key {
	disk_t disk DOC("device of the file system");
};

struct commit_row {
	duration_histogram_t commit DOC("time of a journal's commit (jbd2: ext4, ocfs2)");
	counter_t commit_handles DOC("operations that commits were made of");
	counter_t commit_blocks DOC("blocks written to the journal");
};

COUNTERS_UP_TO(512, commits, struct commit_key, struct commit_row);

struct journal_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum filesystem filesystem DOC("kind of the file system");
} KEY;

struct journal_row {
	duration_histogram_t
		journal_wait DOC("time that a task waits to enter the journal: ext4 while a "
				 "commit locks it, xfs for space in the log");
};

COUNTERS_UP_TO(2048, journal_waits, struct journal_key, struct journal_row);

struct slow_sync {
	ktime_ns_t time DOC("when it was done");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t duration DOC("how long it took");
	duration_ns_t
		commit DOC("how long the journal's commit took that ended meanwhile; 0: none");
	__u64 inode DOC("number of the file");
	disk_t disk DOC("device of the file system");
	enum filesystem filesystem DOC("kind of the file system");
	enum sync_operation operation DOC("what was asked for");
	__s32 result DOC("0, or the error's number, negative");
	tgid_t tgid DOC("process");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
	path_t path DOC("the file, as the process sees it");
};

struct slow_commit {
	ktime_ns_t time DOC("when it was done");
	duration_ns_t duration DOC("how long it took");
	duration_ns_t delay DOC("from the moment it was asked for until it began");
	duration_ns_t locking DOC("of it: waiting for the operations that were under way");
	duration_ns_t flushing DOC("of it: writing the data of files");
	duration_ns_t logging DOC("of it: writing the journal");
	duration_ns_t
		longest_wait DOC("what a task had waited at most to get into this transaction");
	count_t handles DOC("operations in it");
	count_t blocks DOC("blocks written to the journal");
	__u32 transaction DOC("the journal's number of it");
	disk_t disk DOC("device of the file system");
};

struct journal_stall {
	ktime_ns_t time DOC("when the wait ended");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t duration DOC("how long it waited");
	disk_t disk DOC("device of the file system; 0: not known");
	enum filesystem filesystem DOC("kind of the file system");
	tgid_t tgid DOC("process that waited");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
};

RING(slow_syncs, struct slow_sync, 128 * 1024);
RING(slow_commits, struct slow_commit, 64 * 1024);
RING(journal_stalls, struct journal_stall, 64 * 1024);

struct progress_key {
	__u64 thread; /* tgid << 32 | tid */
	__u64 inode;  /* its address: overlay's fsync calls that of the file below; 0: unknown, or
		       * the system call around it */
};

struct progress {
	__u64 since;
	__u64 file;
	__u32 datasync;
	__u32 disk;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, IN_PROGRESS);
	__type(key, struct progress_key);
	__type(value, struct progress);
} in_progress SEC(".maps");

struct wait {
	__u64 since;
	__u64 journal;
};

struct { /* of a thread that commits, or waits for a journal */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct wait);
} waits SEC(".maps");

struct last_commit {
	__u64 end;
	__u64 duration;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct last_commit);
} last_commits SEC(".maps");

struct { /* a journal's address → its device, learnt from its commits */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, __u32);
} journal_disks SEC(".maps");

static const struct sync_row empty_sync;
static const struct commit_row empty_commit;
static const struct journal_row empty_journal;

static __always_inline int begin_sync(struct file *file, __u64 inode, int datasync)
{
	struct progress_key key = {.thread = bpf_get_current_pid_tgid(), .inode = inode};
	struct place place = place_of(BPF_CORE_READ(file, f_inode));
	struct progress progress = {.since = bpf_ktime_get_ns(), .file = (__u64)file};

	progress.datasync = datasync;
	progress.disk = place.device;
	if (bpf_map_update_elem(&in_progress, &key, &progress, BPF_ANY))
		ACCOUNT(map_full);
	return 0;
}

static __always_inline void report_sync(const struct progress *progress, const struct sync_key *key,
					struct place *place, __u64 now, int result)
{
	struct last_commit *commit = bpf_map_lookup_elem(&last_commits, &key->disk);
	struct slow_sync *record = event_reserve(&slow_syncs, sizeof(*record), key->cgroup, now);
	__u64 thread = bpf_get_current_pid_tgid();

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = key->cgroup;
	record->duration = now - progress->since;
	if (commit && commit->end > progress->since)
		record->commit = commit->duration;
	record->inode = place->inode;
	record->disk = key->disk;
	record->filesystem = key->filesystem;
	record->operation = key->operation;
	record->result = result;
	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	fill_path(record->path, (struct file *)progress->file);
	ring_submit(&slow_syncs, record);
}

static __always_inline int end_sync(__u64 inode, int result)
{
	struct progress_key progress_key = {.thread = bpf_get_current_pid_tgid(), .inode = inode};
	struct progress *found = bpf_map_lookup_elem(&in_progress, &progress_key), progress;
	struct sync_key key = {.cgroup = current_cgroup()};
	__u64 now = bpf_ktime_get_ns();
	struct sync_row *row;
	struct place place;
	struct file *file;

	if (!found)
		return 0; /* begun before the probe, or one inside it that was the same thread's */
	progress = *found;
	bpf_map_delete_elem(&in_progress, &progress_key);
	if (inode) { /* the system call around it is counted with it */
		progress_key.inode = 0;
		bpf_map_delete_elem(&in_progress, &progress_key);
	}
	file = (struct file *)progress.file;
	place = place_of(BPF_CORE_READ(file, f_inode));
	key.disk = place.device;
	key.filesystem = place.filesystem;
	key.operation = progress.datasync ? SYNC_OPERATION_FDATASYNC : SYNC_OPERATION_FSYNC;
	row = counter_row(&syncs, &key, &empty_sync);
	if (!row)
		return 0;
	histogram_add(&row->duration, now - progress.since);
	if (result < 0)
		row->errors++;
	if (now - progress.since >= slow_sync)
		report_sync(&progress, &key, &place, now, result);
	return 0;
}

SEC("fentry/vfs_fsync_range")
int BPF_PROG(sync_begins__fentry, struct file *file, __s64 start, __s64 end, int datasync)
{
	return begin_sync(file, (__u64)file->f_inode, datasync);
}

SEC("fexit/vfs_fsync_range")
int BPF_PROG(sync__fentry, struct file *file, __s64 start, __s64 end, int datasync, int result)
{
	return end_sync((__u64)file->f_inode, result);
}

SEC("kprobe/vfs_fsync_range")
int BPF_KPROBE(sync_begins__kprobe, struct file *file, __s64 start, __s64 end, int datasync)
{
	return begin_sync(file, 0, datasync);
}

SEC("kretprobe/vfs_fsync_range")
int BPF_KRETPROBE(sync__kprobe, int result)
{
	return end_sync(0, result);
}

static __always_inline int begin_call(struct pt_regs *registers, int datasync)
{
	struct file *file = file_of(first_argument(registers));

	return file ? begin_sync(file, 0, datasync) : 0;
}

#ifdef __TARGET_ARCH_arm64
#define SYSTEM_CALL "__arm64_sys_"
#else
#define SYSTEM_CALL "__x64_sys_"
#endif

#define SYNC_CALL(name, datasync)                                       \
	SEC("fentry/" SYSTEM_CALL #name)                                \
	int BPF_PROG(name##_begins__fentry, struct pt_regs *registers)  \
	{                                                               \
		return begin_call(registers, datasync);                 \
	}                                                               \
	SEC("fexit/" SYSTEM_CALL #name)                                 \
	int BPF_PROG(name##__fentry, struct pt_regs *regs, long result) \
	{                                                               \
		return end_sync(0, result);                             \
	}                                                               \
	SEC("kprobe/" SYSTEM_CALL #name)                                \
	int BPF_KPROBE(name##_begins__kprobe, struct pt_regs *of_call)  \
	{                                                               \
		return begin_call(of_call, datasync);                   \
	}                                                               \
	SEC("kretprobe/" SYSTEM_CALL #name)                             \
	int BPF_KRETPROBE(name##__kprobe, int result)                   \
	{                                                               \
		return end_sync(0, result);                             \
	}

SYNC_CALL(fsync, 0)
SYNC_CALL(fdatasync, 1)

/* Attached only where none of those above works. */
SEC("raw_tp/ext4_sync_file_enter")
int ext4_sync_begins(struct bpf_raw_tracepoint_args *ctx)
{
	struct file *file = (void *)ctx->args[0];

	return begin_sync(file, (__u64)BPF_CORE_READ(file, f_inode), (int)ctx->args[1]);
}

SEC("raw_tp/ext4_sync_file_exit")
int ext4_sync_ends(struct bpf_raw_tracepoint_args *ctx)
{
	return end_sync(ctx->args[0], (int)ctx->args[1]);
}

static __always_inline void begin_wait(__u64 journal)
{
	struct wait wait = {.since = bpf_ktime_get_ns(), .journal = journal};
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&waits, &thread, &wait, BPF_ANY);
}

static __always_inline bool end_wait(struct wait *wait)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct wait *found = bpf_map_lookup_elem(&waits, &thread);

	if (!found)
		return false;
	*wait = *found;
	bpf_map_delete_elem(&waits, &thread);
	return true;
}

SEC("raw_tp/jbd2_start_commit")
int commit_begins(struct bpf_raw_tracepoint_args *ctx)
{
	begin_wait(ctx->args[0]);
	return 0;
}

static __always_inline void report_commit(const struct transaction_run_stats_s *stats, __u32 disk,
					  __u32 transaction, __u64 duration, __u64 now)
{
	struct slow_commit *record = event_reserve(&slow_commits, sizeof(*record), 0, now);

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->duration = duration;
	record->delay = stats->rs_request_delay * jiffy_ns;
	record->locking = stats->rs_locked * jiffy_ns;
	record->flushing = stats->rs_flushing * jiffy_ns;
	record->logging = stats->rs_logging * jiffy_ns;
	record->longest_wait = stats->rs_wait * jiffy_ns;
	record->handles = stats->rs_handle_count;
	record->blocks = stats->rs_blocks_logged;
	record->transaction = transaction;
	record->disk = disk;
	ring_submit(&slow_commits, record);
}

/* In the thread that commits, when all is written. */
SEC("raw_tp/jbd2_run_stats")
int commit_ends(struct bpf_raw_tracepoint_args *ctx)
{
	struct commit_key key = {.disk = ctx->args[0]};
	struct transaction_run_stats_s stats = {};
	struct last_commit last;
	struct commit_row *row;
	struct wait wait;

	if (!end_wait(&wait))
		return 0;
	bpf_probe_read_kernel(&stats, sizeof(stats), (void *)ctx->args[2]);
	last.end = bpf_ktime_get_ns();
	last.duration = last.end - wait.since;
	bpf_map_update_elem(&last_commits, &key.disk, &last, BPF_ANY);
	bpf_map_update_elem(&journal_disks, &wait.journal, &key.disk, BPF_ANY);
	row = counter_row(&commits, &key, &empty_commit);
	if (!row)
		return 0;
	histogram_add(&row->commit, last.duration);
	row->commit_handles += stats.rs_handle_count;
	row->commit_blocks += stats.rs_blocks_logged;
	if (last.duration >= slow_commit)
		report_commit(&stats, key.disk, ctx->args[1], last.duration, last.end);
	return 0;
}

static __always_inline int end_journal_wait(enum filesystem filesystem)
{
	struct journal_key key = {.cgroup = current_cgroup(), .filesystem = filesystem};
	__u64 now = bpf_ktime_get_ns(), thread = bpf_get_current_pid_tgid();
	struct journal_stall *record;
	struct journal_row *row;
	struct wait wait;
	__u32 *disk;

	if (!end_wait(&wait))
		return 0;
	row = counter_row(&journal_waits, &key, &empty_journal);
	if (row)
		histogram_add(&row->journal_wait, now - wait.since);
	if (now - wait.since < slow_journal)
		return 0;
	record = event_reserve(&journal_stalls, sizeof(*record), key.cgroup, now);
	if (!record)
		return 0;
	disk = bpf_map_lookup_elem(&journal_disks, &wait.journal);
	record->time = now;
	record->cgroup = key.cgroup;
	record->duration = now - wait.since;
	record->disk = disk ? *disk : 0;
	record->filesystem = filesystem;
	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	ring_submit(&journal_stalls, record);
	return 0;
}

SEC("kprobe/wait_transaction_locked")
int BPF_KPROBE(ext4_wait_begins, void *journal)
{
	begin_wait((__u64)journal);
	return 0;
}

SEC("kretprobe/wait_transaction_locked")
int BPF_KRETPROBE(ext4_wait_ends)
{
	return end_journal_wait(FILESYSTEM_EXT4);
}

SEC("raw_tp/xfs_log_grant_sleep")
int xfs_wait_begins(struct bpf_raw_tracepoint_args *ctx)
{
	begin_wait(ctx->args[0]);
	return 0;
}

SEC("raw_tp/xfs_log_grant_wake")
int xfs_wait_ends(struct bpf_raw_tracepoint_args *ctx)
{
	return end_journal_wait(FILESYSTEM_XFS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
