// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Interrupts are off: nothing else happens on this CPU meanwhile. `only_tid` is who leaves it. */
#include "stall.bpf.h"

SEC("tp_btf/sched_switch")
int BPF_PROG(stall_sched_switch)
{
	return stall();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
