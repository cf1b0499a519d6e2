/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Identity is the cgroup id: the inode of the cgroup's directory. On cgroup v2 it is taken from
 * the default hierarchy. On v1 and hybrid hosts containers live in the v1 hierarchies, and the
 * memory controller's is the one that names them (kernel/cgroupfs.py sets cgroup_v1 likewise).
 */
#ifndef HUATUO_CGROUP_H
#define HUATUO_CGROUP_H

#include "kernel.bpf.h"

const volatile bool cgroup_v1 = false; /* set by the loader, not a setting */

/* For a task that came as an argument of a tp_btf program: direct loads, no helper call. */
static __always_inline cgroup_id_t task_cgroup(struct task_struct *task)
{
	struct css_set *set = task->cgroups;

	if (cgroup_v1)
		return set->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)]
			->cgroup->kn->id;
	return set->dfl_cgrp->kn->id;
}

/* For a pointer of unknown origin: probe reads, any program type; 0 where it cannot be read. */
static __always_inline cgroup_id_t task_cgroup_read(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);

	if (cgroup_v1) {
		struct cgroup_subsys_state *css = NULL;
		int memory = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);

		bpf_core_read(&css, sizeof(css), &set->subsys[memory]);
		return BPF_CORE_READ(css, cgroup, kn, id);
	}
	return BPF_CORE_READ(set, dfl_cgrp, kn, id);
}

static __always_inline cgroup_id_t current_cgroup(void)
{
	if (!cgroup_v1)
		return bpf_get_current_cgroup_id();
	return task_cgroup_read((struct task_struct *)bpf_get_current_task());
}

#endif
