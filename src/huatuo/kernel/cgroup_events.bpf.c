// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Tells the agent of every cgroup that is made, removed or renamed in the two hierarchies it knows
 * owners in, so that a container that lives for a moment only is known by name before it is gone.
 * The reader is woken by the first record it has not read yet, not by each.
 */
#include "account.bpf.h"
#include "kernel.bpf.h"

#define NAME_BYTES 160 /* of a longer name the reader lists the cgroup above */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup___placed {
	struct cgroup_subsys_state self;
	struct cgroup_root *root;
};

struct kernfs_node___named {
	const char *name;
};

#pragma clang attribute pop

/* Numbers as in /proc/self/cgroup; set by the loader. */
const volatile __u32 identity_hierarchy = 0;
const volatile __u32 block_hierarchy = 0;

enum change {
	MADE,
	REMOVED,
	RENAMED,
};

struct cgroup_change {
	cgroup_id_t cgroup DOC("inode of the cgroup's directory");
	cgroup_id_t parent DOC("of the cgroup above");
	__u32 hierarchy DOC("number of the hierarchy");
	enum change change DOC("what happened");
	char name[NAME_BYTES] DOC("its own name, cut off");
};

RING(changes, struct cgroup_change, 256 * 1024);

static __always_inline int tell(struct cgroup *cgroup, enum change change)
{
	struct cgroup___placed *placed = (void *)cgroup;
	struct kernfs_node___named *named = (void *)cgroup->kn;
	struct cgroup_subsys_state *above = placed->self.parent;
	__u32 hierarchy = placed->root->hierarchy_id;
	struct cgroup_change *record;

	if (!above || (hierarchy != identity_hierarchy && hierarchy != block_hierarchy))
		return 0;
	ACCOUNT(produced);
	record = bpf_ringbuf_reserve(&changes, sizeof(*record), 0);
	if (!record) {
		ACCOUNT(ring_full);
		return 0;
	}
	record->cgroup = cgroup->kn->id;
	record->parent = above->cgroup->kn->id;
	record->hierarchy = hierarchy;
	record->change = change;
	bpf_probe_read_kernel_str(record->name, sizeof(record->name), named->name);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup)
{
	return tell(cgroup, MADE);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup)
{
	return tell(cgroup, REMOVED);
}

SEC("tp_btf/cgroup_rename")
int BPF_PROG(cgroup_rename, struct cgroup *cgroup)
{
	return tell(cgroup, RENAMED);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
