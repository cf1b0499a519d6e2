/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What TCP knows of a connection (include/linux/tcp.h, include/net/inet_connection_sock.h), and the
 * words for it that several probes use.
 */
#ifndef HUATUO_TCP_H
#define HUATUO_TCP_H

#include "owner.bpf.h"

const volatile __u64 jiffy_ns = 4000000; /* set by the loader, not a setting */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inet_connection_sock {
	__u32 icsk_rto; /* jiffies */
	__u8 icsk_ca_state : 5;
	__u8 icsk_retransmits;
	__u8 icsk_pending;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 srtt_us; /* in eighths */
	__u32 snd_cwnd;
	__u32 snd_wnd;
	__u32 packets_out;
	__u32 lost_out;
	__u32 total_retrans;
	__u32 reord_seen;
	__u32 dsack_dups;
	__u32 undo_marker;
	__u32 prior_ssthresh;
	__u32 chrono_start;
	__u32 chrono_stat[3]; /* jiffies busy, limited by the peer's window, by the send buffer */
};

struct request_sock {
	struct sock_common __req_common;
};

#pragma clang attribute pop

enum phase {
	PHASE_CONNECT,
	PHASE_DATA,
	PHASE_CLOSE,
};

static __always_inline enum phase phase_of(int state)
{
	switch (state) {
	case TCP_STATE_SYN_SENT:
	case TCP_STATE_SYN_RECV:
	case TCP_STATE_NEW_SYN_RECV:
		return PHASE_CONNECT;
	case TCP_STATE_FIN_WAIT1:
	case TCP_STATE_FIN_WAIT2:
	case TCP_STATE_CLOSING:
	case TCP_STATE_LAST_ACK:
		return PHASE_CLOSE;
	}
	return PHASE_DATA;
}

static __always_inline __u64 rtt_ns(struct tcp_sock *tcp)
{
	return tcp->srtt_us * 125ULL; /* 1000 / 8 */
}

#endif
