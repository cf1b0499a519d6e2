/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an address of a process lies in, from the kernel's own tree of its mappings. */
#ifndef HUATUO_UNWIND_MAPPINGS_H
#define HUATUO_UNWIND_MAPPINGS_H

#include "unwind/unwinder.bpf.h"

#define MAPLE_LEVELS 8
#define MAPLE_LEAF 1
#define MAPLE_ARANGE 3
#define VM_EXEC 0x4

/* 1 if a < b, for values below 2^63, without a branch: each would double the verifier's work. */
static __always_inline __u32 is_less(__s64 a, __s64 b)
{
	__s64 difference = a - b;

	barrier_var(difference); /* or the compiler makes it a branch again */
	return (__u64)difference >> 63;
}

/*
 * The leaf entry of the maple tree for an address (lib/maple_tree.c: mtree_range_walk, which runs
 * under RCU as well). Pivots are the last addresses of ranges, so whole pages are compared; the
 * words behind an inner node's nine pivots are kernel pointers, which are above all of them.
 */
static __always_inline __u64 maple_find(struct unwinder *u, __u64 entry, __u64 address)
{
	__u64 page = address >> PAGE_BITS;

	if ((entry & 3) != 2)
		return 0; /* not even one node */
	for (int level = 0; level < MAPLE_LEVELS; level++) {
		__u32 type = entry >> 3 & 15, slot = 0, end, first_slot = 16;

		if (bpf_probe_read_kernel(u->node, sizeof(u->node), (void *)(entry & ~255ULL)))
			return 0;
		for (int i = 1; i <= 15; i++) /* an unused pivot is 0: no limit */
			slot += is_less((u->node[i] - 1) >> PAGE_BITS, page);
		if (type == MAPLE_ARANGE) {
			first_slot = 10;
			end = u->node[30] & 0xff;
		} else {
			end = u->node[15] ? 15 : u->node[31] & 0xff;
		}
		if (slot > end)
			slot = end;
		entry = u->node[(first_slot + slot) & (MAPLE_WORDS - 1)];
		if (type <= MAPLE_LEAF || !entry)
			return entry;
	}
	return 0;
}

/* The number of a file; a file met for the first time gets one and is reported. 0: no room. */
static __always_inline __u32 file_number(struct file *file, struct task_struct *task, __u64 start,
					 __u64 end)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct file_key key = {
		.inode = BPF_CORE_READ(inode, i_ino),
		.size = BPF_CORE_READ(inode, i_size),
		.device = BPF_CORE_READ(inode, i_sb, s_dev),
	};
	__u32 *found = bpf_map_lookup_elem(&files, &key);
	struct unwind_counters *counters;
	struct new_file *record;
	__u32 zero = 0, id;

	if (found)
		return *found;
	counters = bpf_map_lookup_elem(&unwind_counters, &zero);
	if (!counters)
		return 0;
	id = VDSO_FILE + 1 + (__u32)__sync_fetch_and_add(&counters->next_file, 1);
	if (bpf_map_update_elem(&files, &key, &id, BPF_NOEXIST)) {
		found = bpf_map_lookup_elem(&files, &key); /* another CPU was faster, or no room */
		if (found)
			return *found;
		count_lost(true);
		return 0;
	}
	record = bpf_ringbuf_reserve(&new_files, sizeof(*record), 0);
	if (!record) {
		bpf_map_delete_elem(&files, &key);
		count_lost(true);
		return 0;
	}
	record->inode = key.inode;
	record->size = key.size;
	record->device = (__u32)key.device;
	record->start = start;
	record->end = end;
	record->id = id;
	record->tgid = task->tgid;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return id;
}

/* What an address lies in; false where a tree that changes meanwhile tells nothing. */
static __always_inline bool read_mapping(struct unwind_context *c, struct mapping *mapping,
					 __u64 address)
{
	struct mm_struct *mm = c->mm; /* BPF_CORE_READ would relocate c->mm as well */
	struct vm_area_struct *vma =
		(void *)maple_find(c->u, (__u64)BPF_CORE_READ(mm, mm_mt.ma_root), address);
	struct file *file;

	mapping->start = BPF_CORE_READ(vma, vm_start);
	mapping->end = BPF_CORE_READ(vma, vm_end);
	mapping->is_code = BPF_CORE_READ(vma, vm_flags) & VM_EXEC;
	mapping->file = 0;
	mapping->base = NOWHERE;
	if (!vma || BPF_CORE_READ(vma, vm_mm) != mm || address < mapping->start ||
	    address >= mapping->end)
		return false;
	if (!mapping->is_code)
		return true;
	file = BPF_CORE_READ(vma, vm_file);
	if (file) {
		__u64 offset = BPF_CORE_READ(vma, vm_pgoff) << PAGE_BITS;

		mapping->file = file_number(file, c->task, mapping->start, mapping->end);
		mapping->base = ((__u64)mapping->file << FILE_SHIFT) + offset - mapping->start;
	} else if (mapping->start == (__u64)BPF_CORE_READ(mm, context.vdso)) {
		mapping->file = VDSO_FILE;
		mapping->base = ((__u64)VDSO_FILE << FILE_SHIFT) - mapping->start;
	}
	return true;
}

/* The executable mapping at an address, or NULL. */
static __always_inline struct mapping *find_mapping(struct unwind_context *c, __u64 address)
{
	struct unwinder *u = c->u;
	struct mapping *mapping;

	for (int i = 0; i < KNOWN_MAPPINGS; i++) {
		mapping = &u->mappings[i];
		if (address >= mapping->start && address < mapping->end)
			return mapping->is_code ? mapping : NULL;
	}
	mapping = &u->mappings[u->next_mapping++ & (KNOWN_MAPPINGS - 1)];
	if (!read_mapping(c, mapping, address)) {
		mapping->end = 0;
		return NULL;
	}
	return mapping->is_code ? mapping : NULL;
}

#endif
