/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What an uninterruptibly sleeping task waits for: the lock of the kernel, and who holds it.
 *
 * Since 6.16 a kernel with CONFIG_DETECT_HUNG_TASK_BLOCKER notes the lock in the task. On others it
 * is found as a debugger would: who waits for a mutex, rwsem or semaphore is in a list of the lock,
 * with a node on its own kernel stack that begins { next, prev, task }. That node is searched from
 * the saved stack pointer upwards, and the list followed to the node that is on no waiter's stack:
 * the lock's. Nothing is believed that its neighbours do not confirm.
 */
#ifndef HUATUO_WAITING_H
#define HUATUO_WAITING_H

#include "kernel.bpf.h"

#define STACK_WORDS 256 /* from the saved stack pointer to the waiter; 40 to 100 are usual */
#define THREAD_BYTES (16 << 10) /* size of a kernel stack, at most */
#define WAITERS 32		/* ahead of the task in the list */

enum lock_type { /* as the kernel numbers them in task_struct.blocker, and 0 for none */
		 LOCK_NONE,
		 LOCK_MUTEX,
		 LOCK_SEMAPHORE,
		 LOCK_RWSEM_READ,
		 LOCK_RWSEM_WRITE,
		 LOCK_UNKNOWN, /* a mutex or an rwsem: see the stack */
};

struct held {
	__u64 lock;
	struct task_struct *holder; /* a plain address: to be read, not to be followed */
	__u32 type;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	long counter;
} atomic_long_t;

struct mutex {
	atomic_long_t owner;
	struct list_head wait_list;
};

struct rw_semaphore {
	atomic_long_t owner;
	struct list_head wait_list;
};

struct semaphore {
	unsigned long last_holder; /* 6.16 */
};

struct thread_struct {
	unsigned long sp; /* x86 */
};

struct task_struct___waiting {
	unsigned int __state;
	unsigned in_iowait : 1;
	unsigned long blocker;
	void *blocked_on;
	void *stack;
	struct thread_struct thread;
};

#pragma clang attribute pop

#define OWNER_FLAGS 0x7UL

struct stack_words {
	__u64 words[STACK_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack_words);
} waiting_stack SEC(".maps");

static __always_inline __u64 kernel_word(__u64 address)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

/* A word that has flags in its low bits → the task it points to, if that is one. */
static __always_inline struct task_struct *task_behind(__u64 owner)
{
	struct task_struct *task = (void *)(owner & ~OWNER_FLAGS);
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	if ((__s64)owner >= 0 || BPF_CORE_READ(leader, group_leader) != leader)
		return NULL;
	return BPF_CORE_READ(task, tgid) == BPF_CORE_READ(leader, pid) ? task : NULL;
}

static __always_inline void noted_lock(struct task_struct *task, struct held *held)
{
	__u64 blocker = BPF_CORE_READ((struct task_struct___waiting *)task, blocker), owner = 0;
	void *lock = (void *)(blocker & ~3UL);

	if (!blocker)
		return;
	held->type = LOCK_MUTEX + (blocker & 3);
	held->lock = (__u64)lock;
	if (held->type == LOCK_MUTEX)
		owner = BPF_CORE_READ((struct mutex *)lock, owner.counter);
	else if (held->type != LOCK_SEMAPHORE)
		owner = BPF_CORE_READ((struct rw_semaphore *)lock, owner.counter);
	else if (bpf_core_field_exists(struct semaphore, last_holder))
		owner = BPF_CORE_READ((struct semaphore *)lock, last_holder);
	held->holder = task_behind(owner);
}

static __always_inline bool on_stack_of(__u64 node, __u64 task)
{
	__u64 stack = (__u64)BPF_CORE_READ((struct task_struct___waiting *)task, stack);

	return (__s64)task < 0 && node - stack < THREAD_BYTES;
}

/* Address of the list node on this task's stack that makes it a waiter; 0 if there is none. */
static __always_inline __u64 find_waiter(struct task_struct *task)
{
	struct task_struct___waiting *t = (void *)task;
	__u64 sp = BPF_CORE_READ(t, thread.sp);
	__u32 zero = 0;
	struct stack_words *stack = bpf_map_lookup_elem(&waiting_stack, &zero);
	__u64 left = (__u64)BPF_CORE_READ(t, stack) + THREAD_BYTES - sp;

	if (!stack || !sp || left > THREAD_BYTES)
		return 0;
	if (left > sizeof(*stack))
		left = sizeof(*stack);
	if (bpf_probe_read_kernel(stack, left, (void *)sp))
		return 0;
	for (__u32 at = 2; at < STACK_WORDS; at++) {
		__u64 node = sp + (at - 2) * 8, next = stack->words[at - 2];
		__u64 prev = stack->words[at - 1];

		if (at >= left / 8)
			break;
		if (stack->words[at] != (__u64)task || (__s64)next >= 0 || (__s64)prev >= 0)
			continue;
		if (kernel_word(next + 8) == node && kernel_word(prev) == node)
			return node;
	}
	return 0;
}

/* Which lock a waiter's node belongs to, from the owner word that mutexes and rwsems both have. */
static __always_inline void searched_lock(struct task_struct *task, struct held *held)
{
	__u64 node = find_waiter(task), from_list;

	if (!node)
		return;
	for (int ahead = 0; ahead < WAITERS; ahead++) {
		node = kernel_word(node + 8);
		if (!on_stack_of(node, kernel_word(node + 16)))
			break;
	}
	held->type = LOCK_UNKNOWN;
	from_list = bpf_core_field_offset(struct mutex, wait_list) -
		    bpf_core_field_offset(struct mutex, owner);
	held->lock = node - bpf_core_field_offset(struct mutex, wait_list);
	held->holder = task_behind(kernel_word(node - from_list));
	if (held->holder)
		return;
	from_list = bpf_core_field_offset(struct rw_semaphore, wait_list) -
		    bpf_core_field_offset(struct rw_semaphore, owner);
	held->lock = node - bpf_core_field_offset(struct rw_semaphore, wait_list);
	held->holder = task_behind(kernel_word(node - from_list));
}

/* Everything zero if the task waits for something else. */
static __always_inline void find_held(struct task_struct *task, struct held *held)
{
	__builtin_memset(held, 0, sizeof(*held));
	if (bpf_core_field_exists(struct task_struct___waiting, blocker))
		noted_lock(task, held);
	else if (bpf_core_field_exists(struct mutex, wait_list) &&
		 bpf_core_field_exists(struct thread_struct, sp))
		searched_lock(task, held);
}

#endif
