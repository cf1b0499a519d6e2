// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * One program on block_rq_complete for every request of every disk: the kernel stamps a request
 * when it is made (start_time_ns) and when it is handed to the device (io_start_time_ns), so both
 * shares of its latency are known at its end, with nothing kept per request.
 *
 * The kernel writes the second stamp only on queues with a user of its statistics (writeback
 * throttling, which is the default, kyber, bfq). latency.py attaches block_rq_issue, which stamps
 * by itself, as soon as a request without is seen, or at once with own_stamps: since commit
 * da4c8c3d0975 ("block: cache current nsec time in struct blk_plug"), v6.9, the kernel reads
 * the clock once per plug, so both of its stamps are equal unless the task slept in between.
 *
 * A request counts once, when the last of its bytes are done. Here it still has its bio, and the
 * request's first bio names the container: merged requests are its.
 */
#include "bio.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

#define STAMPS 16384 /* requests are allocated once per tag, so this is tags in use, not IOs */
#define HOT_ROWS 64  /* 46 KiB per CPU */
#define RECENT 16
#define MOST_BIOS 256

const volatile duration_ns_t slow_threshold DOC(
	"requests that take at least this long, queue and device together, are events") = 500000000;

const volatile bool own_stamps DOC(
	"stamp each request's issue to the device also where the kernel does: exact also for "
	"what a task does between making and issuing it without sleeping, at a second hook's cost");

/* The low byte of cmd_flags, include/linux/blk_types.h; these values are the same since 4.10. */
enum kernel_operation {
	KERNEL_READ = 0,
	KERNEL_WRITE = 1,
	KERNEL_FLUSH = 2,
	KERNEL_DISCARD = 3,
	KERNEL_SECURE_ERASE = 5,
	KERNEL_WRITE_ZEROES = 9,
	KERNEL_PASSTHROUGH = 32, /* this and above: commands of a driver or of user space */
	KERNEL_OPERATION_MASK = 0xff,
};

enum operation {
	OPERATION_READ,
	OPERATION_WRITE,
	OPERATION_FLUSH,
	OPERATION_DISCARD,
	OPERATION_WRITE_ZEROES,
	OPERATION_PASSTHROUGH,
	OPERATION_OTHER,
};

/* blk_status_t, include/linux/blk_types.h, as far as all kernels agree on the numbers. */
enum io_error {
	IO_ERROR_NONE,
	IO_ERROR_NOT_SUPPORTED,
	IO_ERROR_TIMEOUT,
	IO_ERROR_NO_SPACE,
	IO_ERROR_TRANSPORT,
	IO_ERROR_TARGET,
	IO_ERROR_RESERVATION,
	IO_ERROR_MEDIUM,
	IO_ERROR_PROTECTION,
	IO_ERROR_RESOURCE,
	IO_ERROR_IO,
	IO_ERROR_DM_REQUEUE,
	IO_ERROR_AGAIN,
	IO_ERROR_OTHER,
};

struct request_key {
	blkcg_id_t cgroup;
	disk_t disk;
	enum operation operation;
};

struct request_row {
	duration_histogram_t queue DOC("time from a request's start to its issue to the device");
	duration_histogram_t device DOC("time from a request's issue to its completion");
	duration_histogram_t request DOC("time from a request's start to its completion; the sum's "
					 "rate is the mean number of requests in flight");
	counter_bytes_t transferred DOC("bytes of completed requests");
	counter_t merges DOC("bios that were merged into requests of others, which have completed");
	counter_t requeues DOC("times that the device could not take a request and it had to wait");
	counter_t errors DOC("requests that ended with an error");
};

/*
 * A third of the cost was looking up a row in a hash. The first HOT_ROWS keys have rows in a
 * dense array, and each CPU remembers the numbers of the last ones it used; measured in
 * docs/decisions/0011-block-rows.md. All other keys are in the hash. Filled from interrupts: the
 * hash's elements come from the BPF allocator, only as many as there are keys.
 */
COUNTERS(cold_rows, struct request_key, struct request_row);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOT_ROWS);
	__type(key, __u32);
	__type(value, struct request_row);
} hot_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HOT_ROWS);
	__type(key, struct request_key);
	__type(value, __u32);
} hot_numbers SEC(".maps");

struct { /* filled and refilled by user space: rows of cgroups that are gone come back */
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, HOT_ROWS);
	__type(value, __u32);
} free_rows SEC(".maps");

struct recent {
	struct request_key key;
	__u64 row; /* of hot_rows, plus 1; 0: the key is in cold_rows */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RECENT);
	__type(key, __u32);
	__type(value, struct recent);
} recents SEC(".maps");

struct block_request {
	ktime_ns_t time DOC("when it completed");
	blkcg_id_t cgroup DOC("container of the request's first bio");
	duration_ns_t queue DOC("from the request's start to its issue to the device");
	duration_ns_t device DOC("from its issue to its completion");
	__u64 sector DOC("first sector, in units of 512 bytes");
	bytes_t size DOC("bytes asked for");
	__u64 inode DOC("number of the file whose data it moved; 0: not known");
	disk_t disk DOC("device");
	disk_t filesystem_disk DOC("device of the file's file system");
	enum operation operation DOC("what was asked for");
	enum io_error error DOC("how it ended");
	enum filesystem filesystem DOC("kind of the file's file system");
	tgid_t tgid DOC("process that waited for it; 0: none did, or nobody knows");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
	__u16 flags DOC("what else was asked for: sync, fua, flush, metadata, priority, readahead, "
			"background");
	path_t path DOC("the file, below its file system's root unless it was read or written "
			"directly; empty: not known");
};

RING(slow_requests, struct block_request, 256 * 1024);
RING(failed_requests, struct block_request, 256 * 1024);

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, STAMPS);
	__type(key, __u64); /* the request's address */
	__type(value, __u64);
} issue_stamps SEC(".maps");

/* Requests that are in no histogram because nobody stamped their issue. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} unstamped SEC(".maps");

static const struct request_row empty_row;

enum req_flag_bits { /* relocated: the numbers differ between kernels */
		     __REQ_SYNC = 11,
		     __REQ_META,
		     __REQ_PRIO,
		     __REQ_FUA,
		     __REQ_PREFLUSH,
		     __REQ_RAHEAD,
		     __REQ_BACKGROUND,
};

enum request_flag { /* of block_request, in the order of latency.py */
		    FLAG_SYNC = 1 << 0,
		    FLAG_FUA = 1 << 1,
		    FLAG_FLUSH = 1 << 2,
		    FLAG_METADATA = 1 << 3,
		    FLAG_PRIORITY = 1 << 4,
		    FLAG_READAHEAD = 1 << 5,
		    FLAG_BACKGROUND = 1 << 6,
};

#define FLAG_OF(flags, bit, flag) \
	((flags) >> bpf_core_enum_value(enum req_flag_bits, bit) & 1 ? (flag) : 0)

static __always_inline __u16 flags_of(__u32 flags)
{
	return FLAG_OF(flags, __REQ_SYNC, FLAG_SYNC) | FLAG_OF(flags, __REQ_FUA, FLAG_FUA) |
	       FLAG_OF(flags, __REQ_PREFLUSH, FLAG_FLUSH) |
	       FLAG_OF(flags, __REQ_META, FLAG_METADATA) |
	       FLAG_OF(flags, __REQ_PRIO, FLAG_PRIORITY) |
	       FLAG_OF(flags, __REQ_RAHEAD, FLAG_READAHEAD) |
	       FLAG_OF(flags, __REQ_BACKGROUND, FLAG_BACKGROUND);
}

static __always_inline enum operation operation_of(__u32 flags)
{
	__u32 operation = flags & KERNEL_OPERATION_MASK;

	if (operation <= KERNEL_DISCARD)
		return (enum operation)operation;
	if (operation == KERNEL_WRITE_ZEROES)
		return OPERATION_WRITE_ZEROES;
	if (operation == KERNEL_SECURE_ERASE)
		return OPERATION_DISCARD;
	return operation >= KERNEL_PASSTHROUGH ? OPERATION_PASSTHROUGH : OPERATION_OTHER;
}

/* Until commit 8a7d267b4a2c ("block: don't call blk_status_to_errno in blk_update_request"), v5.16
 * the argument was -errno. */
static __always_inline enum io_error error_of(int error)
{
	switch (error) {
	case -95: /* EOPNOTSUPP */
		return IO_ERROR_NOT_SUPPORTED;
	case -110: /* ETIMEDOUT */
		return IO_ERROR_TIMEOUT;
	case -28: /* ENOSPC */
		return IO_ERROR_NO_SPACE;
	case -67: /* ENOLINK */
		return IO_ERROR_TRANSPORT;
	case -121: /* EREMOTEIO */
		return IO_ERROR_TARGET;
	case -52: /* EBADE */
		return IO_ERROR_RESERVATION;
	case -61: /* ENODATA */
		return IO_ERROR_MEDIUM;
	case -84: /* EILSEQ */
		return IO_ERROR_PROTECTION;
	case -12: /* ENOMEM */
		return IO_ERROR_RESOURCE;
	case -5: /* EIO */
		return IO_ERROR_IO;
	case -11: /* EAGAIN */
		return IO_ERROR_AGAIN;
	}
	return error >= 0 && error < IO_ERROR_OTHER ? (enum io_error)error : IO_ERROR_OTHER;
}

/* A write that asked for a flush completes once more, empty, after it (block/blk-flush.c). */
static __always_inline bool is_last_completion(enum operation operation, __u32 left, __u32 done)
{
	return done >= left && (left || operation != OPERATION_WRITE);
}

/* What nobody needs to look at: drivers probe with commands that fail, REQ_NOWAIT asks to fail. */
static __always_inline bool is_failure(enum operation operation, enum io_error error)
{
	return error != IO_ERROR_NOT_SUPPORTED && error != IO_ERROR_AGAIN &&
	       operation != OPERATION_PASSTHROUGH;
}

/* When it was issued, 0 if nobody stamped it. The kernel never stamps passthrough commands; they
 * are not queued to speak of, so all of their time is the device's. */
static __always_inline __u64 issued_at(struct request *rq, enum operation operation)
{
	__u64 address = (__u64)rq;
	__u64 *stamp;

	if (rq->io_start_time_ns && !own_stamps)
		return rq->io_start_time_ns;
	stamp = bpf_map_lookup_elem(&issue_stamps, &address);
	if (stamp && *stamp >= rq->start_time_ns)
		return *stamp;
	if (rq->io_start_time_ns)
		return rq->io_start_time_ns;
	return operation == OPERATION_PASSTHROUGH ? rq->start_time_ns : 0;
}

/* The number of the key's row plus 1, which it is given if there is one left; else 0. */
static __always_inline __u64 hot_number(const struct request_key *key)
{
	__u32 *found = bpf_map_lookup_elem(&hot_numbers, key), row = 0;

	if (found)
		return *found + 1ULL;
	if (bpf_map_lookup_elem(&cold_rows, key) || bpf_map_pop_elem(&free_rows, &row))
		return 0;
	if (!bpf_map_update_elem(&hot_numbers, key, &row, BPF_NOEXIST))
		return row + 1ULL;
	bpf_map_push_elem(&free_rows, &row, 0); /* another CPU was faster */
	found = bpf_map_lookup_elem(&hot_numbers, key);
	return found ? *found + 1ULL : 0;
}

static __always_inline struct request_row *find_row(const struct request_key *key)
{
	__u32 at = (key->cgroup + key->disk + key->operation * 5) % RECENT;
	struct recent *recent = bpf_map_lookup_elem(&recents, &at);

	if (!recent)
		return NULL;
	if (recent->key.cgroup != key->cgroup || recent->key.disk != key->disk ||
	    recent->key.operation != key->operation) {
		recent->row = hot_number(key);
		recent->key = *key;
	}
	if (!recent->row)
		return counter_row(&cold_rows, key, &empty_row);
	at = recent->row - 1;
	return bpf_map_lookup_elem(&hot_rows, &at);
}

static __always_inline void count_unstamped(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&unstamped, &zero);

	if (count)
		(*count)++;
}

static __always_inline void add_latency(struct request_row *row, __u64 started, __u64 issued,
					__u64 now)
{
	if (now < issued || issued < started) {
		ACCOUNT(negative);
		return;
	}
	if (started) { /* 0 while the queue's iostats is off */
		histogram_add(&row->queue, issued - started);
		histogram_add(&row->request, now - started);
	}
	histogram_add(&row->device, now - issued);
}

/* The bios of a request but its first: what the kernel counts as merges (block/blk-merge.c). */
static __always_inline __u32 merged_bios(struct request *rq)
{
	struct bio *bio = rq->bio->bi_next;
	__u32 count = 0;

	while (bio && count < MOST_BIOS) {
		bio = bio->bi_next;
		count++;
	}
	return count;
}

static __always_inline void fill_origin(struct block_request *record, struct bio *bio)
{
	struct task_struct *task = waiter_of(bio);
	struct file *file = direct_file_of(bio);
	struct inode *inode = file ? BPF_CORE_READ(file, f_inode) : cached_inode_of(bio);
	struct place place;

	if (task) {
		record->tgid = BPF_CORE_READ(task, tgid);
		record->tid = BPF_CORE_READ(task, pid);
		BPF_CORE_READ_STR_INTO(&record->comm, task, comm);
	}
	if (!inode)
		return;
	place = place_of(inode);
	record->inode = place.inode;
	record->filesystem = place.filesystem;
	record->filesystem_disk = place.device;
	if (file)
		fill_path(record->path, file);
	else
		fill_inode_path(record->path, inode);
}

static __always_inline void fill(struct block_request *record, struct request *rq,
				 const struct request_key *key, enum io_error error, __u64 started,
				 __u64 issued, __u64 now)
{
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = key->cgroup;
	record->queue = started && issued > started ? issued - started : 0;
	record->device = now > issued ? now - issued : 0;
	record->sector = rq->__sector;
	record->size = rq->__data_len;
	record->disk = key->disk;
	record->operation = key->operation;
	record->error = error;
	record->flags = flags_of(rq->cmd_flags);
	fill_origin(record, rq->bio);
}

static __always_inline void report(struct request *rq, const struct request_key *key,
				   enum io_error error, bool failed, __u64 started, __u64 issued,
				   __u64 now)
{
	struct block_request *record;

	if (!event_allowed(key->cgroup, now))
		return;
	record = failed ? bpf_ringbuf_reserve(&failed_requests, sizeof(*record), 0)
			: bpf_ringbuf_reserve(&slow_requests, sizeof(*record), 0);
	if (!record) {
		ACCOUNT(ring_full);
		return;
	}
	fill(record, rq, key, error, started, issued, now);
	if (failed)
		ring_submit(&failed_requests, record);
	else
		ring_submit(&slow_requests, record);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *rq, int status, unsigned int done)
{
	struct request_key key = {.cgroup = container_of_request(rq), .disk = disk_of(rq)};
	enum operation operation = operation_of(rq->cmd_flags);
	__u64 started = rq->start_time_ns, issued, now;
	struct request_row *row;
	bool failed;

	key.operation = operation;
	row = find_row(&key);
	if (!row)
		return 0;
	if (status)
		row->errors++;
	else
		row->transferred += done;
	if (!is_last_completion(operation, rq->__data_len, done))
		return 0;
	now = bpf_ktime_get_ns();
	row->merges += merged_bios(rq);
	issued = issued_at(rq, operation);
	if (issued) {
		add_latency(row, started, issued, now);
	} else {
		count_unstamped();
		issued = started ? started : now;
	}
	failed = status && is_failure(operation, error_of(status));
	if (failed || now - (started ? started : issued) >= slow_threshold)
		report(rq, &key, error_of(status), failed, started, issued, now);
	return 0;
}

static __always_inline int count_requeue(struct request *rq)
{
	struct request_key key = {.cgroup = container_of_request(rq), .disk = disk_of(rq)};
	struct request_row *row;

	key.operation = operation_of(rq->cmd_flags);
	row = find_row(&key);
	if (row)
		row->requeues++;
	return 0;
}

/*
 * Old forms first, because a kernel with one argument refuses the program that reads two, while one
 * with two would take a queue for a request. Commit a54895fa057c ("block: remove the request_queue
 * to argument request based tracepoints"), v5.11, and in stable kernels of 5.10.
 */
SEC("tp_btf/block_rq_requeue")
int BPF_PROG(block_rq_requeue__queue_and_request, struct request_queue *queue, struct request *rq)
{
	return count_requeue(rq);
}

SEC("tp_btf/block_rq_requeue")
int BPF_PROG(block_rq_requeue__request, struct request *rq)
{
	return count_requeue(rq);
}

static __always_inline int stamp_issue(__u64 request)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 *stamp = bpf_map_lookup_elem(&issue_stamps, &request);

	if (stamp)
		*stamp = now; /* the usual case: a tag that was in use before */
	else
		bpf_map_update_elem(&issue_stamps, &request, &now, BPF_ANY);
	return 0;
}

/* Attached by latency.py only when it is needed. */
SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue__queue_and_request, struct request_queue *queue, struct request *rq)
{
	return stamp_issue((__u64)rq);
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue__request, struct request *rq)
{
	return stamp_issue((__u64)rq);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
