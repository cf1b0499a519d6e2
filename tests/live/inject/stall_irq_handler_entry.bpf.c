// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* After a probe on the same tracepoint a stall is part of the handler. Interrupts are off. */
#include "stall.bpf.h"

const volatile __u32 only_irq = ANY;

SEC("tp_btf/irq_handler_entry")
int BPF_PROG(stall_irq_handler_entry, unsigned int irq)
{
	return only_irq == ANY || only_irq == irq ? stall() : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
