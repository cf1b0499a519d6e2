/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Block requests: the fields that probes read, the disk and the container of a request. For
 * arguments of tp_btf programs: direct loads.
 */
#ifndef HUATUO_BLOCK_H
#define HUATUO_BLOCK_H

#include "kernel.bpf.h"

#define MINOR_BITS 20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct bio *bi_next;
	struct blkcg_gq *bi_blkg;
};

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	__u64 __sector;
	struct bio *bio;
	__u64 start_time_ns;
	__u64 io_start_time_ns;
};

/* commit d152c682f03c ("block: add an explicit ->disk backpointer to the request_queue"), v5.15 */
struct request___before_5_15 {
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

/*
 * Typed pointers may be null on the way (a request without disk or bio): such a load gives 0, and a
 * branch for each would multiply the verifier's work.
 */
static __always_inline __u32 disk_of(struct request *rq)
{
	struct gendisk *disk = bpf_core_field_exists(rq->q->disk)
				       ? rq->q->disk
				       : ((struct request___before_5_15 *)rq)->rq_disk;

	return (__u32)disk->major << MINOR_BITS | disk->first_minor;
}

/* 0 for what belongs to nobody: the flushes that the kernel makes itself. */
static __always_inline __u64 container_of_request(struct request *rq)
{
	return rq->bio->bi_blkg->blkcg->css.cgroup->kn->id;
}

#endif
