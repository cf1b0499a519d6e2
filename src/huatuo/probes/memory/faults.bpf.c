// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Page faults that had to wait for a disk, and pages on their way to swap. There are millions of
 * faults that find their page, so the hooks are where only the others come by: filemap_fault() when
 * a page is not mapped yet, do_swap_page() when it has been swapped out.
 *
 * Without fentry and kprobes there is the tracepoint in filemap_fault(). A fault that has to wait
 * lets go of its locks and is tried again afterwards: then the page is mapped together with those
 * around it, or it passes here again, with the task's counters of finished faults unchanged.
 */
#include <linux/ptrace.h>
#include "cgroup.bpf.h"
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "task.bpf.h"
#include "vfs.bpf.h"

const volatile duration_ns_t slow_threshold
	DOC("page faults that wait at least this long for a disk are events") = 100000000;

#define VM_FAULT_MAJOR 0x0004 /* enum vm_fault_reason, include/linux/mm_types.h */
#define VM_FAULT_RETRY 0x0400

enum fault_source {
	FAULT_SOURCE_FILE,
	FAULT_SOURCE_SWAP,
};

struct fault_key {
	cgroup_id_t cgroup DOC("container of the task");
	enum fault_source source DOC("where the page had to be read from");
} KEY;

struct fault_row {
	duration_histogram_t
		major DOC("time of page faults that had to wait for a page to be read");
};

struct swap_key {
	cgroup_id_t
		cgroup DOC("container of the task that swaps out: whose page it is is not known");
};

struct swap_row {
	duration_histogram_t
		swap_out DOC("time to hand a page over to swap; with zram, to store it");
};

COUNTERS(faults, struct fault_key, struct fault_row);
COUNTERS(swaps, struct swap_key, struct swap_row);

struct slow_fault {
	ktime_ns_t time DOC("when the page was there");
	cgroup_id_t cgroup DOC("container of the task");
	duration_ns_t duration DOC("how long the task had waited");
	__u64 inode DOC("number of the file; 0: swap");
	disk_t disk DOC("device of its file system");
	enum filesystem filesystem DOC("kind of its file system");
	enum fault_source source DOC("where the page was read from");
	tgid_t tgid DOC("process");
	tid_t tid DOC("and its thread");
	comm_t comm DOC("and that thread's name");
	path_t path DOC("the file, from its file system's root on");
	kstack_t stack DOC("where in the kernel the fault happened, if there");
};

RING(slow_faults, struct slow_fault, 256 * 1024);

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct address_space {
	struct inode *host;
};

struct vm_area_struct {
	struct file *vm_file;
};

struct vm_fault {
	struct vm_area_struct *vma;
};

struct task_struct___faults {
	unsigned long min_flt;
	unsigned long maj_flt;
};

#pragma clang attribute pop

struct doing {
	__u64 file_since; /* 0: no such fault is under way */
	__u64 swap_since;
	__u64 out_since;
	__u64 finished; /* faults, when file_since was set */
	__u64 inode;	/* its address */
};

PER_TASK(doing, struct doing);

static const struct fault_row no_fault;
static const struct swap_row no_swap;

static __always_inline void report(void *context, const struct fault_key *key, struct inode *inode,
				   __u64 duration, __u64 now)
{
	struct slow_fault *record = event_reserve(&slow_faults, sizeof(*record), key->cgroup, now);
	__u64 thread = bpf_get_current_pid_tgid();

	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = key->cgroup;
	record->duration = duration;
	record->source = key->source;
	record->tgid = thread >> 32;
	record->tid = thread;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	if (inode) {
		struct place place = place_of(inode);

		record->inode = place.inode;
		record->disk = place.device;
		record->filesystem = place.filesystem;
		fill_inode_path(record->path, inode);
	}
	bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
	ring_submit(&slow_faults, record);
}

static __always_inline void count_fault(void *context, enum fault_source source,
					struct inode *inode, __u64 since)
{
	__u64 now = bpf_ktime_get_ns();
	struct fault_row *row;
	struct fault_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.source = source;
	key.cgroup = current_cgroup();
	row = counter_row(&faults, &key, &no_fault);
	if (row)
		histogram_add(&row->major, now - since);
	if (now - since >= slow_threshold)
		report(context, &key, inode, now - since, now);
}

static __always_inline int file_begin(struct vm_fault *fault)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (!task)
		return 0;
	task->inode = (__u64)BPF_CORE_READ(fault, vma, vm_file, f_inode);
	task->file_since = bpf_ktime_get_ns();
	return 0;
}

/* One that is to be tried again has waited for a page that somebody else reads. */
static __always_inline int file_end(void *context, unsigned int result)
{
	struct doing *task = TASK_VALUE(doing);

	if (task && task->file_since && result & (VM_FAULT_MAJOR | VM_FAULT_RETRY))
		count_fault(context, FAULT_SOURCE_FILE, (void *)task->inode, task->file_since);
	if (task)
		task->file_since = 0;
	return 0;
}

static __always_inline int swap_begin(void)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (task)
		task->swap_since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int swap_end(void *context, unsigned int result)
{
	struct doing *task = TASK_VALUE(doing);

	if (task && task->swap_since && result & VM_FAULT_MAJOR)
		count_fault(context, FAULT_SOURCE_SWAP, NULL, task->swap_since);
	if (task)
		task->swap_since = 0;
	return 0;
}

static __always_inline int out_begin(void)
{
	struct doing *task = NEW_TASK_VALUE(doing);

	if (task)
		task->out_since = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int out_end(void)
{
	struct doing *task = TASK_VALUE(doing);
	struct swap_key key = {};
	struct swap_row *row;

	if (!task || !task->out_since)
		return 0;
	key.cgroup = current_cgroup();
	row = counter_row(&swaps, &key, &no_swap);
	if (row)
		histogram_add(&row->swap_out, bpf_ktime_get_ns() - task->out_since);
	task->out_since = 0;
	return 0;
}

SEC("fentry/filemap_fault")
int BPF_PROG(file_begin__fentry, struct vm_fault *fault)
{
	return file_begin(fault);
}

SEC("fexit/filemap_fault")
int BPF_PROG(file_end__fentry, struct vm_fault *fault, unsigned int result)
{
	return file_end(ctx, result);
}

SEC("kprobe/filemap_fault")
int BPF_KPROBE(file_begin__kprobe, struct vm_fault *fault)
{
	return file_begin(fault);
}

SEC("kretprobe/filemap_fault")
int BPF_KRETPROBE(file_end__kprobe, unsigned int result)
{
	return file_end(ctx, result);
}

static __always_inline __u64 finished_faults(void)
{
	struct task_struct___faults *current = (void *)bpf_get_current_task();

	return BPF_CORE_READ(current, min_flt) + BPF_CORE_READ(current, maj_flt);
}

/* Whether the task's fault has been here before, and waited; if so it is counted. */
static __always_inline bool is_second_try(void *context, struct doing *task, struct inode *inode)
{
	if (!task || !task->file_since || task->inode != (__u64)inode ||
	    task->finished != finished_faults())
		return false;
	count_fault(context, FAULT_SOURCE_FILE, inode, task->file_since);
	task->file_since = 0;
	return true;
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(file_begin__retry, struct address_space *mapping)
{
	struct doing *task = NEW_TASK_VALUE(doing);
	struct inode *inode = mapping->host;

	if (!task || is_second_try(ctx, task, inode))
		return 0;
	task->inode = (__u64)inode;
	task->finished = finished_faults();
	task->file_since = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(file_end__retry, struct address_space *mapping)
{
	is_second_try(ctx, TASK_VALUE(doing), mapping->host);
	return 0;
}

SEC("fentry/do_swap_page")
int BPF_PROG(swap_begin__fentry)
{
	return swap_begin();
}

SEC("fexit/do_swap_page")
int BPF_PROG(swap_end__fentry, struct vm_fault *fault, unsigned int result)
{
	return swap_end(ctx, result);
}

SEC("kprobe/do_swap_page")
int BPF_KPROBE(swap_begin__kprobe)
{
	return swap_begin();
}

SEC("kretprobe/do_swap_page")
int BPF_KRETPROBE(swap_end__kprobe, unsigned int result)
{
	return swap_end(ctx, result);
}

/* swap_writepage() became swap_writeout() in 6.17. */
SEC("fentry/swap_writeout")
int BPF_PROG(out_begin__folio)
{
	return out_begin();
}

SEC("fentry/swap_writepage")
int BPF_PROG(out_begin__page)
{
	return out_begin();
}

SEC("kprobe/swap_writeout")
int BPF_KPROBE(out_begin__kprobe_folio)
{
	return out_begin();
}

SEC("kprobe/swap_writepage")
int BPF_KPROBE(out_begin__kprobe_page)
{
	return out_begin();
}

SEC("fexit/swap_writeout")
int BPF_PROG(out_end__folio)
{
	return out_end();
}

SEC("fexit/swap_writepage")
int BPF_PROG(out_end__page)
{
	return out_end();
}

SEC("kretprobe/swap_writeout")
int BPF_KRETPROBE(out_end__kprobe_folio)
{
	return out_end();
}

SEC("kretprobe/swap_writepage")
int BPF_KRETPROBE(out_end__kprobe_page)
{
	return out_end();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
