// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only: what BPF statistics report for a program that does nothing, where probes hang. */
#include "record.bpf.h"

SEC("tp_btf/block_rq_complete")
int BPF_PROG(block_rq_complete)
{
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(block_rq_issue)
{
	return 0;
}

SEC("tp_btf/softirq_raise")
int BPF_PROG(softirq_raise)
{
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(softirq_entry)
{
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(softirq_exit)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
