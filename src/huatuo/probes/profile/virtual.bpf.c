// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Address space that processes ask for: mmap, brk and mremap, exactly, by what they add. At the
 * system calls' own tracepoints, which make every system call on the machine slower while they are
 * attached.
 */
#define READ_USER(task, to, size, from) bpf_probe_read_user(to, size, from)
#include "sample.bpf.h"

const volatile bytes_t at_least DOC("smaller requests are not sampled") = 4096;

enum virtual_kind {
	VIRTUAL_MMAP,
	VIRTUAL_BRK,
	VIRTUAL_MREMAP,
};

KINDS(virtual_kind);
RING(samples, struct sample, 1024 * 1024);

struct mm_struct___brk {
	unsigned long brk;
} __attribute__((preserve_access_index));

/* The classic tracepoint of a system call, as the format files of sys_enter events say. */
struct syscall_entered {
	__u64 common;
	__u64 number;
	__u64 arguments[6];
};

static __always_inline int asked(void *context, __u32 kind, __u64 bytes)
{
	struct sample *sample = bytes >= at_least ? sample_current(context, &samples) : NULL;

	if (!sample)
		return 0;
	sample->value = bytes;
	sample->kind = kind;
	ring_submit_quietly(&samples, sample);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_mmap")
int enter_mmap(struct syscall_entered *context)
{
	return asked(context, VIRTUAL_MMAP, context->arguments[1]);
}

SEC("tracepoint/syscalls/sys_enter_brk")
int enter_brk(struct syscall_entered *context)
{
	struct mm_struct___brk *mm = (void *)bpf_get_current_task_btf()->mm;
	__u64 now = BPF_CORE_READ(mm, brk), wanted = context->arguments[0];

	return wanted > now ? asked(context, VIRTUAL_BRK, wanted - now) : 0;
}

SEC("tracepoint/syscalls/sys_enter_mremap")
int enter_mremap(struct syscall_entered *context)
{
	__u64 before = context->arguments[1], after = context->arguments[2];

	return after > before ? asked(context, VIRTUAL_MREMAP, after - before) : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
