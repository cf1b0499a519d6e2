// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only. A record for each process that calls itself own-…, with the cgroup that it is in. */
#include "event.bpf.h"
#include "cgroup.bpf.h"

struct owned {
	cgroup_id_t cgroup DOC("where it is");
	char name[16] DOC("what it calls itself");
};

RING(names, struct owned, 4 * 1024 * 1024);

SEC("tp_btf/task_rename")
int BPF_PROG(rename, struct task_struct *task, const char *name)
{
	struct owned *record;
	char start[16] = {};

	bpf_probe_read_kernel_str(start, sizeof(start), name);
	if (start[0] != 'o' || start[1] != 'w' || start[2] != 'n' || start[3] != '-')
		return 0;
	record = event_reserve(&names, sizeof(*record), 1, bpf_ktime_get_ns());
	if (!record)
		return 0;
	record->cgroup = current_cgroup();
	__builtin_memcpy(record->name, start, sizeof(start));
	ring_submit(&names, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
