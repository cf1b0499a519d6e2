/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the current task is in the middle of: one value per task, so that the end of something finds
 * its beginning. It is kept with the task; kernels before 5.11 have no task storage, and there it
 * is in a hash by thread.
 *
 *	PER_TASK(doing, struct doing);
 *	struct doing *begun = TASK_VALUE(doing);	NULL if there is none
 *	struct doing *begin = NEW_TASK_VALUE(doing);	made if there is none; NULL without memory
 */
#ifndef HUATUO_TASK_H
#define HUATUO_TASK_H

#include "account.bpf.h"
#include "kernel.bpf.h"

#define HAS_TASK_STORAGE bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_storage_get)
#define THREADS 1024 /* in the middle of something at once, where a hash holds them */

#define PER_TASK(map, value_type)                        \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_TASK_STORAGE); \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__type(key, int);                        \
		__type(value, value_type);               \
	} map SEC(".maps");                              \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);     \
		__uint(max_entries, THREADS);            \
		__type(key, __u32);                      \
		__type(value, value_type);               \
	} map##_by_tid SEC(".maps");                     \
	static const value_type map##_empty

#define TASK_VALUE(map) task_value(&map, &map##_by_tid)
#define NEW_TASK_VALUE(map) new_task_value(&map, &map##_by_tid, &map##_empty)

static __always_inline void *task_value(void *storage, void *by_tid)
{
	__u32 tid = bpf_get_current_pid_tgid();

	if (HAS_TASK_STORAGE)
		return bpf_task_storage_get(storage, bpf_get_current_task_btf(), NULL, 0);
	return bpf_map_lookup_elem(by_tid, &tid);
}

static __always_inline void *new_task_value(void *storage, void *by_tid, const void *empty)
{
	__u32 tid = bpf_get_current_pid_tgid();
	void *found;

	if (HAS_TASK_STORAGE) {
		found = bpf_task_storage_get(storage, bpf_get_current_task_btf(), NULL,
					     BPF_LOCAL_STORAGE_GET_F_CREATE);
	} else {
		bpf_map_update_elem(by_tid, &tid, empty, BPF_NOEXIST);
		found = bpf_map_lookup_elem(by_tid, &tid);
	}
	if (!found)
		ACCOUNT(map_full);
	return found;
}

#endif
