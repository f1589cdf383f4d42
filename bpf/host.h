/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the packet program needs of the place it runs in. Three implementations: the kernel by XDP, the kernel
 * by traffic control (PM_SKB), and memory (wasm32 for the userspace plane, native for fuzzing). The stages know
 * nothing else of it.
 *
 *   pm_<map>(index)       record of a map, or NULL beyond its end
 *   pm_limits             sizes of the maps
 *   pm_now()              ticks of a coarse monotonic clock
 *   pm_cpu()              row of the per-CPU maps
 *   pm_is_shared(row)     whether other CPUs write to that row, too
 *   pm_frame_*            the frame: bytes in reach, move its start, cut its end
 *   pm_host_fib(f, q)     next hop
 *   pm_host_resolves(f, hop)  whether the host finds the neighbour that it does not know yet: then `hop` is the way out
 *   pm_host_takes(f, if)  whether a frame received as this one can leave by an interface
 *   pm_host_cuts(f, mtu)  whether the frame, larger than that, leaves in fragments
 *   pm_uncut(f, set, line) the verdict if it does not
 *   pm_sum(f, off, len)   sum of 16-bit words over a range of the frame, which ends within PM_SUM_MAX
 *   pm_load32(p)          a word at any address of the frame; pm_store32(p, word) writes one
 *   pm_loop(n, fn, arg)   fn(i, arg) for i < n until it returns non-zero
 *   pm_unknown(x, from)   x, before a loop that changes and reads it. Linux before 6.7 follows fn through one round
 *                         only, and cuts out of the program what it does not come to: what it knows of `arg` then, it
 *                         takes for so in every round. `from`: any number of as many bits that it does not know
 */
#pragma once

#include "types.h"
#include "maps.h"

#ifdef __bpf__
#ifdef PM_SKB
struct __sk_buff;
#define PM_HOST struct __sk_buff
#else
struct xdp_md;
#define PM_HOST struct xdp_md
#endif
/*
 * A part of the program that the verifier checks on its own, once, whoever calls it: arguments are the
 * host, numbers, and pointers to records (which it takes as possibly NULL).
 */
#define PM_PART __attribute__((noinline))
#else
#define PM_HOST struct pm_job
#ifndef PM_PART
#define PM_PART static
#endif
#endif

/* The frame under treatment. data and end move with pm_frame_*: derive pointers again afterwards. */
struct pm_frame {
	__u8 *data;
	__u8 *end;	/* of the bytes in reach */
	__u32 length;	/* of the whole frame */
	__u32 ifindex;	/* received from; out: send to */
	__u32 flags;	/* enum pm_job_flag */
	__u32 segment;	/* IP bytes of the largest segment of a super-packet, 0 = not one */
	PM_HOST *host;
};

/* A next hop: what a frame that goes there is given, and how much of it can be. */
struct pm_next_hop {
	__u8 dmac[6];
	__u8 smac[6];
	__u32 mtu; /* of the path */
	__u32 ifindex;
};

#define PM_NULL ((void *)0)

/* Where other CPUs' work may come in between; tests put something there. */
#ifndef PM_STEP
#define PM_STEP() ((void)0)
#endif

/*
 * One load or store of exactly this width, not to be torn or repeated.
 *
 * Records that others rewrite meanwhile are read in an order that every processor keeps: pm_glance(x) reads
 * a word before anything that is read after it (BPF: through pm_after), and pm_after(p, x) is the pointer p
 * that nothing can be read by before x is known.
 */
#define pm_read(x) (*(volatile typeof(x) *)&(x))
#define pm_write(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define pm_add(p, v) (PM_STEP(), (void)__sync_fetch_and_add((p), (v)))
#define pm_swap(p, old, new) (PM_STEP(), __sync_val_compare_and_swap((p), (old), (new)) == (old))

/* Bits of a word, in one step that whatever is written before it comes before; the word as it was. */
#define pm_set_bits(p, bits) (PM_STEP(), __sync_fetch_and_or((p), (bits)))
#define pm_clear_bits(p, bits) (PM_STEP(), __sync_fetch_and_and((p), ~(bits)))

/* Everything written before is visible to whoever reads the new value. */
#define pm_publish(p, v) (PM_STEP(), (void)__sync_lock_test_and_set((p), (v)))

#define pm_likely(x) __builtin_expect(!!(x), 1)
#define pm_unlikely(x) __builtin_expect(!!(x), 0)
#define pm_inline static inline __attribute__((always_inline))

#ifdef __bpf__
#include "host-bpf.h"
#else
#include "host-memory.h"
#endif

/*
 * Whether the host can keep a fragment until all of its datagram has come; whether somebody else can, who takes what
 * this host passes on.
 */
#ifndef __bpf__
#define pm_can_wait(f, set) ((void)(set), (f)->flags & PM_JOB_WAITS)
#elif defined(PM_SKB)
#define pm_can_wait(f, set) (((set)->flags & PM_SETTING_DATAGRAMS) && !((f)->host->cb[0] & (PM_SKB_LOOSE | PM_SKB_WHOLE)))
#else
#define pm_can_wait(f, set) ((void)(f), (void)(set), 0)
#define pm_waits_elsewhere(set) ((set)->flags & PM_SETTING_DATAGRAMS)
#endif
#ifndef pm_waits_elsewhere
#define pm_waits_elsewhere(set) ((void)(set), 0)
#endif

/*
 * What becomes of a frame that is to be cut, and cannot be here. `line`: of the connection that it was counted for,
 * or one of these: it was counted, and a second run needs no line; nothing has been done yet.
 */
#define PM_CUT_COUNTED PM_NONE
#define PM_CUT_UNCOUNTED (PM_NONE - 1)
#ifndef pm_uncut
#define pm_uncut(f, set, line) ((void)(f), (void)(set), (void)(line), PM_DROP_FRAGMENTATION)
#endif

/* What frames of the kernel's stack have that others do not: host-skb.h says it for them. */
#ifndef PM_SKB
/* Whether the frame comes again, with all of it in reach: counted already. */
#define pm_is_resumed(f) ((f)->flags & PM_JOB_RESUMED)
/* Finds out about PM_JOB_PARTIAL_CSUM; pointers into the frame are to be derived again. */
#define pm_find_partial(f) ((void)(f))
/* A sum over headers: pointers into the frame stay good. */
#define pm_sum_plain(f, off, len) pm_sum((f), (off), (len))
/* IP bytes of the largest segment of a super-packet, 0 if it is none. */
#define pm_segment(f, p) ((f)->segment)
/* Room for the headers of a real server's tunnel. */
#define pm_frame_encap(f, bytes, real) pm_frame_move((f), -(int)(bytes))
/* Whether a checksum over all of the frame is one over what leaves: a super-packet goes out in pieces. */
#define pm_is_whole(f) ((void)(f), 1)
/* Whether the stack takes the frame for one to this host, whatever is known of the interface's addresses. */
#define pm_is_delivered(host) ((void)(host), 0)
/* Where the transport header is; by how much the sum over the bytes of the packet has changed. */
#define pm_frame_transport(f, p) ((void)(f), (void)(p))
#define pm_bytes_changed(f, change) ((void)(f), (void)(change))
#define pm_is_tagged(f, eth) \
	((void)(f), (eth)->type == pm_htons(PM_ETHERTYPE_VLAN) || (eth)->type == pm_htons(PM_ETHERTYPE_QINQ))
#endif

/* The frame as the host has it now. */
pm_inline struct pm_frame pm_frame_open(PM_HOST *host)
{
	struct pm_frame f = { .host = host };

	pm_frame_load(&f);
	return f;
}

/*
 * A header does not lie within the bytes in reach. If the frame goes on elsewhere (userspace host),
 * ask for the rest, else it is what `verdict` says.
 */
pm_inline enum pm_verdict pm_short(const struct pm_frame *f, enum pm_verdict verdict)
{
	return pm_reach(f) < f->length ? PM_WANT_PAYLOAD : verdict;
}
