// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Tells the agent at once that a cgroup was made, so that a container that lives for a moment only
 * is known by name before it is gone. Rare, so every record wakes the reader.
 */
#include "kernel.bpf.h"

struct birth {
	ktime_ns_t time DOC("when the cgroup was made");
	cgroup_id_t cgroup DOC("the new cgroup, in whatever hierarchy");
};

RING(births, struct birth, 64 * 1024);

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup)
{
	struct birth *birth = bpf_ringbuf_reserve(&births, sizeof(*birth), 0);

	if (!birth)
		return 0; /* unread ones are there: the reader will look anyway */
	birth->time = bpf_ktime_get_ns();
	birth->cgroup = cgroup->kn->id;
	bpf_ringbuf_submit(birth, BPF_RB_FORCE_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
