// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* In the middle of whatever reclaim goes on: a stall here is part of its duration. */
#include "stall.bpf.h"

SEC("tp_btf/mm_vmscan_lru_shrink_inactive")
int BPF_PROG(stall_lru_shrink_inactive)
{
	return stall();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
