/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The vocabulary of records. A field's typedef says what it is; Python reads it from the
 * object's BTF (huatuo/model/meaning.py) and derives unit, JSON suffix, container join and
 * symbols from it. There is no second definition of anything declared with these.
 */
#ifndef HUATUO_RECORD_H
#define HUATUO_RECORD_H

#include <stdbool.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* Help text of a field, map or tunable: shown in docs, /metrics HELP, UI and JSON schema. */
#define DOC(text) __attribute__((btf_decl_tag("doc:" text)))

/* Behind the struct of a map's key: what is in its padding would tell keys apart. */
#define KEY __attribute__((packed, aligned(4)))

/* time */
typedef __u64 ktime_ns_t; /* CLOCK_MONOTONIC */
typedef __u64 duration_ns_t;

/* amounts */
typedef __u64 bytes_t;
typedef __u64 pages_t;
typedef __u64 count_t;
typedef __u32 per_second_t;

/* who */
typedef __u64 cgroup_id_t; /* inode of the cgroup directory, see cgroup.bpf.h */
typedef __u64 blkcg_id_t;  /* same, in the hierarchy of the io (v1: blkio) controller */
typedef __u32 tgid_t;	   /* the process; JSON: pid */
typedef __u32 tid_t;	   /* the thread; JSON: tid */
typedef char comm_t[16];

/* what */
typedef __u32 disk_t; /* kernel dev_t: major << 20 | minor */
typedef __u32 ifindex_t;
typedef __u32 netns_t;	       /* inode of the network namespace */
typedef __u8 ip_address_t[16]; /* IPv4 as ::ffff:a.b.c.d */
typedef __u64 kaddr_t;	       /* kernel text address; JSON: symbol+offset */
#define KSTACK_DEPTH 32
typedef __u64 kstack_t[KSTACK_DEPTH]; /* innermost first, zero-terminated */
#define PATH_BYTES 320
typedef char path_t[PATH_BYTES]; /* names innermost first, each with its NUL; see vfs.bpf.h */
#define PACKET_BYTES 128
typedef __u8 packet_t[PACKET_BYTES]; /* the headers of a packet, and what follows them */

/* What an allocation of pages may do, gfp_t; JSON: the kernel's names of the flags. */
typedef __u32 gfp_flags_t;

/* A number whose names are an enum of the running kernel, which differs between kernels. */
#define KERNEL_ENUM(name) __attribute__((btf_decl_tag("kernel_enum:" name)))

/* values of exported maps: each becomes one metric family, see probes/bpf.py */
typedef __u64 counter_t;       /* …_total */
typedef __u64 counter_ns_t;    /* …_seconds_total */
typedef __u64 counter_bytes_t; /* …_bytes_total */
typedef __u64 gauge_t;
typedef __u64 gauge_ns_t; /* …_seconds */

/*
 * A ring and the type of its records: one record type per ring. The pointer variable keeps the
 * type in BTF; libbpf skips the section, no map is created for it.
 */
#define RING(ring, record, size)                    \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, size);          \
	} ring SEC(".maps");                        \
	record *ring##__record SEC(".records")

/* Labels of an enum in a record: the enum's own names, without the given prefix, lower case. */
#define ENUM_PREFIX(prefix) __attribute__((btf_decl_tag("prefix:" prefix)))

#endif
