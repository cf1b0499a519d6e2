/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From one frame to its caller: the rule of its code, and what the rule says. */
#ifndef HUATUO_UNWIND_FRAMES_H
#define HUATUO_UNWIND_FRAMES_H

#include "unwind/mappings.bpf.h"

#define MEMORY_PAGE 4096
#define GOROUTINE_M 0x30 /* Go's struct g: the thread that runs it, and where it was left */
#define GOROUTINE_SP 0x38
#define DWARF_BX 3
#define DWARF_FP 6
#define DWARF_SP 7

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

#endif
