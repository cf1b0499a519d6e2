/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whom a bio is for, as far as the kernel still knows when it completes: a task that waits for it,
 * an open file (direct I/O), or the file whose pages it moves. Only for events: none of it is
 * cheap.
 */
#ifndef HUATUO_BIO_H
#define HUATUO_BIO_H

#include "block.bpf.h"
#include "vfs.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct address_space {
	struct inode *host;
};

struct page {
	unsigned long compound_head;
	struct address_space *mapping;
};

/* compound_head under its name of 7.x, where it may be a mask instead of a pointer */
struct page___info {
	unsigned long compound_info;
};

struct bio_vec {
	struct page *bv_page;
};

struct bvec_iter {
	unsigned int bi_size;
	unsigned int bi_idx;
};

struct bio___data {
	struct bio_vec *bi_io_vec;
	struct bvec_iter bi_iter;
	void *bi_end_io;
	void *bi_private;
};

struct swait_queue_head {
	struct list_head task_list;
};

struct swait_queue {
	struct task_struct *task;
	struct list_head task_list;
};

struct completion {
	struct swait_queue_head wait;
};

struct kiocb {
	struct file *ki_filp;
};

struct iomap_dio {
	struct kiocb *iocb;
	bool wait_for_completion;
	struct {
		struct task_struct *waiter;
	} submit;
};

#pragma clang attribute pop

/* What ends a bio says what its private pointer is. Absent functions are at address 0. */
extern const void submit_bio_wait_endio __ksym __weak;
extern const void bio_wait_end_io __ksym __weak; /* 6.9 and later: submit_bio_wait in 7.x */
extern const void iomap_dio_bio_end_io __ksym __weak;
extern const void blkdev_bio_end_io_simple __ksym __weak; /* until 5.17 */

static __always_inline bool ends_with(void *function, const void *end)
{
	return function && function == end;
}

static __always_inline struct task_struct *first_waiter(struct completion *completion)
{
	struct list_head *first = BPF_CORE_READ(completion, wait.task_list.next);
	struct swait_queue *waiter;

	if (first == &completion->wait.task_list)
		return NULL;
	waiter = (void *)first - bpf_core_field_offset(struct swait_queue, task_list);
	return BPF_CORE_READ(waiter, task);
}

/* The task that sleeps until the bio is done; NULL where none does, or nobody knows. */
static __always_inline struct task_struct *waiter_of(struct bio *bio)
{
	struct bio___data *data = (void *)bio;
	void *end = BPF_CORE_READ(data, bi_end_io), *private = BPF_CORE_READ(data, bi_private);
	struct iomap_dio *direct = private;

	if (ends_with(end, &submit_bio_wait_endio) || ends_with(end, &bio_wait_end_io))
		return first_waiter(private);
	if (ends_with(end, &blkdev_bio_end_io_simple))
		return private;
	if (ends_with(end, &iomap_dio_bio_end_io) && BPF_CORE_READ(direct, wait_for_completion))
		return BPF_CORE_READ(direct, submit.waiter);
	return NULL;
}

/* The open file that is read or written around the page cache. */
static __always_inline struct file *direct_file_of(struct bio *bio)
{
	struct bio___data *data = (void *)bio;
	struct iomap_dio *direct = BPF_CORE_READ(data, bi_private);

	if (!ends_with(BPF_CORE_READ(data, bi_end_io), &iomap_dio_bio_end_io))
		return NULL;
	return BPF_CORE_READ(direct, iocb, ki_filp);
}

static __always_inline struct page *head_of(struct page *page)
{
	struct page___info *info = (void *)page;
	__u64 head;

	if (bpf_core_field_exists(info->compound_info))
		head = BPF_CORE_READ(info, compound_info);
	else
		head = BPF_CORE_READ(page, compound_head);
	if (!(head & 1))
		return page;
	if (head >> 32 == 0xffffffff)
		return (struct page *)((__u64)page & head);
	return (struct page *)(head - 1);
}

static __always_inline bool has_bytes(struct bio *bio)
{
	struct bio___data *data = (void *)bio;

	return BPF_CORE_READ(data, bi_iter.bi_size);
}

/*
 * The inode whose page cache the bio fills or empties; NULL for anonymous memory, and for files in
 * memory, which no bio moves: they are buffers of direct I/O, as databases have in shared memory.
 */
static __always_inline struct inode *cached_inode_of(struct bio *bio)
{
	struct bio___data *data = (void *)bio;
	struct bio_vec *first = BPF_CORE_READ(data, bi_io_vec);
	struct inode *inode;
	struct page *page;
	__u64 mapping;

	first = (void *)first +
		BPF_CORE_READ(data, bi_iter.bi_idx) * bpf_core_type_size(struct bio_vec);
	page = head_of(BPF_CORE_READ(first, bv_page));
	mapping = (__u64)BPF_CORE_READ(page, mapping);
	if (mapping & 3) /* anonymous, or moved by its driver */
		return NULL;
	inode = BPF_CORE_READ((struct address_space *)mapping, host);
	return filesystem_of(BPF_CORE_READ(inode, i_sb)) == FILESYSTEM_TMPFS ? NULL : inode;
}

#endif
