// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* After a probe on the same tracepoint a stall is part of the compaction of a zone. */
#include "stall.bpf.h"

SEC("tp_btf/mm_compaction_begin")
int BPF_PROG(stall_compaction_begin)
{
	return stall();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
