// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Before a probe on the same tracepoint a stall is delay of the vector, after it the vector runs.
 */
#include "stall.bpf.h"

SEC("tp_btf/softirq_entry")
int BPF_PROG(stall_softirq_entry, unsigned int vector)
{
	return only_vector == ANY || only_vector == vector ? stall() : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
