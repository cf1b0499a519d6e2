/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stacks of user space without frame pointers, from rows that user space compiles on demand:
 *
 *	pc ─ mm->mm_mt ─▶ mapping ─ inode ─▶ file ─ page of it ─▶ rows ─▶ rule ─▶ caller's pc, sp,
 *fp
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

#include "unwind/frames.bpf.h"

#define SCANNED_WORDS 256

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
