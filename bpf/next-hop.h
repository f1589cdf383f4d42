/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where a packet goes out: asked of the kernel's FIB once, then kept in the connection line. */
#pragma once

#include "connection.h"

/*
 * A kept next hop is good for 2^12 ticks (34 s) at most, also when no daemon is there to say that
 * routes or neighbours have changed.
 */
#define PM_EPOCH_SHIFT 12

pm_inline __u32 pm_epoch(const struct pm_settings *set, __u32 now)
{
	return pm_read(set->next_hop_epoch) + (now >> PM_EPOCH_SHIFT);
}

pm_inline void pm_copy_mac(__u8 *to, const __u8 *from)
{
	/* Halfwords: all that these addresses are aligned to, and the verifier insists on the stack. */
	__u16 *t = (__u16 *)to;
	const __u16 *s = (const __u16 *)from;

	t[0] = s[0];
	t[1] = s[1];
	t[2] = s[2];
}

/* Fills q's addresses: `family` is that of the packet that goes out. */
pm_inline void pm_fib_addresses(struct pm_fib *q, int family, const __be32 *saddr, const __be32 *daddr)
{
	q->family = family;
	if (family == 4) {
		*(__be32 *)q->saddr = saddr[0];
		*(__be32 *)q->daddr = daddr[0];
	} else {
		__builtin_memcpy(q->saddr, saddr, 16);
		__builtin_memcpy(q->daddr, daddr, 16);
	}
}

/* Writes a next hop to the line it belongs to, unless another CPU is doing so, or the line has a new owner. */
pm_inline void pm_keep_hop(struct pm_conn *c, const struct pm_conn *seen)
{
	if (!c || !pm_hold(c, seen->word))
		return;
	pm_copy_mac(c->smac, seen->smac);
	pm_copy_mac(c->dmac, seen->dmac);
	c->mtu = seen->mtu;
	c->ifindex = seen->ifindex;
	c->gateway = seen->gateway;
	c->hop_epoch = seen->hop_epoch;
	pm_commit(c);
}

PM_PART int pm_keep_hop4(__u32 index, const struct pm_seen *seen)
{
	if (seen)
		pm_keep_hop(pm_line(4, index), &seen->c);
	return 0;
}

PM_PART int pm_keep_hop6(__u32 index, const struct pm_seen *seen)
{
	if (seen)
		pm_keep_hop(pm_line(6, index), &seen->c);
	return 0;
}

/*
 * Looks up the next hop of a connection that was seen: to the real server, or of its replies to the client.
 * `k` is that of the line.
 */
pm_inline __u32 pm_route_line(PM_HOST *host, int family, struct pm_seen *seen, const struct pm_key *k,
			      __u32 epoch)
{
	enum pm_fib_result rc;
	struct pm_fib q = {};
	struct pm_real *real;
	struct pm_conn *c;

	if (!seen || !k)
		return PM_FIB_NO_ROUTE;
	c = &seen->c;
	real = pm_reals(c->real);
	if (!real)
		return PM_FIB_NO_ROUTE;
	q.protocol = c->protocol;
	if (c->kind == PM_CONN_REPLY) {
		/* Like a packet of our own from the virtual address (sysctl snat_reroute=1). */
		pm_fib_addresses(&q, family, seen->new_addr, k->daddr);
	} else if (c->method == PM_METHOD_TUN) {
		pm_fib_addresses(&q, real->family, (const __be32 *)real->source, (const __be32 *)real->addr);
	} else {
		pm_fib_addresses(&q, family, k->saddr, (const __be32 *)real->addr);
	}
	q.ifindex = pm_frame_open(host).ifindex;
	rc = pm_host_fib(host, &q);
	if (rc == PM_FIB_LOCAL && !(c->kind == PM_CONN_IN && (real->flags & PM_REAL_LOCAL)))
		rc = PM_FIB_NO_ROUTE; /* the kernel's FIB says the same of both */
	/* The stack resolves on its own, where it is the one to send (pm_hand_over). */
	if (rc == PM_FIB_NO_NEIGHBOUR && c->method == PM_METHOD_NAT && (c->kind == PM_CONN_IN || family == 6) &&
	    !pm_host_takes(host, q.ifindex)) {
		c->ifindex = 0;
		return PM_FIB_STACK_ONLY;
	}
	/*
	 * A neighbour that is being resolved again does not interrupt a connection that had it. Another one
	 * that is not known yet does: the daemon is told by the drop. Neither is kept as good.
	 */
	if (rc == PM_FIB_NO_NEIGHBOUR && c->ifindex && c->ifindex == q.ifindex && c->gateway == q.gateway)
		return PM_FIB_OLD;
	if (rc != PM_FIB_OK) {
		c->ifindex = 0;
		return rc;
	}
	pm_copy_mac(c->smac, q.smac);
	pm_copy_mac(c->dmac, q.dmac);
	c->mtu = q.mtu > 65535 ? 65535 : q.mtu;
	c->ifindex = q.ifindex;
	c->gateway = q.gateway;
	c->hop_epoch = epoch;
	return PM_FIB_OK;
}

PM_PART __u32 pm_route4(PM_HOST *host, struct pm_seen *seen, const struct pm_key *k, __u32 epoch)
{
	return pm_route_line(host, 4, seen, k, epoch);
}

PM_PART __u32 pm_route6(PM_HOST *host, struct pm_seen *seen, const struct pm_key *k, __u32 epoch)
{
	return pm_route_line(host, 6, seen, k, epoch);
}

/* The next hop that the daemon keeps for the connection's real server, into what was seen; 0 if it knows none. */
PM_PART int pm_kept_hop(struct pm_seen *seen, __u32 epoch)
{
	const struct pm_real *real;
	const struct pm_hop *hop;
	__u32 version, any = 0, mtu, ifindex;
	const pm_u32 *to, *address;
	const __u16 *mac;

	if (!seen)
		return 0;
	real = pm_reals(seen->c.real);
	hop = pm_hops(seen->c.real);
	if (!hop || !real)
		return 0;
	version = pm_glance(hop->version);
	hop = pm_after(hop, version);
	mac = (const __u16 *)hop->dmac;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		any |= ((__u16 *)seen->c.dmac)[i] = pm_glance(mac[i]);
		any |= ((__u16 *)seen->c.smac)[i] = pm_glance(mac[3 + i]);
	}
	any |= ifindex = pm_glance(hop->ifindex);
	any |= mtu = pm_glance(hop->mtu);
	to = (const pm_u32 *)hop->addr;
	address = (const pm_u32 *)real->addr;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 word = pm_glance(to[i]);

		any |= word;
		if (word != address[i])
			return 0;
	}
	if (!ifindex || (version & 1) || pm_glance(pm_after(hop, any)->version) != version)
		return 0;
	seen->c.ifindex = ifindex;
	seen->c.mtu = mtu > 65535 ? 65535 : mtu;
	seen->c.gateway = 0;
	seen->c.hop_epoch = epoch;
	return 1;
}

/* The next hop into what was seen, and its line; PM_FIB_LOCAL means that the real server is this host. */
pm_inline __u32 pm_route(PM_HOST *host, int family, struct pm_seen *seen, const struct pm_key *k, __u32 index,
			 __u32 epoch)
{
	__u32 rc = family == 4 ? pm_route4(host, seen, k, epoch) : pm_route6(host, seen, k, epoch);

	if (rc == PM_FIB_OLD)
		return PM_FIB_OK;
	if (rc == PM_FIB_FORWARDING_OFF && seen->c.kind == PM_CONN_IN && pm_kept_hop(seen, epoch))
		rc = PM_FIB_OK;
	if (family == 4)
		pm_keep_hop4(index, seen);
	else
		pm_keep_hop6(index, seen);
	return rc;
}

pm_inline int pm_hop_known(const struct pm_conn *c, __u32 epoch)
{
	return c->ifindex && c->hop_epoch == (__u16)epoch;
}
