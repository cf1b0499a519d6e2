/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The few kernel types that several probes need, with only the fields that are read: CO-RE finds
 * the real offsets on the running kernel. A probe declares what only it needs in its own file.
 * Where kernels differ the old form carries a ___suffix and the commit that changed it.
 */
#ifndef HUATUO_KERNEL_H
#define HUATUO_KERNEL_H

#include "record.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
	struct kernfs_node *parent;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

enum cgroup_subsys_id {
	memory_cgrp_id = 1, /* relocated */
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

struct ns_common {
	unsigned int inum;
};

struct sched_info {
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct rq {
	__u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct mm_struct;

struct list_head {
	struct list_head *next, *prev;
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	int pid;
	int tgid;
	char comm[16];
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct sched_info sched_info;
	struct sched_entity se;
};

struct bpf_iter__task { /* kernel/bpf/task_iter.c */
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* commit 2f064a59a11f ("sched: Change task_struct::state"), v5.14 */
struct task_struct___before_5_14 {
	long state;
};

#pragma clang attribute pop

#endif
