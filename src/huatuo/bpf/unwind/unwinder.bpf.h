/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the unwinder works with: the task as the kernel has it, and one CPU's work space. */
#ifndef HUATUO_UNWIND_UNWINDER_H
#define HUATUO_UNWIND_UNWINDER_H

#include "unwind/tables.bpf.h"

#define KNOWN_MAPPINGS 16
#define WINDOW 512

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

#define PF_IO_WORKER 0x00000010
#define PF_EXITING 0x00000004
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD 0x00200000
#define USER_CS 0x33 /* 64-bit code of user space */
#define MAPLE_WORDS 32

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

#endif
