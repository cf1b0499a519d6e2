// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* An empty program: what its statistics report is what the statistics themselves cost. */
#include "record.bpf.h"

SEC("tp_btf/task_rename")
int BPF_PROG(empty)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
