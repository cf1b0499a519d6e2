/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stacks of user space without frame pointers, from rows that user space compiles on demand:
 *
 *	pc ─ mm->mm_mt ─▶ mapping ─ inode ─▶ file ─ page of the file ─▶ rows ─▶ rule ─▶ caller's pc,
 *sp, fp
 *
 * The kernel's own tree of mappings says what an address is, so that nothing about a process has to
 * be known beforehand. What is missing is asked for once: a file by `new_files`, the rows of a page
 * by `wanted_pages`; the sample that found it missing says so in its status.
 *
 * The maps from `files` to `new_stacks` are shared by all profilers of one agent (profilers/native/
 * tables.bpf.c holds them). The includer defines READ_USER(task, to, size, from) beforehand:
 * bpf_probe_read_user where the program interrupts the task itself, bpf_copy_from_user_task in an
 * iterator that may sleep.
 */
#ifndef HUATUO_UNWIND_H
#define HUATUO_UNWIND_H

#include "kernel.bpf.h"

#define KERNEL_FRAMES 64
#define USER_FRAMES 254 /* deeper stacks keep their innermost part */
#define ROWS (1 << 20)
#define RULES 16384
#define PAGE_ROWS 4095	/* most rows a page may have: one for each byte but one */
#define SEARCH_STEPS 12 /* halvings until one of PAGE_ROWS is left */
#define PAGE_BITS 12
#define NOWHERE (1ULL << 63) /* in a frame: an address in memory without a file */
#define FILE_SHIFT 40
#define VDSO_FILE 1
#define FRAME_POINTER_RULE 0
#define MAPLE_LEVELS 8
#define KNOWN_MAPPINGS 16
#define SCANNED_WORDS 256
#define WINDOW 512
#define MEMORY_PAGE 4096

enum cfa_rule {
	CFA_NONE,     /* nothing is known of this code */
	CFA_END,      /* nobody called it: the outermost frame of a thread */
	CFA_REGISTER, /* register + offset */
	CFA_DEREF,    /* what is stored at register + offset, and cfa_add more */
	CFA_PLT, /* lazy binding stubs: sp + 8, and 8 more from that byte (cfa_offset) of 16 on */
	CFA_GOROUTINE, /* where the thread's goroutine was left, + offset */
};

enum saved {
	SAVED_SAME,
	SAVED_AT_CFA, /* at cfa + offset */
	SAVED_AT_SP,  /* at this frame's sp + offset, as in signal frames */
	SAVED_UNKNOWN,
	SAVED_AT_FP,	    /* at this frame's fp + offset: stacks realigned by the function */
	SAVED_IN_REGISTER,  /* in the register of that number, of the innermost frame */
	SAVED_AT_GOROUTINE, /* in the record of the thread's goroutine, at offset */
};

/* How to find the caller. Registers have DWARF's numbers; profilers/native/rules.py has the same.
 */
struct unwind_rule {
	__s32 cfa_offset;
	__s16 cfa_add;
	__s16 ra_offset;
	__s16 fp_offset;
	__s16 bx_offset;
	__u8 cfa;
	__u8 cfa_register;
	__u8 ra;
	__u8 fp;
	__u8 bx;
	__u8 is_signal; /* the caller's pc is where it was interrupted, not a return address */
	__u8 is_switch; /* the caller may be on another stack */
	__u8 unused;
};

/* What is known of one 4 KiB page of a file: its rows, or that they have been asked for. */
struct unwind_page {
	__u32 first;
	__u32 count; /* 0: not there yet */
};

struct file_key {
	__u64 inode;
	__u64 size;
	__u64 device;
};

struct new_file {
	__u64 inode DOC("inode number");
	__u64 size DOC("size in bytes");
	__u64 start DOC("where it is mapped in the process");
	__u64 end DOC("end of that mapping");
	__u32 device DOC("kernel dev_t of its file system");
	__u32 id DOC("its number in frames");
	tgid_t tgid DOC("a process that has it mapped");
};

struct wanted_page {
	__u32 file DOC("its number in frames");
	__u32 page DOC("offset in the file >> 12");
};

enum stack_status {
	STACK_COMPLETE,
	STACK_NO_ROWS,	   /* unwind rows of this code were not there yet */
	STACK_NO_INFO,	   /* the file says nothing about this code */
	STACK_UNREADABLE,  /* stack memory could not be read */
	STACK_BAD_ADDRESS, /* a return address that is no code */
	STACK_TOO_DEEP,
	STACK_FRAME_POINTERS, /* found by frame pointers only: true only where they are kept */
	STACK_UNSUPPORTED,    /* a rule or a mode (32 bit) that is not handled */
};

/* A frame of user space: file << 40 | offset in the file, or NOWHERE | address. */
struct stack {
	__u64 id;
	tgid_t tgid;
	__u32 kernel_count;
	__u32 user_count;
	enum stack_status status;
	__u64 kernel[KERNEL_FRAMES];
	__u64 user[USER_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct file_key);
	__type(value, __u32);
} files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64); /* file << 32 | page */
	__type(value, struct unwind_page);
} pages SEC(".maps");

struct unwind_rows {
	__u32 row[ROWS]; /* offset in the page << 16 | rule, ascending within a page */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct unwind_rows);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULES);
	__type(key, __u32);
	__type(value, struct unwind_rule);
} rules SEC(".maps");

/* Ids of stacks that user space has; it clears this when it forgets them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, __u32);
} known_stacks SEC(".maps");

struct unwind_counters {
	__u64 next_file;
	__u64 files_lost; /* no room in `files` or `new_files` */
	__u64 pages_lost; /* no room in `pages` or `wanted_pages` */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwind_counters);
} unwind_counters SEC(".maps");

RING(new_files, struct new_file, 64 * 1024);
RING(wanted_pages, struct wanted_page, 64 * 1024);
RING(new_stacks, struct stack, 1024 * 1024);

#ifdef READ_USER

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
};

struct inode {
	unsigned long i_ino;
	long long i_size;
	struct super_block *i_sb;
};

struct file {
	struct inode *f_inode;
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	unsigned long vm_flags;
	unsigned long vm_pgoff;
	struct file *vm_file;
};

struct maple_tree {
	void *ma_root;
};

struct maple_range_64 {
	unsigned long pivot[15];
};

typedef struct {
	void *vdso;
} mm_context_t;

struct mm_struct {
	struct maple_tree mm_mt;
	mm_context_t context;
};

struct thread_struct {
	unsigned long fsbase;
};

struct task_struct___thread {
	struct thread_struct thread;
};

struct pt_regs___x86 {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};

#pragma clang attribute pop

#define VM_EXEC 0x4
#define PF_IO_WORKER 0x00000010
#define PF_EXITING 0x00000004
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD 0x00200000
#define USER_CS 0x33 /* 64-bit code of user space */
#define MAPLE_WORDS 32
#define MAPLE_LEAF 1
#define MAPLE_ARANGE 3
#define GOROUTINE_M 0x30 /* Go's struct g: the thread that runs it, and where it was left */
#define GOROUTINE_SP 0x38
#define DWARF_BX 3
#define DWARF_FP 6
#define DWARF_SP 7

struct mapping {
	__u64 start;
	__u64 end;
	__u64 base; /* added to an address it gives the frame */
	__u32 file; /* 0: no file */
	__u32 is_code;
};

/* One CPU's work space: too large for BPF's stack. Every object has its own, so that only the same
 * program could meet itself in it, which the kernel prevents. */
struct unwinder {
	struct stack stack;
	__u64 pc, sp, fp, bx; /* bx: some code, ld.so's above all, finds its frame by it */
	__u64 registers[16];  /* of the innermost frame, by DWARF number */
	__u64 goroutine;      /* where its record is, while a rule needs it */
	struct mapping mappings[KNOWN_MAPPINGS];
	__u32 next_mapping;
	__u32 is_return_address;
	__u64 node[MAPLE_WORDS];
	__u64 window_start;
	__u64 window_size;
	__u8 window[WINDOW + 8]; /* of the stack; 8 more for the verifier */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unwinder);
} unwinders SEC(".maps");

struct unwind_context {
	struct unwinder *u;
	struct task_struct *task;
	struct mm_struct *mm;
};

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

static __always_inline void count_lost(bool is_file)
{
	__u32 zero = 0;
	struct unwind_counters *counters = bpf_map_lookup_elem(&unwind_counters, &zero);

	if (counters && is_file)
		__sync_fetch_and_add(&counters->files_lost, 1);
	else if (counters)
		__sync_fetch_and_add(&counters->pages_lost, 1);
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

static __always_inline __u64 page_key(__u64 frame)
{
	__u64 offset = frame & ((1ULL << FILE_SHIFT) - 1);

	return frame >> FILE_SHIFT << 32 | offset >> PAGE_BITS;
}

static __always_inline void want_page(__u64 key)
{
	struct unwind_page asked = {};
	struct wanted_page *record;

	if (bpf_map_update_elem(&pages, &key, &asked, BPF_NOEXIST)) {
		if (!bpf_map_lookup_elem(&pages, &key))
			count_lost(false);
		return;
	}
	record = bpf_ringbuf_reserve(&wanted_pages, sizeof(*record), 0);
	if (!record) {
		bpf_map_delete_elem(&pages, &key);
		count_lost(false);
		return;
	}
	record->file = key >> 32;
	record->page = (__u32)key;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

/*
 * The rule of the last row at or before a frame's offset. False: there is none (yet), the status
 * says why.
 */
static __always_inline bool find_rule(struct unwinder *u, __u64 frame, __u32 *rule)
{
	__u64 key = page_key(frame);
	struct unwind_page *page = bpf_map_lookup_elem(&pages, &key);
	struct unwind_rows *table;
	__u32 at, left, zero = 0;
	__s64 wanted;

	if (!page || !page->count) {
		if (!page)
			want_page(key);
		u->stack.status = STACK_NO_ROWS;
		return false;
	}
	table = bpf_map_lookup_elem(&rows, &zero);
	if (!table)
		return false;
	at = page->first;
	left = page->count;
	wanted = (__s64)(frame & ((1 << PAGE_BITS) - 1)) << 16 | 0xffff;
	for (int i = 0; i < SEARCH_STEPS; i++) {
		__u32 half = left >> 1;
		__u32 row = table->row[(at + half) & (ROWS - 1)];

		at += half & (is_less(wanted, row) - 1);
		left -= half;
	}
	*rule = table->row[at & (ROWS - 1)] & 0xffff;
	return true;
}

/* One word of the task's memory, out of a piece of it that is read at once: frames lie together. */
static __always_inline bool read_word(struct unwind_context *c, __u64 *to, __u64 from)
{
	struct unwinder *u = c->u;
	__u64 at = from - u->window_start, size;

	if (at + sizeof(*to) > u->window_size || at > WINDOW - sizeof(*to)) {
		size = MEMORY_PAGE - (from & (MEMORY_PAGE - 1)); /* what follows may not be there */
		if (size > WINDOW)
			size = WINDOW;
		if (size < sizeof(*to))
			return READ_USER(c->task, to, sizeof(*to), (void *)from) == 0;
		u->window_size = 0;
		if (READ_USER(c->task, u->window, size, (void *)from))
			return false;
		u->window_start = from;
		u->window_size = size;
		at = 0;
	}
	*to = *(__u64 *)((void *)u->window + (at & (WINDOW - 1)));
	return true;
}

/* The goroutine that the thread runs, and may have left for its own stack; 0: none. */
static __always_inline bool find_goroutine(struct unwind_context *c, const struct unwind_rule *rule)
{
	struct task_struct___thread *task = (void *)c->task;
	__u64 local = BPF_CORE_READ(task, thread.fsbase) + rule->cfa_add, g = 0, m = 0;

	return !READ_USER(c->task, &g, sizeof(g), (void *)local) &&
	       !READ_USER(c->task, &m, sizeof(m), (void *)(g + GOROUTINE_M)) &&
	       !READ_USER(c->task, &c->u->goroutine, sizeof(c->u->goroutine),
			  (void *)(m + rule->bx_offset));
}

static __always_inline bool restore(struct unwind_context *c, __u64 *to, __u8 saved, __s16 offset,
				    __u64 cfa)
{
	if (saved == SAVED_AT_CFA)
		return read_word(c, to, cfa + offset);
	if (saved == SAVED_AT_SP)
		return read_word(c, to, c->u->sp + offset);
	if (saved == SAVED_AT_FP)
		return read_word(c, to, c->u->fp + offset);
	if (saved == SAVED_AT_GOROUTINE)
		return read_word(c, to, c->u->goroutine + offset);
	if (saved == SAVED_IN_REGISTER && c->u->stack.user_count == 1)
		*to = c->u->registers[offset & 15];
	return true;
}

/* Go to the caller. Returns 1 when there is none, or none that can be found: the status says. */
static __always_inline int go_up(struct unwind_context *c, const struct unwind_rule *rule)
{
	struct unwinder *u = c->u;
	__u64 base, cfa, pc = 0, fp = u->fp, bx = u->bx;

	u->stack.status = STACK_NO_INFO;
	if (rule->cfa == CFA_NONE)
		return 1;
	u->stack.status = STACK_COMPLETE;
	if (rule->cfa == CFA_END || rule->ra == SAVED_UNKNOWN)
		return 1;
	if (rule->cfa == CFA_REGISTER && rule->cfa_register == DWARF_FP && !u->fp)
		return 1; /* as a chain of frame pointers ends */
	if (rule->cfa == CFA_GOROUTINE) {
		u->stack.status = STACK_UNREADABLE;
		if (!find_goroutine(c, rule))
			return 1;
		u->stack.status = STACK_COMPLETE;
		if (!u->goroutine) /* the thread's own work */
			return 1;
		base = u->goroutine + GOROUTINE_SP;
	} else if (rule->cfa_register == DWARF_SP) {
		base = u->sp;
	} else if (rule->cfa_register == DWARF_FP) {
		base = u->fp;
	} else if (rule->cfa_register == DWARF_BX) {
		base = u->bx;
	} else if (u->stack.user_count == 1) {
		base = u->registers[rule->cfa_register & 15];
	} else {
		u->stack.status = STACK_UNSUPPORTED;
		return 1;
	}
	cfa = base + rule->cfa_offset;
	u->stack.status = STACK_UNREADABLE;
	if (rule->cfa == CFA_DEREF) {
		if (!read_word(c, &cfa, cfa))
			return 1;
		cfa += rule->cfa_add;
	} else if (rule->cfa == CFA_GOROUTINE) {
		if (!read_word(c, &cfa, base))
			return 1;
		cfa += rule->cfa_offset;
	} else if (rule->cfa == CFA_PLT) {
		cfa = base + ((__s32)(u->pc & 15) >= rule->cfa_offset ? 16 : 8);
	}
	if (rule->ra == SAVED_SAME || !restore(c, &pc, rule->ra, rule->ra_offset, cfa) ||
	    !restore(c, &fp, rule->fp, rule->fp_offset, cfa) ||
	    !restore(c, &bx, rule->bx, rule->bx_offset, cfa))
		return 1;
	if (!pc) { /* the first frame of a thread, or of a coroutine */
		u->stack.status = STACK_COMPLETE;
		return 1;
	}
	u->stack.status = STACK_BAD_ADDRESS;
	if (cfa <= u->sp && !rule->is_signal && !rule->is_switch)
		return 1;
	u->pc = pc;
	u->sp = cfa;
	u->fp = fp;
	u->bx = bx;
	u->is_return_address = !rule->is_signal;
	u->stack.status = STACK_TOO_DEEP;
	return 0;
}

static int unwind_frame(__u32 index, struct unwind_context *c)
{
	struct unwinder *u = c->u;
	__u64 address = u->pc - u->is_return_address, frame;
	struct mapping *mapping = find_mapping(c, address);
	__u32 rule_number = FRAME_POINTER_RULE;
	struct unwind_rule *rule;

	if (!mapping) {
		u->stack.status = STACK_BAD_ADDRESS;
		return 1;
	}
	frame = mapping->file ? address + mapping->base : address | NOWHERE;
	if (u->stack.user_count >= USER_FRAMES)
		return 1;
	u->stack.user[u->stack.user_count++] = frame;
	if (!(frame & NOWHERE) && !find_rule(u, frame, &rule_number))
		return 1;
	rule = bpf_map_lookup_elem(&rules, &rule_number);
	if (!rule)
		return 1;
	return go_up(c, rule);
}

/*
 * A word of the stack that points into code is most likely a return address. Its page is asked for
 * ahead, so that the next stack like this one is whole, not one frame longer.
 */
static int scan_word(__u32 index, struct unwind_context *c)
{
	struct mapping *mapping;
	__u64 word, key;

	if (!read_word(c, &word, c->u->sp + index * sizeof(word)))
		return 1;
	mapping = word >> PAGE_BITS ? find_mapping(c, word) : NULL;
	if (mapping && mapping->file) {
		key = page_key(word - 1 + mapping->base);
		if (!bpf_map_lookup_elem(&pages, &key))
			want_page(key);
	}
	return 0;
}

static __always_inline void keep_registers(struct unwinder *u, struct pt_regs___x86 *regs)
{
	u->pc = regs->ip;
	u->sp = regs->sp;
	u->fp = regs->bp;
	u->bx = regs->bx;
	u->registers[0] = regs->ax;
	u->registers[1] = regs->dx;
	u->registers[2] = regs->cx;
	u->registers[3] = regs->bx;
	u->registers[4] = regs->si;
	u->registers[5] = regs->di;
	u->registers[8] = regs->r8;
	u->registers[9] = regs->r9;
	u->registers[10] = regs->r10;
	u->registers[11] = regs->r11;
	u->registers[12] = regs->r12;
	u->registers[13] = regs->r13;
	u->registers[14] = regs->r14;
	u->registers[15] = regs->r15;
}

/* User space's frames into u->stack, from the registers with which the task entered the kernel. */
static __always_inline void unwind_user(struct unwinder *u, struct task_struct *task)
{
	struct unwind_context context = {.u = u, .task = task, .mm = task->mm};
	struct pt_regs___x86 *regs = (void *)bpf_task_pt_regs(task);

	u->stack.user_count = 0;
	u->stack.status = STACK_COMPLETE;
	if (!context.mm || task->flags & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER | PF_EXITING))
		return;
	if (!regs->ip)
		return; /* in the middle of execve */
	if (regs->cs != USER_CS) {
		u->stack.status = STACK_UNSUPPORTED;
		return;
	}
	keep_registers(u, regs);
	u->is_return_address = 0;
	u->window_size = 0;
	for (int i = 0; i < KNOWN_MAPPINGS; i++)
		u->mappings[i].end = 0;
	bpf_loop(USER_FRAMES, unwind_frame, &context, 0);
	if (u->stack.status == STACK_NO_ROWS)
		bpf_loop(SCANNED_WORDS, scan_word, &context, 0);
}

/* The id of a stack: start_hash, then hash for each frame. */
static __always_inline void start_hash(struct unwinder *u)
{
	u->stack.id = 0x2545f4914f6cdd1dULL + u->stack.status;
}

static __always_inline void hash(struct unwinder *u, __u64 frame)
{
	__u64 id = (u->stack.id ^ frame) * 0x9e3779b97f4a7c15ULL;

	u->stack.id = id ^ id >> 32;
}

static int hash_frame(__u32 index, struct unwinder **context)
{
	struct unwinder *u = *context;
	__u32 in_user = index - u->stack.kernel_count;
	__u64 frame;

	if (index < u->stack.kernel_count) {
		if (index >= KERNEL_FRAMES)
			return 1;
		frame = u->stack.kernel[index];
	} else {
		if (in_user >= USER_FRAMES)
			return 1;
		frame = u->stack.user[in_user];
		if (frame & NOWHERE) /* means something in this process only */
			frame ^= (__u64)u->stack.tgid << 48;
	}
	hash(u, frame);
	return 0;
}

/*
 * Send the stack with its id, the first time. Returns the id, 0 if the stack is new and the ring
 * full: then nobody would understand the sample.
 */
static __always_inline __u64 send_hashed(struct unwinder *u)
{
	__u32 one = 1;

	if (!u->stack.id)
		u->stack.id = 1;
	if (bpf_map_lookup_elem(&known_stacks, &u->stack.id))
		return u->stack.id;
	if (bpf_ringbuf_output(&new_stacks, &u->stack, sizeof(u->stack), BPF_RB_NO_WAKEUP))
		return 0;
	bpf_map_update_elem(&known_stacks, &u->stack.id, &one, BPF_ANY);
	return u->stack.id;
}

static __always_inline __u64 send_stack(struct unwinder *u)
{
	__u32 count = u->stack.kernel_count + u->stack.user_count;

	start_hash(u);
	bpf_loop(count < KERNEL_FRAMES + USER_FRAMES ? count : KERNEL_FRAMES + USER_FRAMES,
		 hash_frame, &u, 0);
	return send_hashed(u);
}

#endif
#endif
