// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Whose requests they are: process, file and device, from the moment a request is made to its end.
 *
 * Who makes a request is the task it is for, if it reads, writes directly, faults a page in or
 * calls fsync. What the kernel writes back by itself is made by one of its threads: then it is the
 * process that last made a page of that file dirty. The file is the one whose pages are moved;
 * around the page cache it is what the direct I/O or the system call says.
 */
#include "bio.bpf.h"
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "syscall.bpf.h"

#define STARTED 16384
#define ROWS 8192
#define PF_KTHREAD 0x00200000

const volatile duration_ns_t slow_threshold DOC(
	"requests that take at least this long, queue and device together, are events") = 100000000;

enum mode { /* how the data was accessed; bits, in the order of files.py */
	    MODE_DIRECT = 1 << 0,
	    MODE_MMAP = 1 << 1,
	    MODE_FSYNC = 1 << 2,
	    MODE_WRITEBACK = 1 << 3,
	    MODE_READAHEAD = 1 << 4,
	    MODE_METADATA = 1 << 5,
};

enum request_operation { /* as the kernel numbers them, include/linux/blk_types.h */
			 REQUEST_OPERATION_READ,
			 REQUEST_OPERATION_WRITE,
			 REQUEST_OPERATION_FLUSH,
			 REQUEST_OPERATION_DISCARD,
			 REQUEST_OPERATION_OTHER,
};

#define OPERATION_MASK 0xff

enum req_flag_bits {
	__REQ_RAHEAD = 19, /* relocated */
};

struct user_key {
	__u64 inode;	 /* 0: no file */
	__u32 file_disk; /* of the file system */
	__u32 disk;
	__u32 tgid;
	__u32 filesystem; /* enum filesystem */
};

/* Read by files.py, which exports none of it: its labels would be without bound. */
struct user_row {
	cgroup_id_t cgroup;
	count_t reads;
	count_t writes;
	count_t others;
	bytes_t bytes_read;
	bytes_t bytes_written;
	duration_ns_t queue;
	duration_ns_t device;
	duration_ns_t longest;
	__u32 modes;
	tid_t tid;
	comm_t comm;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct user_key);
	__type(value, struct user_row);
} users SEC(".maps");

struct file_key {
	__u64 inode;
	__u64 disk;
};

struct file_name {
	path_t path;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct file_name);
} names SEC(".maps");

struct started {
	struct user_key key;
	__u64 made;
	__u64 issued;
	__u64 cgroup;
	__u32 tid;
	__u32 modes;
	char comm[16];
};

struct { /* by the request's address, or that of its first bio where nobody sees the request yet */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STARTED);
	__type(key, __u64);
	__type(value, struct started);
} requests SEC(".maps");

struct writer {
	__u64 cgroup;
	__u32 tgid;
	__u32 tid;
	__u32 modes;
	char comm[16];
};

struct { /* an inode's address → who last made a page of it dirty */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct writer);
} writers SEC(".maps");

/* What a new name is made of; it does not fit on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_name);
} empty_name SEC(".maps");

struct slow_request {
	ktime_ns_t time DOC("when it completed");
	cgroup_id_t cgroup DOC("container of the process");
	duration_ns_t queue DOC("from the making of the request to its issue to the device");
	duration_ns_t device DOC("from its issue to its completion");
	__u64 sector DOC("first sector, in units of 512 bytes");
	bytes_t size DOC("bytes asked for");
	__u64 inode DOC("number of the file; 0: no file");
	disk_t disk DOC("device");
	disk_t file_disk DOC("device of the file's file system");
	enum filesystem filesystem DOC("kind of the file's file system");
	enum request_operation operation DOC("what was asked for");
	tgid_t tgid DOC("process that it was for, as far as known; else the kernel's thread");
	tid_t tid DOC("and its thread");
	__u32 modes DOC("how: direct, mmap, fsync, writeback, readahead, metadata");
	comm_t comm DOC("and that thread's name");
	path_t path DOC("the file, below its file system's root");
};

RING(slow_requests, struct slow_request, 256 * 1024);

static const struct user_row empty_row;

static __always_inline bool is_kernel_thread(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

static __always_inline enum request_operation operation_of_request(__u32 flags)
{
	__u32 operation = flags & OPERATION_MASK;

	return operation < REQUEST_OPERATION_OTHER ? operation : REQUEST_OPERATION_OTHER;
}

static __always_inline int made_dirty(struct address_space *mapping)
{
	__u64 inode, thread = bpf_get_current_pid_tgid();
	struct writer writer = {.tgid = thread >> 32, .tid = thread};

	if (!mapping || is_kernel_thread())
		return 0;
	inode = (__u64)mapping->host;
	writer.cgroup = current_cgroup();
	if (syscall_number(current_registers()) == NO_SYSCALL)
		writer.modes = MODE_MMAP;
	bpf_get_current_comm(writer.comm, sizeof(writer.comm));
	bpf_map_update_elem(&writers, &inode, &writer, BPF_ANY);
	return 0;
}

SEC("tp_btf/writeback_dirty_folio")
int BPF_PROG(dirty__folio, void *folio, struct address_space *mapping)
{
	return made_dirty(mapping);
}

SEC("tp_btf/writeback_dirty_page")
int BPF_PROG(dirty__page, void *page, struct address_space *mapping)
{
	return made_dirty(mapping);
}

/* Remember the path of a file that is seen for the first time. */
static __always_inline void remember_name(const struct place *place, struct inode *inode)
{
	struct file_key key = {.inode = place->inode, .disk = place->device};
	struct file_name *name = bpf_map_lookup_elem(&names, &key);
	__u32 zero = 0;

	if (name || !place->inode)
		return;
	name = bpf_map_lookup_elem(&empty_name, &zero);
	if (!name || bpf_map_update_elem(&names, &key, name, BPF_NOEXIST))
		return;
	name = bpf_map_lookup_elem(&names, &key);
	if (name)
		fill_inode_path(name->path, inode);
}

/* The task that makes the request, and what it does. */
static __always_inline void fill_task(struct started *started, struct pt_regs *registers,
				      struct file **file)
{
	__u64 thread = bpf_get_current_pid_tgid();
	long number = syscall_number(registers);
	enum file_operation operation = operation_of(number);

	started->key.tgid = thread >> 32;
	started->tid = thread;
	started->cgroup = current_cgroup();
	bpf_get_current_comm(started->comm, sizeof(started->comm));
	if (is_kernel_thread())
		return;
	if (number == NO_SYSCALL)
		started->modes |= MODE_MMAP;
	if (operation == FILE_OPERATION_FSYNC || number == __NR_sync || number == __NR_syncfs ||
	    number == __NR_msync)
		started->modes |= MODE_FSYNC;
	if (operation < FILE_OPERATION_OPEN)
		*file = file_of(first_argument(registers));
}

/* What a thread of the kernel writes back is the last writer's. */
static __always_inline void fill_writer(struct started *started, struct inode *inode)
{
	__u64 address = (__u64)inode;
	struct writer *writer = bpf_map_lookup_elem(&writers, &address);

	if (!writer)
		return;
	started->key.tgid = writer->tgid;
	started->tid = writer->tid;
	started->cgroup = writer->cgroup;
	started->modes |= MODE_WRITEBACK | writer->modes;
	__builtin_memcpy(started->comm, writer->comm, sizeof(started->comm));
}

static __always_inline int start(__u64 address, struct bio *bio, __u32 disk, __u32 flags)
{
	struct started started = {.made = bpf_ktime_get_ns()};
	struct file *file = direct_file_of(bio), *called = NULL;
	struct inode *cached = file ? NULL : cached_inode_of(bio), *inode = cached;
	struct place place = {};

	started.key.disk = disk;
	fill_task(&started, current_registers(), &called);
	if (flags >> bpf_core_enum_value(enum req_flag_bits, __REQ_RAHEAD) & 1)
		started.modes |= MODE_READAHEAD;
	file = file ? file : called;
	if (!cached && file && has_bytes(bio)) {
		inode = BPF_CORE_READ(file, f_inode);
		started.modes |= MODE_DIRECT;
	}
	if (inode) {
		place = place_of(inode);
		started.key.inode = place.inode;
		started.key.file_disk = place.device;
		started.key.filesystem = place.filesystem;
		if (cached && is_kernel_thread() &&
		    operation_of_request(flags) == REQUEST_OPERATION_WRITE)
			fill_writer(&started, inode);
		if (cached && !place.inode)
			started.modes |= MODE_METADATA;
		remember_name(&place, inode);
	}
	bpf_map_update_elem(&requests, &address, &started, BPF_ANY);
	return 0;
}

SEC("tp_btf/block_io_start")
int BPF_PROG(start__request, struct request *rq)
{
	return start((__u64)rq, rq->bio, disk_of(rq), rq->cmd_flags);
}

/* Before 6.5 the request is not made yet: its first bio stands for it. Two arguments were 5.10's.
 */
struct bio___flags {
	unsigned int bi_opf;
} __attribute__((preserve_access_index));

SEC("tp_btf/block_getrq")
int BPF_PROG(start__queue_and_bio, struct request_queue *queue, struct bio *bio)
{
	return start((__u64)bio, bio, 0, BPF_CORE_READ((struct bio___flags *)bio, bi_opf));
}

SEC("tp_btf/block_getrq")
int BPF_PROG(start__bio, struct bio *bio)
{
	return start((__u64)bio, bio, 0, BPF_CORE_READ((struct bio___flags *)bio, bi_opf));
}

static __always_inline struct started *find(struct request *rq, __u64 *address)
{
	struct started *found;

	*address = (__u64)rq;
	found = bpf_map_lookup_elem(&requests, address);
	if (found)
		return found;
	*address = (__u64)rq->bio;
	return bpf_map_lookup_elem(&requests, address);
}

static __always_inline int issue(struct request *rq)
{
	__u64 address;
	struct started *started = find(rq, &address);

	if (started)
		started->issued = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue__queue_and_request, struct request_queue *queue, struct request *rq)
{
	return issue(rq);
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue__request, struct request *rq)
{
	return issue(rq);
}

static __always_inline struct user_row *find_row(const struct started *started)
{
	struct user_row *row = bpf_map_lookup_elem(&users, &started->key);

	if (row)
		return row;
	bpf_map_update_elem(&users, &started->key, &empty_row, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&users, &started->key);
	if (!row) {
		ACCOUNT(map_full);
		return NULL;
	}
	row->cgroup = started->cgroup;
	row->tid = started->tid;
	__builtin_memcpy(row->comm, started->comm, sizeof(row->comm));
	return row;
}

static __always_inline void add(struct user_row *row, const struct started *started,
				enum request_operation operation, __u32 bytes, __u64 queue,
				__u64 device)
{
	if (operation == REQUEST_OPERATION_READ) {
		__sync_fetch_and_add(&row->reads, 1);
		__sync_fetch_and_add(&row->bytes_read, bytes);
	} else if (operation == REQUEST_OPERATION_WRITE) {
		__sync_fetch_and_add(&row->writes, 1);
		__sync_fetch_and_add(&row->bytes_written, bytes);
	} else {
		__sync_fetch_and_add(&row->others, 1);
	}
	__sync_fetch_and_add(&row->queue, queue);
	__sync_fetch_and_add(&row->device, device);
	if (queue + device > row->longest)
		row->longest = queue + device;
	row->modes |= started->modes;
}

static __always_inline void report(struct request *rq, const struct started *started,
				   enum request_operation operation, __u64 now, __u64 queue,
				   __u64 device)
{
	struct slow_request *record =
		event_reserve(&slow_requests, sizeof(*record), started->cgroup, now);
	struct file_key key = {.inode = started->key.inode, .disk = started->key.file_disk};
	struct file_name *name;

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = started->cgroup;
	record->queue = queue;
	record->device = device;
	record->sector = rq->__sector;
	record->size = rq->__data_len;
	record->inode = started->key.inode;
	record->disk = started->key.disk;
	record->file_disk = started->key.file_disk;
	record->filesystem = started->key.filesystem;
	record->operation = operation;
	record->tgid = started->key.tgid;
	record->tid = started->tid;
	record->modes = started->modes;
	__builtin_memcpy(record->comm, started->comm, sizeof(record->comm));
	name = bpf_map_lookup_elem(&names, &key);
	if (name)
		__builtin_memcpy(record->path, name->path, sizeof(record->path));
	ring_submit(&slow_requests, record);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(complete, struct request *rq, int status, unsigned int done)
{
	enum request_operation operation = operation_of_request(rq->cmd_flags);
	__u64 address, now, queue, device, issued;
	struct started *started = find(rq, &address);
	struct user_row *row;

	if (!started || done < rq->__data_len)
		return 0;
	now = bpf_ktime_get_ns();
	issued = started->issued > started->made ? started->issued : started->made;
	queue = issued - started->made;
	device = now > issued ? now - issued : 0;
	started->key.disk = disk_of(rq);
	row = find_row(started);
	if (row)
		add(row, started, operation, rq->__data_len, queue, device);
	if (queue + device >= slow_threshold)
		report(rq, started, operation, now, queue, device);
	bpf_map_delete_elem(&requests, &address);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
