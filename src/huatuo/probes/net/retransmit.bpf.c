// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TCP segments that were sent again, why, and whether this host had dropped them: the tracepoints
 * tcp:tcp_retransmit_skb, tcp:tcp_retransmit_synack and tcp:tcp_cong_state_set
 * (net/ipv4/tcp_output.c, tcp_cong.c).
 *
 * Why is told by the socket's state at that moment: its congestion state, and whether its timer has
 * just run out, which then is not set. That a retransmission was needless is known only later,
 * when TCP undoes what it did to its window; that is an event of its own.
 */
#include "event.bpf.h"
#include "packet_filter.bpf.h"
#include "tcp.bpf.h"

const volatile duration_ns_t
	drop_window DOC("how long before a retransmission a packet of its "
			"flow that this host dropped is told with it") = 5000000000;

/* include/net/tcp.h and inet_connection_sock.h */
enum congestion_state { CA_OPEN, CA_DISORDER, CA_CWR, CA_RECOVERY, CA_LOSS };
enum timer { TIMER_NONE = 0, TIMER_LOSS_PROBE = 5 };

#define EBUSY 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct tcp_skb_cb {
	__u32 seq;
	__u32 end_seq;
	__u16 tcp_gso_segs;
	__u8 tcp_flags; /* since 6.16 of 16 bits */
};

#pragma clang attribute pop

enum kind {
	KIND_TIMEOUT,	    /* the retransmission timer */
	KIND_AFTER_TIMEOUT, /* what followed a timeout */
	KIND_FAST,	    /* acknowledgements told of a loss */
	KIND_TAIL_PROBE,    /* the end was not acknowledged in time (TLP) */
	KIND_SYN,
	KIND_SYN_ACK,
	KIND_OTHER,
	KIND_NEEDLESS_TIMEOUT, /* known afterwards: nothing had been lost */
	KIND_NEEDLESS_FAST,
};

/* Names come from the running kernel. */
enum drop_reason {
	no_drop,
};
#define REASONS KERNEL_ENUM("skb_drop_reason,qdisc_drop_reason")

struct segment_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
	enum kind kind DOC("why");
	enum phase phase DOC("of the connection");
} KEY;

struct segment_row {
	counter_t segments DOC("TCP segments sent again");
};

struct needless_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
	enum kind kind DOC("what was needless");
};

struct needless_row {
	counter_t needless_recoveries DOC(
		"recoveries, each of one or more segments, that TCP undid: nothing had been lost");
};

COUNTERS(segments, struct segment_key, struct segment_row);
COUNTERS(needless, struct needless_key, struct needless_row);

struct retransmission {
	ktime_ns_t time DOC("when it was sent, or found to have been needless");
	cgroup_id_t cgroup DOC("container of the socket");
	duration_ns_t rtt DOC("smoothed round-trip time; 0 if not known yet");
	duration_ns_t timeout DOC("retransmission timeout, before it is doubled");
	duration_ns_t drop_age DOC("since this host dropped a packet of the flow");
	kaddr_t drop_location DOC("where that was");
	bytes_t length DOC("bytes sent again");
	ip_address_t local_address DOC("this end");
	ip_address_t remote_address DOC("the other end");
	enum kind kind DOC("why it was sent; needless: it turned out that nothing had been lost");
	enum phase phase DOC("of the connection");
	enum tcp_state state DOC("of the socket");
	enum drop_reason drop_reason REASONS DOC("why that packet was dropped");
	netns_t netns DOC("network namespace of the socket");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u32 sequence DOC("number of the first byte");
	__u32 segments DOC("segments sent again");
	__u32 timeouts DOC("timeouts in a row before this one");
	__u32 retransmitted DOC("segments of this connection that were sent again so far");
	__u32 duplicates DOC("of these the peer already had (DSACK)");
	__u32 reordered DOC("times that the peer got segments in another order");
	__u32 window DOC("congestion window in segments");
	__u32 in_flight DOC("segments sent and not acknowledged");
	__u32 lost DOC("segments of these that are held for lost");
	__u16 local_port DOC("this end");
	__u16 remote_port DOC("the other end");
	__u8 same_segment DOC("1 if the dropped packet began where this segment begins");
};

RING(retransmissions, struct retransmission, 256 * 1024);

static const struct segment_row empty_segments;
static const struct needless_row empty_needless;

static __always_inline enum kind kind_of(int state, int congestion, int timer)
{
	if (state == TCP_STATE_SYN_SENT)
		return KIND_SYN;
	if (congestion ==
	    CA_LOSS) /* entered before the timer sends; acknowledgements set it anew */
		return timer == TIMER_NONE ? KIND_TIMEOUT : KIND_AFTER_TIMEOUT;
	if (congestion == CA_RECOVERY)
		return KIND_FAST;
	return timer == TIMER_LOSS_PROBE ? KIND_TAIL_PROBE : KIND_OTHER;
}

static __always_inline void count(__u64 cgroup, __u32 netns, enum kind kind, enum phase phase,
				  __u32 number)
{
	struct segment_key key;
	struct segment_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	key.kind = kind;
	key.phase = phase;
	row = counter_row(&segments, &key, &empty_segments);
	if (row)
		COUNT_UP(row->segments, number);
}

static __always_inline void fill_drop(struct retransmission *record)
{
	__u64 flow = flow_hash(record->local_address, record->local_port, record->remote_address,
			       record->remote_port);
	struct flow_drop drop;

	if (!find_drop(flow, record->time, drop_window, &drop))
		return;
	record->drop_age = record->time - drop.time;
	record->drop_location = drop.location;
	record->drop_reason = (enum drop_reason)drop.reason;
	record->same_segment = record->segments && drop.sequence == record->sequence;
}

/* Everything but what is sent again. */
static __always_inline void fill_socket(struct retransmission *record, struct tcp_sock *tcp,
					const struct socket_owner *owner)
{
	record->rtt = rtt_ns(tcp);
	record->timeout = tcp->inet_conn.icsk_rto * jiffy_ns;
	record->timeouts = tcp->inet_conn.icsk_retransmits;
	record->retransmitted = tcp->total_retrans;
	record->duplicates = tcp->dsack_dups;
	record->reordered = tcp->reord_seen;
	record->window = tcp->snd_cwnd;
	record->in_flight = tcp->packets_out;
	record->lost = tcp->lost_out;
	FILL_OWNER(record, owner);
}

static __always_inline struct retransmission *begin_record(__u64 cgroup, __u32 netns,
							   enum kind kind, int state, __u64 now)
{
	struct retransmission *record =
		event_reserve(&retransmissions, sizeof(*record), bucket_of(cgroup, netns), now);

	if (!record)
		return NULL;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->netns = netns;
	record->kind = kind;
	record->phase = phase_of(state);
	record->state = (enum tcp_state)state;
	return record;
}

static __always_inline int retransmitted(struct sock *sk, struct sk_buff *skb)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner);
	int state = sk->__sk_common.skc_state;
	struct tcp_skb_cb *segment = (struct tcp_skb_cb *)skb->cb;
	struct retransmission *record;
	__u32 number, netns = socket_netns(sk);
	struct segment_outline outline;
	enum kind kind;

	if (!tcp)
		return 0;
	kind = kind_of(state, BPF_CORE_READ_BITFIELD(&tcp->inet_conn, icsk_ca_state),
		       tcp->inet_conn.icsk_pending);
	number = BPF_CORE_READ(segment, tcp_gso_segs);
	count(cgroup, netns, kind, phase_of(state), number);
	outline = (struct segment_outline){BPF_CORE_READ(segment, seq), skb->len,
					   BPF_CORE_READ_BITFIELD_PROBED(segment, tcp_flags)};
	if (!is_wanted_sent(&sk->__sk_common, &outline))
		return 0;
	record = begin_record(cgroup, netns, kind, state, bpf_ktime_get_ns());
	if (!record)
		return 0;
	FILL_ENDS(record, &sk->__sk_common);
	fill_socket(record, tcp, owner);
	record->segments = number;
	record->sequence = BPF_CORE_READ(segment, seq);
	record->length = skb->len;
	fill_drop(record);
	ring_submit(&retransmissions, record);
	return 0;
}

/*
 * The last argument came between 6.12 and 6.18: an error of this host, EBUSY if the segment still
 * lies in a queue here and is not sent again.
 */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(retransmit__with_error, struct sock *sk, struct sk_buff *skb, int error)
{
	return error == -EBUSY ? 0 : retransmitted(sk, skb);
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(retransmit__sent, struct sock *sk, struct sk_buff *skb)
{
	return retransmitted(sk, skb);
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(retransmit_synack, struct sock *sk, struct request_sock *request)
{
	struct segment_outline outline = {.flags = TCP_SYN | TCP_ACK};
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner);
	struct retransmission *record;
	__u32 netns = socket_netns(sk);

	count(cgroup, netns, KIND_SYN_ACK, PHASE_CONNECT, 1);
	if (!is_wanted_sent(&request->__req_common, &outline))
		return 0;
	record = begin_record(cgroup, netns, KIND_SYN_ACK, TCP_STATE_NEW_SYN_RECV,
			      bpf_ktime_get_ns());
	if (!record)
		return 0;
	FILL_ENDS(record, &request->__req_common);
	FILL_OWNER(record, owner);
	record->segments = 1;
	fill_drop(record);
	ring_submit(&retransmissions, record);
	return 0;
}

/*
 * Recovery ends. Where TCP found that nothing had been lost it has just undone what it did to its
 * window, and forgotten where (tcp_undo_cwnd_reduction); a smaller path MTU looks alike, but has no
 * threshold to go back to (tcp_simple_retransmit).
 */
SEC("tp_btf/tcp_cong_state_set")
int BPF_PROG(recovery_end, struct sock *sk, __u8 next)
{
	struct segment_outline outline = {.flags = TCP_ACK};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct retransmission *record;
	struct socket_owner *owner;
	struct needless_key key;
	struct needless_row *row;
	int before;

	if (!tcp || next >= CA_RECOVERY)
		return 0;
	before = BPF_CORE_READ_BITFIELD(&tcp->inet_conn, icsk_ca_state);
	if (before < CA_RECOVERY || tcp->undo_marker || !tcp->prior_ssthresh)
		return 0;
	owner = socket_owner(sk);
	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = owned_cgroup(sk, owner);
	key.netns = key.cgroup ? 0 : socket_netns(sk);
	key.kind = before == CA_LOSS ? KIND_NEEDLESS_TIMEOUT : KIND_NEEDLESS_FAST;
	row = counter_row(&needless, &key, &empty_needless);
	if (row)
		COUNT_UP(row->needless_recoveries, 1);
	if (!is_wanted_sent(&sk->__sk_common, &outline))
		return 0;
	record = begin_record(key.cgroup, socket_netns(sk), key.kind, sk->__sk_common.skc_state,
			      bpf_ktime_get_ns());
	if (!record)
		return 0;
	FILL_ENDS(record, &sk->__sk_common);
	fill_socket(record, tcp, owner);
	ring_submit(&retransmissions, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
