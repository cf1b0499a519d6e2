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
#include "block.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"

#define STAMPS 16384 /* requests are allocated once per tag, so this is tags in use, not IOs */

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
	counter_bytes_t transferred DOC("bytes of completed requests");
	counter_t errors DOC("requests that ended with an error");
};

COUNTERS(requests, struct request_key, struct request_row);

struct block_request {
	ktime_ns_t time DOC("when it completed");
	blkcg_id_t cgroup DOC("container of the request's first bio");
	duration_ns_t queue DOC("from the request's start to its issue to the device");
	duration_ns_t device DOC("from its issue to its completion");
	__u64 sector DOC("first sector, in units of 512 bytes");
	bytes_t size DOC("bytes asked for");
	disk_t disk DOC("device");
	enum operation operation DOC("what was asked for");
	enum io_error error DOC("how it ended");
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
	if (started) /* 0 while the queue's iostats is off */
		histogram_add(&row->queue, issued - started);
	histogram_add(&row->device, now - issued);
}

static __always_inline void report(void *ring, struct request *rq, const struct request_key *key,
				   enum io_error error, __u64 started, __u64 issued, __u64 now)
{
	struct block_request *record = event_reserve(ring, sizeof(*record), key->cgroup, now);

	if (!record)
		return;
	record->time = now;
	record->cgroup = key->cgroup;
	record->queue = started && issued > started ? issued - started : 0;
	record->device = now > issued ? now - issued : 0;
	record->sector = rq->__sector;
	record->size = rq->__data_len;
	record->disk = key->disk;
	record->operation = key->operation;
	record->error = error;
	ring_submit(ring, record);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete, struct request *rq, int status, unsigned int done)
{
	struct request_key key = {.cgroup = container_of_request(rq), .disk = disk_of(rq)};
	enum operation operation = operation_of(rq->cmd_flags);
	__u64 started = rq->start_time_ns, issued, now;
	struct request_row *row;

	key.operation = operation;
	row = counter_row(&requests, &key, &empty_row);
	if (!row)
		return 0;
	if (status)
		row->errors++;
	else
		row->transferred += done;
	if (!is_last_completion(operation, rq->__data_len, done))
		return 0;
	now = bpf_ktime_get_ns();
	issued = issued_at(rq, operation);
	if (issued) {
		add_latency(row, started, issued, now);
	} else {
		count_unstamped();
		issued = started ? started : now;
	}
	if (status && is_failure(operation, error_of(status)))
		report(&failed_requests, rq, &key, error_of(status), started, issued, now);
	else if (now - (started ? started : issued) >= slow_threshold)
		report(&slow_requests, rq, &key, error_of(status), started, issued, now);
	return 0;
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

/*
 * Attached by latency.py only when it is needed. Old form first, because a kernel with one argument
 * refuses the program that reads two, while one with two would take a queue for a request.
 * Commit a54895fa057c ("block: remove the request_queue to argument request based tracepoints"),
 * v5.11, and in stable kernels of 5.10.
 */
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
