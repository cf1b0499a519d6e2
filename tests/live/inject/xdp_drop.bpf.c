// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only: an XDP program that drops every packet, which drivers count. */
#include "record.bpf.h"

SEC("xdp")
int drop_all(void *packet)
{
	return 1; /* XDP_DROP */
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
