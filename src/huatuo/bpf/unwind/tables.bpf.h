/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What both halves of the unwinder share: rules, rows of pages, files, stacks. */
#ifndef HUATUO_UNWIND_TABLES_H
#define HUATUO_UNWIND_TABLES_H

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

static __always_inline void count_lost(bool is_file)
{
	__u32 zero = 0;
	struct unwind_counters *counters = bpf_map_lookup_elem(&unwind_counters, &zero);

	if (counters && is_file)
		__sync_fetch_and_add(&counters->files_lost, 1);
	else if (counters)
		__sync_fetch_and_add(&counters->pages_lost, 1);
}

#endif
