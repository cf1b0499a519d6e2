// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Reads, writes, opens and fsyncs of files, by kind of file system, around the system call. A hook
 * on system calls makes all of them slower, so latency.py attaches these programs in windows only.
 */
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "syscall.bpf.h"

#define CALLS 4096

const volatile duration_ns_t slow_call DOC(
	"a read, write or open of a file that takes at least this long is an event") = 1000000000;

struct file_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum filesystem filesystem DOC("kind of the file system");
	enum file_operation operation DOC("what was asked for");
};

struct file_row {
	duration_histogram_t duration DOC("time of system calls on files, seen in windows");
	counter_t errors DOC("those that failed; not opens, which have no file then");
};

COUNTERS_UP_TO(4096, files, struct file_key, struct file_row);

struct slow_call {
	ktime_ns_t time DOC("when it was done");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t duration DOC("how long it took");
	__u64 inode DOC("number of the file");
	__s64 result DOC("what the system call returned");
	disk_t disk DOC("device of the file system");
	enum filesystem filesystem DOC("kind of the file system");
	enum file_operation operation DOC("what was asked for");
	tgid_t tgid DOC("process");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
	path_t path DOC("the file, as the process sees it");
};

RING(slow_calls, struct slow_call, 128 * 1024);

struct call {
	__u64 since;
	__u32 fd;
	__u32 operation;
};

struct { /* of a thread: what it is in */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, CALLS);
	__type(key, __u64);
	__type(value, struct call);
} calls SEC(".maps");

static const struct file_row empty_row;

/* Not a pipe, a socket or a terminal, where reading is waiting for somebody. */
static __always_inline bool has_data(struct inode *inode)
{
	return is_of_type(inode, REGULAR_FILE) || is_of_type(inode, BLOCK_DEVICE);
}

static __always_inline void report(const struct call *call, const struct file_key *key,
				   const struct place *place, struct file *file, __u64 now,
				   __s64 result)
{
	struct slow_call *record = event_reserve(&slow_calls, sizeof(*record), key->cgroup, now);
	__u64 thread = bpf_get_current_pid_tgid();

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = key->cgroup;
	record->duration = now - call->since;
	record->inode = place->inode;
	record->result = result;
	record->disk = place->device;
	record->filesystem = key->filesystem;
	record->operation = key->operation;
	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	fill_path(record->path, file);
	ring_submit(&slow_calls, record);
}

static __always_inline void count_call(const struct call *call, __s64 result, __u64 now)
{
	__u32 fd = call->operation == FILE_OPERATION_OPEN ? (__u32)result : call->fd;
	struct file_key key = {.operation = call->operation};
	struct file *file = file_of(fd);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct file_row *row;
	struct place place;

	if (!has_data(inode))
		return;
	place = place_of(inode);
	key.cgroup = current_cgroup();
	key.filesystem = place.filesystem;
	row = counter_row(&files, &key, &empty_row);
	if (!row)
		return;
	histogram_add(&row->duration, now - call->since);
	if (result < 0)
		row->errors++;
	if (now - call->since >= slow_call && call->operation != FILE_OPERATION_FSYNC)
		report(call, &key, &place, file, now, result);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	struct call call = {.operation = operation_of(number)};
	__u64 thread;

	if (call.operation == FILE_OPERATION_NONE)
		return 0;
	thread = bpf_get_current_pid_tgid();
	call.fd = first_argument(regs);
	if (call.operation != FILE_OPERATION_OPEN) {
		struct file *file = file_of(call.fd);

		if (!has_data(BPF_CORE_READ(file, f_inode)))
			return 0;
	}
	call.since = bpf_ktime_get_ns();
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long result)
{
	__u64 now, thread = bpf_get_current_pid_tgid();
	struct call *found = bpf_map_lookup_elem(&calls, &thread), call;

	if (!found)
		return 0;
	call = *found;
	bpf_map_delete_elem(&calls, &thread);
	now = bpf_ktime_get_ns();
	if (call.operation != FILE_OPERATION_OPEN || result >= 0)
		count_call(&call, result, now);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
