// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The kernel takes the issue stamp after this tracepoint: a stall here is queue time. */
#include "block.bpf.h"
#include "stall.bpf.h"

SEC("tp_btf/block_rq_issue")
int BPF_PROG(stall_block_rq_issue, struct request *rq)
{
	return only_disk == ANY || only_disk == disk_of(rq) ? stall() : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
