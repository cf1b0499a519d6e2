// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Attached before a probe on the same tracepoint, a stall here is device time. */
#include "block.bpf.h"
#include "stall.bpf.h"

SEC("tp_btf/block_rq_complete")
int BPF_PROG(stall_block_rq_complete, struct request *rq)
{
	return only_disk == ANY || only_disk == disk_of(rq) ? stall() : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
