// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * File systems that find errors, and data that is lost. For every file system: a page cache whose
 * write-back failed (filemap_set_wb_err, which is also when the superblock's error number moves
 * on), and a process that is told so (file_check_and_advance_wb_err, in fsync or close). What ext4,
 * xfs and btrfs find in their own structures they say in tracepoints and functions of theirs,
 * hooked raw because they may come with a module later. errors.py adds what became read-only, and
 * the kernel's log where nothing else speaks for a file system.
 */
#include <linux/ptrace.h>
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "vfs.bpf.h"

#define MOST_ERRNO 4095 /* the low bits of an errseq_t */
#define MESSAGE_BYTES 160

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct address_space {
	struct inode *host;
	__u32 wb_err; /* an errseq_t */
};

struct file___errors {
	__u32 f_wb_err;
};

struct xfs_mount {
	struct super_block *m_super;
};

struct btrfs_fs_info {
	struct super_block *sb;
};

#pragma clang attribute pop

enum fs_error_source {
	FS_ERROR_EXT4,
	FS_ERROR_XFS,
	FS_ERROR_BTRFS,
	FS_ERROR_WRITEBACK,
	FS_ERROR_REPORTED,
	FS_ERROR_READ_ONLY,
	FS_ERROR_LOG,
};

struct error_key {
	disk_t disk DOC("device of the file system");
	enum filesystem filesystem DOC("kind of the file system");
	enum fs_error_source source
		DOC("who said so: the file system, write-back, fsync, its state, the kernel's log");
};

struct error_count {
	counter_t found DOC("errors of file systems");
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct error_key);
	__type(value, struct error_count);
} errors SEC(".maps");

struct fs_error {
	ktime_ns_t time DOC("when it was found");
	cgroup_id_t cgroup DOC("container of the task; none where nobody's task is concerned");
	__u64 inode DOC("number of the file, where one is concerned");
	disk_t disk DOC("device of the file system; 0: not known");
	enum filesystem filesystem DOC("kind of the file system");
	enum fs_error_source source DOC(
		"ext4, xfs, btrfs: the file system found it; writeback: data could not be written; "
		"reported: a process was told so; read_only: it refuses writes now; log: the "
		"kernel's log");
	__s32 error DOC("the error's number, negative; 0: not known");
	__u32 line DOC("line of the kernel's source file, where it says so");
	tgid_t tgid DOC("process that ran into it");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
	char message[MESSAGE_BYTES] DOC(
		"function or file of the kernel's source, mount point, or line "
		"of the kernel's log");
	path_t path DOC("the file, where one is concerned");
};

RING(fs_errors, struct fs_error, 128 * 1024);

static __always_inline void count_error(const struct error_key *key)
{
	struct error_count *count = bpf_map_lookup_elem(&errors, key), first = {.found = 1};

	if (count)
		__sync_fetch_and_add(&count->found, 1);
	else if (bpf_map_update_elem(&errors, key, &first, BPF_NOEXIST))
		ACCOUNT(map_full);
}

/* Count an error, and reserve its record; NULL where there must be none. */
static __always_inline struct fs_error *begin_error(const struct error_key *key, __u64 cgroup)
{
	__u64 now = bpf_ktime_get_ns();
	struct fs_error *record;

	count_error(key);
	record = event_reserve(&fs_errors, sizeof(*record), cgroup, now);
	if (!record)
		return NULL;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->disk = key->disk;
	record->filesystem = key->filesystem;
	record->source = key->source;
	return record;
}

static __always_inline void fill_current(struct fs_error *record)
{
	__u64 thread = bpf_get_current_pid_tgid();

	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
}

/* What a file system says of itself. `sb` may be NULL, where its type is not known. */
static __always_inline int found_by_filesystem(struct super_block *sb, enum fs_error_source source,
					       enum filesystem filesystem, const char *where,
					       __u32 line, int error)
{
	struct error_key key = {.source = source, .filesystem = filesystem};
	struct fs_error *record;

	if (sb)
		key.disk = device_of(sb);
	record = begin_error(&key, current_cgroup());
	if (!record)
		return 0;
	fill_current(record);
	bpf_probe_read_kernel_str(record->message, sizeof(record->message), where);
	record->line = line;
	record->error = error;
	ring_submit(&fs_errors, record);
	return 0;
}

/* (sb, function, line) */
SEC("raw_tp/ext4_error")
int ext4_error(struct bpf_raw_tracepoint_args *ctx)
{
	struct super_block *sb = (void *)ctx->args[0];

	return found_by_filesystem(sb, FS_ERROR_EXT4, filesystem_of(sb), (void *)ctx->args[1],
				   ctx->args[2], 0);
}

/* (mount, tag, flags, file, line): it takes no writes any more */
SEC("raw_tp/xfs_force_shutdown")
int xfs_shutdown(struct bpf_raw_tracepoint_args *ctx)
{
	struct xfs_mount *mount = (void *)ctx->args[0];
	struct super_block *sb = NULL;

	if (bpf_core_field_exists(mount->m_super))
		sb = BPF_CORE_READ(mount, m_super);
	return found_by_filesystem(sb, FS_ERROR_XFS, FILESYSTEM_XFS, (void *)ctx->args[3],
				   ctx->args[4], 0);
}

SEC("kprobe/__btrfs_handle_fs_error")
int BPF_KPROBE(btrfs_error, struct btrfs_fs_info *info, const char *function, unsigned int line,
	       int error)
{
	struct super_block *sb = NULL;

	if (bpf_core_field_exists(info->sb))
		sb = BPF_CORE_READ(info, sb);
	return found_by_filesystem(sb, FS_ERROR_BTRFS, FILESYSTEM_BTRFS, function, line, error);
}

/* Fires for every page that is lost, so a file is an event once a second at most. The tracepoint's
 * other argument is the error before this one. */
SEC("tp_btf/filemap_set_wb_err")
int BPF_PROG(filemap_set_wb_err, struct address_space *mapping)
{
	__u64 now = bpf_ktime_get_ns();
	struct inode *inode = mapping->host;
	struct place place = place_of(inode);
	struct error_key key = {.disk = place.device, .filesystem = place.filesystem};
	struct fs_error *record;

	key.source = FS_ERROR_WRITEBACK;
	if (!take_token((__u64)mapping, 1, now)) {
		count_error(&key);
		ACCOUNT(produced);
		ACCOUNT(rate_limited);
		return 0;
	}
	record = begin_error(&key, 0);
	if (!record)
		return 0;
	record->error = -(int)(mapping->wb_err & MOST_ERRNO);
	record->inode = place.inode;
	fill_inode_path(record->path, inode);
	ring_submit(&fs_errors, record);
	return 0;
}

/* Fires only where there is an error to tell, once per open file. */
SEC("tp_btf/file_check_and_advance_wb_err")
int BPF_PROG(file_check_and_advance_wb_err, struct file *file)
{
	struct file___errors *after = (void *)file;
	struct place place = place_of(file->f_inode);
	struct error_key key = {.disk = place.device, .filesystem = place.filesystem};
	struct fs_error *record;

	key.source = FS_ERROR_REPORTED;
	record = begin_error(&key, current_cgroup());
	if (!record)
		return 0;
	fill_current(record);
	record->error = -(int)(BPF_CORE_READ(after, f_wb_err) & MOST_ERRNO);
	record->inode = place.inode;
	fill_path(record->path, file);
	ring_submit(&fs_errors, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
