/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * System calls on files: which they are, by number, and the file that they are about.
 */
#ifndef HUATUO_SYSCALL_H
#define HUATUO_SYSCALL_H

#include <asm/unistd.h>
#include "vfs.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct___files {
	struct files_struct *files;
};

struct task_struct___stack {
	void *stack;
};

struct pt_regs___x86 {
	unsigned long di;
	unsigned long orig_ax;
};

struct pt_regs___syscall_arm64 { /* bpf_tracing.h has another of the plain name */
	__u64 regs[31];
	int syscallno;
};

#pragma clang attribute pop

#define THREAD_SIZE_X86 16384 /* of kernels before 5.15, without BPF_FUNC_task_pt_regs */
#define NO_SYSCALL -1	      /* the number while a fault is handled */

enum bpf_func_id___task_regs {
	BPF_FUNC_task_pt_regs___task_regs = 175, /* relocated */
};

enum file_operation {
	FILE_OPERATION_READ,
	FILE_OPERATION_WRITE,
	FILE_OPERATION_OPEN,
	FILE_OPERATION_FSYNC,
	FILE_OPERATION_NONE, /* another system call */
};

static __always_inline enum file_operation operation_of(long number)
{
	switch (number) {
	case __NR_read:
	case __NR_pread64:
	case __NR_readv:
	case __NR_preadv:
	case __NR_preadv2:
		return FILE_OPERATION_READ;
	case __NR_write:
	case __NR_pwrite64:
	case __NR_writev:
	case __NR_pwritev:
	case __NR_pwritev2:
		return FILE_OPERATION_WRITE;
#ifdef __NR_open /* arm64 has only the newer ones */
	case __NR_open:
	case __NR_creat:
#endif
	case __NR_openat:
	case __NR_openat2:
		return FILE_OPERATION_OPEN;
	case __NR_fsync:
	case __NR_fdatasync:
	case __NR_sync_file_range:
		return FILE_OPERATION_FSYNC;
	}
	return FILE_OPERATION_NONE;
}

static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct___files *task = (void *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

static __always_inline __u32 first_argument(struct pt_regs *regs)
{
#ifdef __TARGET_ARCH_arm64
	return BPF_CORE_READ((struct pt_regs___syscall_arm64 *)regs, regs[0]);
#else
	return BPF_CORE_READ((struct pt_regs___x86 *)regs, di);
#endif
}

/* Of the system call or fault that the current task is in. */
static __always_inline struct pt_regs *current_registers(void)
{
	struct task_struct___stack *task = (void *)bpf_get_current_task();

	if (bpf_core_enum_value_exists(enum bpf_func_id___task_regs,
				       BPF_FUNC_task_pt_regs___task_regs))
		return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return BPF_CORE_READ(task, stack) + THREAD_SIZE_X86 -
	       bpf_core_type_size(struct pt_regs___x86);
}

static __always_inline long syscall_number(struct pt_regs *registers)
{
#ifdef __TARGET_ARCH_arm64
	return BPF_CORE_READ((struct pt_regs___syscall_arm64 *)registers, syscallno);
#else
	return BPF_CORE_READ((struct pt_regs___x86 *)registers, orig_ax);
#endif
}

#endif
