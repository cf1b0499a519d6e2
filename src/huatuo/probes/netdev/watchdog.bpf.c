// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The kernel's watchdog over transmit queues: a queue that was stopped for longer than its driver
 * promised, after which the driver resets the device. Tracepoint net:net_dev_xmit_timeout
 * (net/sched/sch_generic.c).
 */
#include "event.bpf.h"
#include "socket.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct device_driver {
	const char *name;
};

struct device {
	struct device *parent;
	struct device_driver *driver;
};

struct netdev_queue {
	unsigned long trans_start;
};

struct net_device___watchdog {
	struct device dev;
	int watchdog_timeo;
	unsigned int num_tx_queues;
};

#pragma clang attribute pop

const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

struct queue_key {
	comm_t device DOC("network device");
};

struct queue_row {
	counter_t timeouts DOC("times that a transmit queue was stopped for too long");
};

COUNTERS(queues, struct queue_key, struct queue_row);

struct queue_timeout {
	ktime_ns_t time DOC("when the watchdog found it");
	duration_ns_t limit DOC("how long the driver lets a queue be stopped");
	__u32 queue DOC("number of the queue");
	__u32 queues DOC("transmit queues of the device");
	ifindex_t ifindex DOC("the device");
	netns_t netns DOC("network namespace of the device");
	comm_t device DOC("its name");
	comm_t driver DOC("its driver");
};

RING(queue_timeouts, struct queue_timeout, 16 * 1024);

static const struct queue_row empty_row;

SEC("tp_btf/net_dev_xmit_timeout")
int BPF_PROG(net_dev_xmit_timeout, struct net_device *device, int queue)
{
	struct net_device___watchdog *watched = (void *)device;
	__u32 netns = device->nd_net.net->ns.inum;
	__u64 now = bpf_ktime_get_ns();
	struct queue_timeout *record;
	struct queue_key key;
	struct queue_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	bpf_probe_read_kernel_str(key.device, sizeof(key.device), device->name);
	row = counter_row(&queues, &key, &empty_row);
	if (row)
		COUNT_UP(row->timeouts, 1);
	record = event_reserve(&queue_timeouts, sizeof(*record), bucket_of(0, netns), now);
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->limit = BPF_CORE_READ(watched, watchdog_timeo) * jiffy_ns;
	record->queue = queue;
	record->queues = BPF_CORE_READ(watched, num_tx_queues);
	record->ifindex = device->ifindex;
	record->netns = netns;
	__builtin_memcpy(record->device, key.device, sizeof(key.device));
	bpf_probe_read_kernel_str(record->driver, sizeof(record->driver),
				  BPF_CORE_READ(watched, dev.parent, driver, name));
	ring_submit(&queue_timeouts, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
