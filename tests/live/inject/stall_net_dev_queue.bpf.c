// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A packet on its way to a device is held up before it comes to the device's queue. */
#include "stall.bpf.h"

SEC("tp_btf/net_dev_queue")
int BPF_PROG(stall_net_dev_queue, void *skb)
{
	return stall();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
