/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Strays: packets of NAT real servers that belong to no connection (sysctl nat_icmp_send, dataplane.md
 * §6.1). The real server is told by an ICMP error that nobody listens there, and the packet ends here.
 *
 * Only packets that the stack would forward are strays. IPVS takes those for the director itself too, and
 * with them the answers to its own health checks of the real servers: here they stay the stack's.
 */
#pragma once

#include "send.h"
#include "sip.h"

/*
 * Destinations that the stack never forwards to, though a default route may seem to lead there: RFC 1812
 * §5.3.7 (0.0.0.0, loopback, multicast, limited broadcast), RFC 4291 §2.5 (the same, link-local).
 */
pm_inline int pm_never_forwarded(int family, const __be32 *to)
{
	__be32 a = to[0];

	if (family == 6)
		return (a & pm_htonl(0xff000000)) == pm_htonl(0xff000000) ||
		       (a & pm_htonl(0xffc00000)) == pm_htonl(0xfe800000) ||
		       (!a && !to[1] && !to[2] && !(to[3] & ~pm_htonl(1)));
	return !a || (a & pm_htonl(0xff000000)) == pm_htonl(0x7f000000) ||
	       (a & pm_htonl(0xf0000000)) == pm_htonl(0xe0000000) || a == 0xffffffffu;
}

/*
 * A packet that the stages before have left to the stack because no virtual service is concerned: looked
 * at from outside of them (the verifier counts the stack of a chain of calls), from the beginning. The NAT real
 * server that it is of, which the stack would forward it for, in the low half; in the high one where its transport
 * header is, and above that the length of the IP packet. PM_NO_LINE: none. Its key is left in this CPU's room.
 */
pm_inline __u64 pm_sender(PM_HOST *host, int family)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_call *call = pm_call_room();
	const struct pm_real *real;
	struct pm_packet p = {};
	struct pm_fib q = {};
	__u32 index;

	if (!call || f.data + PM_ETH_LEN > f.end)
		return PM_NO_LINE;
	if ((family == 4 ? pm_parse_ipv4(&f, &p) : pm_parse_ipv6(&f, &p)) != PM_CONTINUE)
		return PM_NO_LINE;
	/* A reset needs no answer. The stack answers the end of a TTL before IPVS would see the packet. */
	if ((p.tcp_flags & PM_TCP_RST) || p.ttl <= 1)
		return PM_NO_LINE;
	index = pm_find_nat_real(family, &p.key);
	real = pm_reals(index);
	/* From outside nothing comes from an address of our own: the stack drops it. */
	if (!real || (real->flags & PM_REAL_LOCAL))
		return PM_NO_LINE;
	if (pm_never_forwarded(family, p.key.daddr))
		return PM_NO_LINE;
	pm_fib_addresses(&q, family, p.key.saddr, p.key.daddr);
	q.protocol = p.key.protocol;
	q.ifindex = f.ifindex;
	switch (pm_host_fib(host, &q)) {
	case PM_FIB_OK:
		/* The stack tells of the path's limit first, too. */
		if (pm_wire_length(&f, &p) > q.mtu && pm_unfragmentable(&f, family))
			return PM_NO_LINE;
		break;
	case PM_FIB_NO_NEIGHBOUR:
		break;
	default:
		return PM_NO_LINE;
	}
	call->key = p.key;
	return ((__u64)p.ip_length << 16 | p.l4) << 32 | index;
}

PM_PART __u64 pm_sender4(PM_HOST *host)
{
	return pm_sender(host, 4);
}

PM_PART __u64 pm_sender6(PM_HOST *host)
{
	return pm_sender(host, 6);
}

/* Answers a stray, of this sender. Verdict, and in the high half the interface the answer leaves by. */
pm_inline __u64 pm_stray(PM_HOST *host, int family, __u64 sender)
{
	struct pm_frame f = pm_frame_open(host);
	const struct pm_real *real = pm_reals(sender);
	enum pm_verdict v;
	const __be32 *source;

	if (!real || f.data + PM_ETH_LEN > f.end)
		return PM_PASS_NO_SERVICE;
	source = (const __be32 *)real->source;
	if (!source[0] && (family == 4 || (!source[1] && !source[2] && !source[3])))
		return PM_DROP_ANSWER_FAILED;
	/* The quote shows the TTL already taken down. Do that only once the whole packet is here. */
	if (pm_reach(&f) < f.length)
		return PM_WANT_PAYLOAD;
	if (pm_decrement_ttl(&f, family))
		return PM_DROP_MAP;
	v = pm_answer_as(&f, family, sender >> 48, PM_ANSWER_PORT_UNREACHABLE, 0, pm_now(), sender);
	return (__u64)f.ifindex << 32 | v;
}

PM_PART __u64 pm_stray4(PM_HOST *host, __u64 sender)
{
	return pm_stray(host, 4, sender);
}

PM_PART __u64 pm_stray6(PM_HOST *host, __u64 sender)
{
	return pm_stray(host, 6, sender);
}
