// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How late received packets reach each stage: the network stack (net:netif_receive_skb), TCP
 * (tcp:tcp_probe) and the program that reads them (skb:skb_copy_datagram_iovec; for UDP
 * skb_consume_udp()). The kernel stamps packets when the driver hands them over, as long as some
 * socket asked for it, and one of receive.py does; so nothing is kept per packet here.
 *
 * These are the hottest hooks there are, so a packet's way through a program is: read its stamp,
 * and see that it cannot be late, from the clock as it was read first in this jiffy. Only one of
 * `sample_every` is measured for the histograms, and any that may be late.
 *
 * tcp_probe also tells what a received segment says of its connection: round-trip time, and the end
 * of a stall because the other end had closed its window.
 */
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "packet_filter.bpf.h"
#include "tcp.bpf.h"

#define LONGEST 3600000000000ULL /* one hour; a stamp that old is none of this clock */
#define INEXACT 100000		 /* what the offset between the clocks may be wrong by */
#define CHRONO_PEER_LIMITED 2	 /* include/linux/tcp.h: TCP_CHRONO_RWND_LIMITED */
#define ACK_WINDOW 14		 /* offset in the TCP header */

const volatile duration_ns_t stack_threshold DOC(
	"packets that reach the network stack this long after the driver handed them over are "
	"events") = 5000000;
const volatile duration_ns_t tcp_threshold
	DOC("segments that reach TCP this long after the driver handed them over are events") =
		10000000;
const volatile duration_ns_t user_threshold DOC(
	"packets that are read this long after the driver handed them over are events") = 200000000;
const volatile duration_ns_t
	stall_threshold DOC("stalls because the peer's window was full that last this long are "
			    "events") = 1000000000;
const volatile count_t sample_every DOC("one of so many packets is in the histograms") = 16;

enum stage {
	STAGE_STACK,
	STAGE_TCP,
	STAGE_USER,
};
#define STAGES 3

enum protocol {
	PROTOCOL_TCP,
	PROTOCOL_UDP,
	PROTOCOL_OTHER,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct nsproxy {
	struct net *net_ns;
};

struct task_struct___namespaces {
	struct nsproxy *nsproxy;
};

struct sk_buff___transport {
	__u16 transport_header;
};

struct tcp_sock___chrono {
	__u8 chrono_type : 2;
};

#pragma clang attribute pop

struct stack_row {
	duration_histogram_t stack
		DOC("time from the driver's hand-over of a packet to the network stack; sampled");
};

/* Where no socket tells the container its network namespace stands in for it. */
struct tcp_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
} KEY;

struct tcp_row {
	duration_histogram_t
		tcp DOC("time from the driver's hand-over of a segment to TCP; sampled");
	duration_histogram_t rtt
		DOC("smoothed round-trip time of TCP connections that receive something; sampled");
	duration_histogram_t peer_stall
		DOC("time that TCP could not send because the peer had closed its window");
};

struct user_key {
	cgroup_id_t cgroup DOC("container that reads");
	enum protocol protocol DOC("of the packet");
} KEY;

struct user_row {
	duration_histogram_t
		user DOC("time from the driver's hand-over of a packet to its being read; sampled");
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack_row);
} host SEC(".maps");

COUNTERS(tcp, struct tcp_key, struct tcp_row);
COUNTERS(user, struct user_key, struct user_row);

struct late_packet {
	ktime_ns_t time DOC("when it reached the stage");
	cgroup_id_t cgroup DOC("container of the socket, or of the reader");
	duration_ns_t latency DOC("since the driver handed it over");
	kstack_t stack DOC("how the kernel got there");
	bytes_t length DOC("of the packet, from this stage upwards");
	ip_address_t local_address DOC("where it went to");
	ip_address_t remote_address DOC("where it came from");
	enum stage stage DOC("that was reached late");
	enum protocol protocol DOC("of the packet");
	netns_t netns DOC("network namespace");
	ifindex_t ifindex DOC("device that received it");
	tgid_t tgid DOC("process that reads, or owns the socket; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u16 local_port DOC("where it went to");
	__u16 remote_port DOC("where it came from");
};

struct peer_stall {
	ktime_ns_t time DOC("when the window was opened again, or found to be closed so long");
	cgroup_id_t cgroup DOC("container of the socket");
	duration_ns_t duration DOC("how long nothing could be sent");
	duration_ns_t rtt DOC("smoothed round-trip time");
	ip_address_t local_address DOC("this end");
	ip_address_t remote_address DOC("the other end, which did not read");
	netns_t netns DOC("network namespace of the socket");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u16 local_port DOC("this end");
	__u16 remote_port DOC("the other end");
	__u8 ended DOC("1 if the window is open again");
};

RING(late_packets, struct late_packet, 256 * 1024);
RING(peer_stalls, struct peer_stall, 64 * 1024);

static const struct tcp_row empty_tcp;
static const struct user_row empty_user;

/*
 * What to add to CLOCK_MONOTONIC to get the clock of the stamps; kept right by user space. 0
 * between windows.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} realtime_offset SEC(".maps");

struct cpu_state {
	__u64 jiffies;	    /* in which the clock was read */
	__u64 now;	    /* as it was then */
	__u32 left[STAGES]; /* packets until the next sample */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct measured {
	__u64 now;
	__u64 latency;
	bool sampled;
};

/*
 * A stamp on CLOCK_MONOTONIC. TCP stamps what it sends on that clock, and the stamp is kept where
 * the packet stays on this host (loopback, veth) until it is in the stack; all others are of the
 * wall clock, whose numbers begin where the offset is.
 */
static __always_inline __u64 monotonic(__u64 stamp)
{
	__u32 zero = 0;
	__u64 *offset = bpf_map_lookup_elem(&realtime_offset, &zero);

	return offset && stamp >= *offset ? stamp - *offset : stamp;
}

/* For the program that stays attached between windows. */
static __always_inline bool is_window(void)
{
	__u32 zero = 0;
	__u64 *offset = bpf_map_lookup_elem(&realtime_offset, &zero);

	return offset && *offset;
}

/* Samples are taken at random distances, or two connections in turn would not be seen alike. */
static __always_inline bool is_sample(struct cpu_state *cpu, enum stage stage)
{
	if (cpu->left[stage] > 1) {
		cpu->left[stage]--;
		return false;
	}
	cpu->left[stage] = 1 + bpf_get_prandom_u32() % (sample_every ? 2 * sample_every - 1 : 1);
	return true;
}

/* Whether a packet has to be looked at: a sample, or too late. */
static __always_inline bool measure(struct sk_buff *skb, enum stage stage, __u64 threshold,
				    struct measured *found)
{
	__u64 stamp = skb->tstamp, jiffies = bpf_jiffies64();
	__u32 zero = 0;
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &zero);

	if (!stamp || !cpu)
		return false;
	if (cpu->jiffies != jiffies) {
		cpu->now = bpf_ktime_get_ns(); /* first: we may be interrupted */
		barrier();
		cpu->jiffies = jiffies;
	}
	stamp = monotonic(stamp);
	found->sampled = is_sample(cpu, stage);
	if (!found->sampled && stamp + threshold > cpu->now + jiffy_ns)
		return false;
	found->now = bpf_ktime_get_ns();
	found->latency = found->now > stamp ? found->now - stamp : 0;
	if (stamp > found->now + INEXACT) {
		ACCOUNT(negative);
		return false;
	}
	return found->latency < LONGEST;
}

static __always_inline enum protocol protocol_of(__u32 number)
{
	if (number == IPPROTO_TCP)
		return PROTOCOL_TCP;
	return number == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_OTHER;
}

/* All but the ends, and the process. */
static __always_inline struct late_packet *begin_record(void *context, struct sk_buff *skb,
							enum stage stage, __u64 cgroup, __u32 netns,
							const struct measured *found)
{
	struct late_packet *record;

	if (!is_wanted_packet_at(skb, stage == STAGE_STACK ? skb->data - skb->head : 0))
		return NULL;
	record =
		event_reserve(&late_packets, sizeof(*record), bucket_of(cgroup, netns), found->now);
	if (!record)
		return NULL;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = found->now;
	record->cgroup = cgroup;
	record->latency = found->latency;
	bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
	record->length = skb->len;
	record->stage = stage;
	record->netns = netns;
	record->ifindex = skb->skb_iif;
	return record;
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(netif_receive_skb, struct sk_buff *skb)
{
	struct measured found = {};
	struct late_packet *record;
	struct packet_ends ends;
	struct stack_row *row;
	__u32 zero = 0;

	if (!measure(skb, STAGE_STACK, stack_threshold, &found))
		return 0;
	row = bpf_map_lookup_elem(&host, &zero);
	if (row && found.sampled)
		histogram_add(&row->stack, found.latency);
	if (found.latency < stack_threshold)
		return 0;
	record = begin_record(ctx, skb, STAGE_STACK, 0, device_netns(skb), &found);
	if (!record)
		return 0;
	record->ifindex = skb->dev->ifindex;
	read_ends_at(skb, (__u64)skb->data, &ends); /* this is where the header starts */
	record->protocol = protocol_of(ends.protocol);
	FILL_RECEIVED(record, &ends);
	ring_submit(&late_packets, record);
	return 0;
}

static __always_inline struct tcp_row *tcp_row(__u64 cgroup, __u32 netns)
{
	struct tcp_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	return counter_row(&tcp, &key, &empty_tcp);
}

static __always_inline __u32 since(__u32 jiffies)
{
	return (__u32)bpf_jiffies64() - jiffies;
}

struct { /* socket → since when it stalls, of stalls that were told while they last */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} told SEC(".maps");

static __always_inline bool is_told(struct sock *sk, __u32 began)
{
	__u64 key = (__u64)sk;
	__u32 *known = bpf_map_lookup_elem(&told, &key);

	if (known && *known == began)
		return true;
	bpf_map_update_elem(&told, &key, &began, BPF_ANY);
	return false;
}

/* The other end had closed its window; does this segment open it? */
static __always_inline void end_of_stall(struct sock *sk, struct sk_buff *skb, struct tcp_sock *tcp)
{
	__u64 header = (__u64)skb->head + ((struct sk_buff___transport *)skb)->transport_header;
	struct tcp_sock___chrono *chrono = (struct tcp_sock___chrono *)tcp;
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner), duration;
	__u32 netns = socket_netns(sk);
	struct peer_stall *record;
	struct tcp_row *row;
	__be16 window = 0;

	if (BPF_CORE_READ_BITFIELD(chrono, chrono_type) != CHRONO_PEER_LIMITED)
		return; /* there was nothing to send */
	bpf_probe_read_kernel(&window, sizeof(window), (void *)(header + ACK_WINDOW));
	duration = since(tcp->chrono_start) * jiffy_ns;
	row = window ? tcp_row(cgroup, netns) : NULL;
	if (row)
		histogram_add(&row->peer_stall, duration);
	if (duration < stall_threshold || !is_wanted_packet(skb) ||
	    (!window && is_told(sk, tcp->chrono_start)))
		return;
	record = event_reserve(&peer_stalls, sizeof(*record), bucket_of(cgroup, netns),
			       bpf_ktime_get_ns());
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = bpf_ktime_get_ns();
	record->cgroup = cgroup;
	record->duration = duration;
	record->rtt = rtt_ns(tcp);
	FILL_ENDS(record, &sk->__sk_common);
	record->netns = netns;
	FILL_OWNER(record, owner);
	record->ended = window != 0;
	ring_submit(&peer_stalls, record);
}

SEC("tp_btf/tcp_probe")
int BPF_PROG(tcp_probe, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct measured found = {};
	struct late_packet *record;
	struct socket_owner *owner;
	struct tcp_row *row;
	__u64 cgroup;

	if (!tp)
		return 0;
	if (!tp->snd_wnd)
		end_of_stall(sk, skb, tp);
	if (!measure(skb, STAGE_TCP, tcp_threshold, &found))
		return 0;
	owner = socket_owner(sk);
	cgroup = owned_cgroup(sk, owner);
	row = found.sampled ? tcp_row(cgroup, socket_netns(sk)) : NULL;
	if (row) {
		histogram_add(&row->tcp, found.latency);
		if (tp->srtt_us)
			histogram_add(&row->rtt, rtt_ns(tp));
	}
	if (found.latency < tcp_threshold)
		return 0;
	record = begin_record(ctx, skb, STAGE_TCP, cgroup, socket_netns(sk), &found);
	if (!record)
		return 0;
	record->protocol = PROTOCOL_TCP;
	FILL_ENDS(record, &sk->__sk_common);
	FILL_OWNER(record, owner);
	ring_submit(&late_packets, record);
	return 0;
}

static __always_inline __u32 current_netns(void)
{
	struct task_struct___namespaces *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/* In the process that reads. */
static __always_inline struct late_packet *packet_read(void *context, struct sk_buff *skb,
						       enum protocol protocol, __u32 netns,
						       const struct measured *found)
{
	struct late_packet *record;
	struct user_key key;
	struct user_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = current_cgroup();
	key.protocol = protocol;
	row = found->sampled ? counter_row(&user, &key, &empty_user) : NULL;
	if (row)
		histogram_add(&row->user, found->latency);
	if (found->latency < user_threshold)
		return NULL;
	record = begin_record(context, skb, STAGE_USER, key.cgroup, netns, found);
	if (!record)
		return NULL;
	record->protocol = protocol;
	record->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	return record;
}

/* Packets of TCP belong to the socket that they are read from, those of a sniffer to its own. */
static __always_inline int tcp_read(void *context, struct sk_buff *skb, struct sock *sk)
{
	struct measured found = {};
	struct late_packet *record;

	if (sk->sk_protocol != IPPROTO_TCP || !measure(skb, STAGE_USER, user_threshold, &found))
		return 0;
	record = packet_read(context, skb, PROTOCOL_TCP, socket_netns(sk), &found);
	if (!record)
		return 0;
	FILL_ENDS(record, &sk->__sk_common);
	ring_submit(&late_packets, record);
	return 0;
}

static __always_inline int udp_read(void *context, struct sk_buff *skb, __u32 netns)
{
	struct measured found = {};
	struct late_packet *record;
	struct packet_ends ends;

	if (!measure(skb, STAGE_USER, user_threshold, &found))
		return 0;
	read_ends(skb, &ends);
	if (ends.protocol != IPPROTO_UDP)
		return 0;
	record = packet_read(context, skb, PROTOCOL_UDP, netns, &found);
	if (!record)
		return 0;
	FILL_RECEIVED(record, &ends);
	ring_submit(&late_packets, record);
	return 0;
}

/* UDP is seen where it is done with a packet that was read; there is no tracepoint for that. */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(read__tcp, struct sk_buff *skb, int length)
{
	struct sock *sk = skb->sk;

	return sk ? tcp_read(ctx, skb, sk) : 0;
}

SEC("fentry/skb_consume_udp")
int BPF_PROG(read_udp__tcp, struct sock *sk, struct sk_buff *skb, int length)
{
	return is_window() ? udp_read(ctx, skb, socket_netns(sk)) : 0;
}

/* Without fentry only packets whose data is not in one piece, as most drivers make them. */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(read__in_pieces, struct sk_buff *skb, int length)
{
	struct sock *sk = skb->sk;

	return sk ? tcp_read(ctx, skb, sk) : udp_read(ctx, skb, current_netns());
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
