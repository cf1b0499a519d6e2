// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A reader of TCP holds the socket here: what arrives meanwhile waits in the socket's backlog. */
#include "stall.bpf.h"

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(stall_skb_copy_datagram_iovec, void *skb, int length)
{
	return stall();
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
