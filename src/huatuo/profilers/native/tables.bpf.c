// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The maps that all profilers of one agent share; unwinder.py fills and drains them. */
#include "unwind/tables.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
