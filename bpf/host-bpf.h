/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The kernel as host: memory-mappable arrays, the kernel's own FIB. What a frame is, and how it leaves, is
 * another matter with XDP (host-xdp.h) and with traffic control (host-skb.h).
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Makes the compiler forget what it knows of x, so that it keeps the tests the verifier wants. */
#define pm_opaque(x) asm volatile("" : "+r"(x))

/* Makes it read a record where that stands anyway, instead of keeping the same a second time. */
#define pm_stored(x) asm volatile("" : "+m"(x))

/* There is no load-acquire in BPF before Linux 6.15: an address that depends on a value is read after it. */
#define pm_glance(x) pm_read(x)
#define pm_after(p, x)                                          \
	({                                                      \
		__u64 _none = (x);                              \
		asm volatile("%0 &= 0" : "+r"(_none));          \
		(typeof(p))((__u8 *)(p) + _none);               \
	})

/* A word at any address of the frame. */
#define pm_load32(p) (*(const pm_u32 *)(p))
#define pm_store32(p, word) ((void)(*(pm_u32 *)(p) = (word)))

/*
 * Where the last byte that pm_sum covers may be: the verifier lets nobody look beyond 2^16 bytes of a frame.
 * Native XDP has smaller frames; generic mode shows any that the MTU allows.
 */
#define PM_SUM_MAX 65000

#define PM_AF_INET 2
#define PM_AF_INET6 10

const volatile struct pm_limits pm_limits = { .cpus = 1 };

#define PM_DEFINE_MAP(name, record, size)                             \
	struct {                                                      \
		__uint(type, BPF_MAP_TYPE_ARRAY);                     \
		__uint(map_flags, BPF_F_MMAPABLE);                    \
		__uint(max_entries, size);                            \
		__type(key, __u32);                                   \
		__type(value, record);                                \
	} name SEC(".maps");                                          \
	pm_inline record *pm_##name(__u32 index)                      \
	{                                                             \
		return bpf_map_lookup_elem(&name, &index);            \
	}
PM_MAPS(PM_DEFINE_MAP)

/* Room for what the stack has none for. A frame is one CPU's while the program runs. */
#define PM_DEFINE_ROOM(name, record)                                  \
	struct {                                                      \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);              \
		__uint(max_entries, 1);                               \
		__type(key, __u32);                                   \
		__type(value, record);                                \
	} name SEC(".maps");                                          \
	pm_inline record *pm_##name(void)                             \
	{                                                             \
		__u32 zero = 0;                                       \
                                                                      \
		return bpf_map_lookup_elem(&name, &zero);             \
	}

/* The last time that the clock was asked, in ticks, and in the high half when that was, in jiffies. */
__u64 pm_asked;

/*
 * The coarse clock moves when the kernel counts a jiffy, and a call costs most of what a look at the clock does (a
 * return, where the CPU is not trusted with those): it is asked once a jiffy, which no call is needed for.
 */
pm_inline __u32 pm_now(void)
{
	__u64 asked = pm_read(pm_asked), jiffy = bpf_jiffies64() << 32;
	__u32 now = asked;

	if (pm_unlikely(!asked || (asked ^ jiffy) >> 32)) {
		now = bpf_ktime_get_coarse_ns() >> PM_TICK_SHIFT;
		pm_write(pm_asked, jiffy | now);
	}
	return now;
}

/* CPUs that were not there when the maps were made, but have come since, share the last row. */
pm_inline __u32 pm_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return pm_likely(cpu < pm_limits.own_rows) ? cpu : pm_limits.cpus - 1;
}

pm_inline int pm_is_shared(__u32 row)
{
	return row >= pm_limits.own_rows;
}

#define pm_loop(n, fn, arg) bpf_loop(n, fn, arg, 0)

/* x ^= 0, the 0 made from a number that the verifier does not know either. */
#define pm_unknown(x, from)                                     \
	({                                                      \
		__u64 _one = (from), _same = _one;              \
		asm volatile("" : "+r"(_same));                 \
		(x) ^= _one ^ _same;                            \
	})

struct pm_summing {
	PM_HOST *ctx;
	__u32 off;
	__u64 sum;
};

#define PM_SUM_CHUNK 32

static long pm_sum_chunk(__u32 i, void *arg)
{
	struct pm_summing *s = arg;
	__u32 off = s->off + i * PM_SUM_CHUNK;
	__u8 *p;

	if (off > PM_SUM_MAX)
		return 1;
	p = (__u8 *)(long)s->ctx->data + off;
	if (p + PM_SUM_CHUNK > (__u8 *)(long)s->ctx->data_end)
		return 1;
#pragma unroll
	for (int k = 0; k < PM_SUM_CHUNK / 4; k++)
		s->sum += ((__u32 *)p)[k];
	return 0;
}

/* A function of its own, verified once. Callers have seen to it that the range ends within PM_SUM_MAX. */
PM_PART __u64 pm_sum_bytes(PM_HOST *ctx, __u32 off, __u32 len)
{
	struct pm_summing s = { .ctx = ctx, .off = off };
	__u8 *p, *end;

	if (off > PM_SUM_MAX || len > PM_SUM_MAX)
		return 0;
	bpf_loop(len / PM_SUM_CHUNK, pm_sum_chunk, &s, 0);
	off += len & ~(PM_SUM_CHUNK - 1);
	pm_opaque(off);
	if (off > PM_SUM_MAX)
		return 0;
	p = (__u8 *)(long)ctx->data + off;
	end = (__u8 *)(long)ctx->data_end;
	len &= PM_SUM_CHUNK - 1;
	for (int k = 0; k < PM_SUM_CHUNK / 4 - 1; k++) {
		if (len < 4 || p + 4 > end)
			break;
		s.sum += *(__u32 *)p;
		p += 4;
		len -= 4;
	}
	if (len >= 2 && p + 2 <= end) {
		s.sum += *(__u16 *)p;
		p += 2;
		len -= 2;
	}
	if (len == 1 && p + 1 <= end)
		s.sum += *p; /* RFC 1071: an odd byte is padded with zero behind it */
	return s.sum;
}

/* What the kernel's FIB says; `p` as it has left it. */
pm_inline enum pm_fib_result pm_ask_fib(PM_HOST *host, struct pm_fib *q, struct bpf_fib_lookup *p)
{
	long rc;

	p->family = q->family == 4 ? PM_AF_INET : PM_AF_INET6;
	p->l4_protocol = q->protocol;
	p->ifindex = q->ifindex;
	/* Asks for the route's own limit: without a length, traffic control is told the interface's. */
	p->tot_len = 1;
	if (q->family == 4) {
		p->tos = q->tos;
		p->ipv4_src = *(__u32 *)q->saddr;
		p->ipv4_dst = *(__u32 *)q->daddr;
	} else {
		/* bpf_fib_lookup finds nothing for a link-local source; no route here hangs on it. */
		if (q->saddr[0] != 0xfe || (q->saddr[1] & 0xc0) != 0x80)
			__builtin_memcpy(p->ipv6_src, q->saddr, 16);
		__builtin_memcpy(p->ipv6_dst, q->daddr, 16);
	}
	rc = bpf_fib_lookup(host, p, sizeof(*p), 0);
	q->ifindex = p->ifindex;
	/* The kernel puts the gateway, if there is one, in the destination's place. */
	q->gateway = (p->ipv6_dst[0] * 31 + p->ipv6_dst[1]) * 31 + p->ipv6_dst[2] * 17 + p->ipv6_dst[3];
	switch (rc) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		__builtin_memcpy(q->smac, p->smac, 6);
		__builtin_memcpy(q->dmac, p->dmac, 6);
		q->mtu = p->mtu_result;
		return PM_FIB_OK;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return PM_FIB_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return PM_FIB_FORWARDING_OFF;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		/* Local, or no route at all: the kernel does not say which. */
		return PM_FIB_LOCAL;
	default:
		return PM_FIB_NO_ROUTE;
	}
}

pm_inline __u32 pm_egress_flags(__u32 ifindex)
{
#pragma unroll
	for (int i = 0; i < PM_EGRESS_PROBES; i++) {
		const struct pm_egress *e = pm_egress((ifindex + i) % PM_EGRESSES);
		__u64 word;

		if (!e)
			break;
		word = *(const volatile __u64 *)e;
		if ((__u32)word == ifindex)
			return word >> 32;
		if (!word)
			break;
	}
	return 0;
}

#ifdef PM_SKB
#include "host-skb.h"
#else
#include "host-xdp.h"
#endif
