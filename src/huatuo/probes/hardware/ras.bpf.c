// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What the hardware reports about itself. Each source is hooked alone, raw and by name, because
 * hardly a kernel has them all; of their arguments only what is the same everywhere is read.
 * Layouts: struct mce is uapi, and the first member of what is passed instead since 6.13; CPER
 * sections are laid down by UEFI.
 *
 * Errors that were corrected can come by the thousands. Of one place the first is an event, then
 * those since the last event are one together, after a time that doubles.
 */
#include "account.bpf.h"
#include "event.bpf.h"

#define DEVICE_BYTES 32
#define MESSAGE_BYTES 96
#define MOST_DOUBLINGS 6

const volatile __u32
	corrected_threshold DOC("corrected errors of one place before the first event") = 1;
const volatile duration_ns_t corrected_interval DOC("least time between two events about corrected "
						    "errors of one place; it doubles with each, up "
						    "to 64 times, while they go on") = 60000000000;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thermal_zone_device {
	char type[20];
	int temperature; /* thousandths of a degree */
};

struct cper_sec_proc_arm {
	__u64 mpidr;
};

#pragma clang attribute pop

struct mce { /* uapi/asm/mce.h */
	__u64 status;
	__u64 misc;
	__u64 addr;
	__u64 mcgstatus;
	__u64 ip;
	__u64 tsc;
	__u64 time;
	__u8 cpuvendor;
	__u8 inject_flags;
	__u8 severity;
	__u8 pad;
	__u32 cpuid;
	__u8 cs;
	__u8 bank;
	__u8 cpu;
	__u8 finished;
	__u32 extcpu;
	__u32 socketid;
	__u32 apicid;
	__u64 mcgcap;
	__u64 synd;
};

struct cper_sec_mem_err { /* UEFI, appendix N.2.5 */
	__u64 validation_bits;
	__u64 error_status;
	__u64 physical_addr;
};

enum ras_source {
	RAS_MCE,
	RAS_EDAC,
	RAS_AER,
	RAS_GHES,
	RAS_FIRMWARE,
	RAS_ARM,
	RAS_MEMORY_FAILURE,
	RAS_THRESHOLD,
	RAS_DEFERRED,
	RAS_THERMAL,
};

enum ras_severity {
	SEVERITY_CORRECTED,
	SEVERITY_DEFERRED,
	SEVERITY_RECOVERABLE,
	SEVERITY_FATAL,
	SEVERITY_INFO,
};

struct ras_key {
	enum ras_source source DOC("who reported it");
	enum ras_severity severity DOC("what became of it");
};

struct ras_count {
	counter_t errors DOC("errors that the hardware reported");
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct ras_key);
	__type(value, struct ras_count);
} errors SEC(".maps");

struct ras_error {
	ktime_ns_t time DOC("when it was reported");
	count_t errors DOC("errors of this place since its last event, with this one");
	__u64 status DOC("status register of the bank (mce) or of the device (aer)");
	__u64 address
		DOC("physical address, where it is known; number of the page (memory_failure)");
	__u64 misc DOC("second register of the bank (mce)");
	__u64 syndrome DOC("syndrome, as the hardware gives it");
	char device[DEVICE_BYTES] DOC("PCI address, memory module, thermal zone");
	char message[MESSAGE_BYTES] DOC("what the driver or the firmware says");
	enum ras_source source DOC(
		"mce: machine check; edac: memory controller; aer: PCI Express; ghes: memory, by "
		"the "
		"firmware; firmware: another section of its; arm: processor; memory_failure: what "
		"the "
		"kernel did about a page; threshold, deferred: interrupts of a processor; thermal");
	enum ras_severity severity DOC("corrected, deferred, recoverable, fatal or info");
	__u32 cpu DOC("CPU (mce, arm)");
	__u32 bank DOC("bank of the CPU (mce), memory controller (edac)");
	__u32 detail DOC("type of page (memory_failure), grain (edac), trip point (thermal)");
};

RING(ras_errors, struct ras_error, 64 * 1024);

struct pace {
	__u64 next; /* no event before */
	__u64 interval;
	__u64 held; /* errors since the last event */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct pace);
} paces SEC(".maps");

static __always_inline __u64 place_hash(const struct ras_error *error)
{
	const __u64 *words = (const __u64 *)error->device;
	__u64 hash = (__u64)error->source << 56 | (__u64)error->cpu << 32 | error->bank;

	for (int i = 0; i < DEVICE_BYTES / 8; i++)
		hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15ULL;
	return hash;
}

/* Whether corrected errors of this place are due for an event; then `errors` is how many. */
static __always_inline bool is_due(struct ras_error *error)
{
	struct pace *pace, first = {.interval = corrected_interval};
	__u64 hash = place_hash(error);

	pace = bpf_map_lookup_elem(&paces, &hash);
	if (!pace) {
		bpf_map_update_elem(&paces, &hash, &first, BPF_NOEXIST);
		pace = bpf_map_lookup_elem(&paces, &hash);
		if (!pace)
			return true;
	}
	pace->held += error->errors;
	if (error->time < pace->next || pace->held < corrected_threshold)
		return false;
	if (error->time > pace->next + pace->interval) /* it was quiet meanwhile */
		pace->interval = corrected_interval;
	error->errors = pace->held;
	pace->held = 0;
	pace->next = error->time + pace->interval;
	if (pace->interval < corrected_interval << MOST_DOUBLINGS)
		pace->interval *= 2;
	return true;
}

static __always_inline void count(const struct ras_error *error)
{
	struct ras_key key = {.source = error->source, .severity = error->severity};
	struct ras_count *found = bpf_map_lookup_elem(&errors, &key);
	struct ras_count first = {.errors = error->errors};

	if (found)
		__sync_fetch_and_add(&found->errors, error->errors);
	else if (bpf_map_update_elem(&errors, &key, &first, BPF_NOEXIST))
		ACCOUNT(map_full);
}

static __always_inline int report(struct ras_error *error)
{
	struct ras_error *record;

	if (!error->errors)
		error->errors = 1;
	error->time = bpf_ktime_get_ns();
	count(error);
	if (error->severity == SEVERITY_CORRECTED && !is_due(error)) {
		ACCOUNT(produced);
		ACCOUNT(rate_limited);
		return 0;
	}
	record = event_reserve(&ras_errors, sizeof(*record), 0, error->time);
	if (!record)
		return 0;
	*record = *error;
	ring_submit(&ras_errors, record);
	return 0;
}

#define STATUS_UNCORRECTED (1ULL << 61)
#define STATUS_CONTEXT_CORRUPT (1ULL << 57)
#define STATUS_DEFERRED (1ULL << 44) /* AMD only; of Intel's it is a part of other fields */
#define VENDOR_AMD 2
#define VENDOR_HYGON 9

static __always_inline enum ras_severity mce_severity(const struct mce *mce)
{
	if (mce->status & STATUS_UNCORRECTED)
		return mce->status & STATUS_CONTEXT_CORRUPT ? SEVERITY_FATAL : SEVERITY_RECOVERABLE;
	if ((mce->cpuvendor == VENDOR_AMD || mce->cpuvendor == VENDOR_HYGON) &&
	    mce->status & STATUS_DEFERRED)
		return SEVERITY_DEFERRED;
	return SEVERITY_CORRECTED;
}

SEC("raw_tp/mce_record")
int mce(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_MCE};
	struct mce mce = {};

	bpf_probe_read_kernel(&mce, sizeof(mce), (void *)ctx->args[0]);
	error.severity = mce_severity(&mce);
	error.status = mce.status;
	error.address = mce.addr;
	error.misc = mce.misc;
	error.syndrome = mce.synd;
	error.cpu = mce.extcpu;
	error.bank = mce.bank;
	return report(&error);
}

/* enum hw_event_mc_err_type, include/linux/edac.h */
static __always_inline enum ras_severity edac_severity(__u32 type)
{
	switch (type) {
	case 0:
		return SEVERITY_CORRECTED;
	case 2:
		return SEVERITY_DEFERRED;
	case 3:
		return SEVERITY_FATAL;
	case 4:
		return SEVERITY_INFO;
	}
	return SEVERITY_RECOVERABLE;
}

/* (type, message, label, count, controller, three layers, address, grain, syndrome, detail) */
SEC("raw_tp/mc_event")
int edac(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_EDAC, .severity = edac_severity(ctx->args[0])};

	error.errors = (__u32)ctx->args[3];
	error.bank = (__u8)ctx->args[4];
	error.address = ctx->args[8];
	error.detail = (__u8)ctx->args[9];
	error.syndrome = ctx->args[10];
	bpf_probe_read_kernel_str(error.message, sizeof(error.message), (void *)ctx->args[1]);
	bpf_probe_read_kernel_str(error.device, sizeof(error.device), (void *)ctx->args[2]);
	return report(&error);
}

/* (device, status, severity, …); include/linux/aer.h */
SEC("raw_tp/aer_event")
int aer(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_AER, .status = (__u32)ctx->args[1]};
	__u8 severity = ctx->args[2];

	error.severity = severity == 2	 ? SEVERITY_CORRECTED
			 : severity == 1 ? SEVERITY_FATAL
					 : SEVERITY_RECOVERABLE;
	bpf_probe_read_kernel_str(error.device, sizeof(error.device), (void *)ctx->args[0]);
	return report(&error);
}

/* Of CPER: include/linux/cper.h */
static __always_inline enum ras_severity cper_severity(__u8 severity)
{
	switch (severity) {
	case 1:
		return SEVERITY_FATAL;
	case 2:
		return SEVERITY_CORRECTED;
	case 3:
		return SEVERITY_INFO;
	}
	return SEVERITY_RECOVERABLE;
}

/* (section, number, id of the part, text of the part, severity) */
SEC("raw_tp/extlog_mem_event")
int ghes(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_GHES, .severity = cper_severity(ctx->args[4])};
	struct cper_sec_mem_err section = {};

	bpf_probe_read_kernel(&section, sizeof(section), (void *)ctx->args[0]);
	error.status = section.error_status;
	error.address = section.physical_addr;
	bpf_probe_read_kernel_str(error.device, sizeof(error.device), (void *)ctx->args[3]);
	return report(&error);
}

/* (type of the section, id and text of the part, severity, data, length) */
SEC("raw_tp/non_standard_event")
int firmware(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_FIRMWARE, .severity = cper_severity(ctx->args[3])};

	bpf_probe_read_kernel_str(error.device, sizeof(error.device), (void *)ctx->args[2]);
	return report(&error);
}

static __always_inline int report_arm(struct cper_sec_proc_arm *section, __u8 severity, __u32 cpu)
{
	struct ras_error error = {.source = RAS_ARM, .severity = cper_severity(severity)};

	error.address = BPF_CORE_READ(section, mpidr);
	error.cpu = cpu;
	return report(&error);
}

/* Nine arguments first: with less, the severity is not known, and it counts as recoverable. */
SEC("tp_btf/arm_event")
int BPF_PROG(arm__nine, struct cper_sec_proc_arm *section, __u8 *errors, __u32 errors_length,
	     __u8 *context, __u32 context_length, __u8 *vendor, __u32 vendor_length, __u8 severity,
	     int cpu)
{
	return report_arm(section, severity, cpu);
}

SEC("tp_btf/arm_event")
int BPF_PROG(arm__one, struct cper_sec_proc_arm *section)
{
	return report_arm(section, 0, 0);
}

/* (page frame, type of page, result); include/linux/mm.h */
SEC("raw_tp/memory_failure_event")
int memory_failure(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_MEMORY_FAILURE, .address = ctx->args[0]};

	error.detail = ctx->args[1];
	error.status = (__u32)ctx->args[2];
	error.severity = error.status < 2 ? SEVERITY_FATAL : SEVERITY_RECOVERABLE;
	return report(&error);
}

/* A processor's own count of corrected errors went over its threshold. */
SEC("raw_tp/threshold_apic_entry")
int threshold(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_THRESHOLD, .cpu = bpf_get_smp_processor_id()};

	return report(&error);
}

SEC("raw_tp/deferred_error_apic_entry")
int deferred(struct bpf_raw_tracepoint_args *ctx)
{
	struct ras_error error = {.source = RAS_DEFERRED, .severity = SEVERITY_DEFERRED};

	error.cpu = bpf_get_smp_processor_id();
	return report(&error);
}

/* (zone, trip point, its type): hot (2) and critical (3) only; the others are every day's cooling.
 */
SEC("raw_tp/thermal_zone_trip")
int thermal(struct bpf_raw_tracepoint_args *ctx)
{
	struct thermal_zone_device *zone = (void *)ctx->args[0];
	struct ras_error error = {.source = RAS_THERMAL, .detail = ctx->args[1]};
	__u32 type = ctx->args[2];

	if (type < 2)
		return 0;
	error.severity = type == 3 ? SEVERITY_FATAL : SEVERITY_RECOVERABLE;
	error.status = BPF_CORE_READ(zone, temperature);
	BPF_CORE_READ_STR_INTO(&error.device, zone, type);
	return report(&error);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
