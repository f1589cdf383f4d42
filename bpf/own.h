/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Clients that are this host itself. What its sockets send to a virtual address would reach the stack by `lo`; it is
 * led to a pair of links of ours instead (own-way.h), of which the program has one end, and comes like any
 * client's. Answers go back by that pair: at its other end the stack takes packets whose source is its own.
 */
#pragma once

#include "icmp-error.h"

/* Whether frames that come in here are of this host's own sockets. */
pm_inline int pm_is_own(const struct pm_settings *set, __u32 ifindex)
{
	const struct pm_neighbour *n;

	if (pm_likely(!(set->flags & PM_SETTING_OWN)))
		return 0;
	n = pm_neighbours(PM_NEIGHBOUR_OWN);
	return n && n->ifindex == ifindex;
}

/*
 * What a socket of this host is told of a path's limit. By IPv6 the kernel learns none for an address of its own
 * that is not below the MTU of the interface with that address: the least there is always is.
 */
pm_inline __u32 pm_own_limit(const struct pm_settings *set, int family, __u32 ifindex, __u32 limit)
{
	return family == 6 && limit > PM_ICMPV6_MAX && pm_is_own(set, ifindex) ? PM_ICMPV6_MAX : limit;
}

/* A socket to which the virtual address is an own one gets that very address from the kernel, if it asks for none. */
pm_inline int pm_from_itself(int family, const struct pm_key *k)
{
	__be32 differs = k->saddr[0] ^ k->daddr[0];

	if (family == 6)
		differs |= (k->saddr[1] ^ k->daddr[1]) | (k->saddr[2] ^ k->daddr[2]) | (k->saddr[3] ^ k->daddr[3]);
	return !differs;
}

/*
 * A DR or TUN real server has the virtual address, too, and takes nothing that comes from there: such a client
 * gets our address towards the real server instead.
 */
pm_inline enum pm_verdict pm_lend_source(PM_HOST *host, int family, const struct pm_packet *p, __u32 real_index)
{
	struct pm_nat nat = { .source = 1 };
	struct pm_real *real = pm_reals(real_index);
	struct pm_frame f = pm_frame_open(host);
	const __be32 *source;

	if (!p || !real)
		return PM_DROP_MAP;
	source = (const __be32 *)real->source;
	/* A tunnel's own source is of the other family where the tunnel is. */
	if (real->family != family || !(source[0] | source[1] | source[2] | source[3]))
		return PM_DROP_NO_TUNNEL_SOURCE;
	nat.addr = source;
	nat.port = p->key.sport;
	return pm_translate(&f, p, family, &nat);
}

PM_PART __u32 pm_lend_source4(PM_HOST *host, const struct pm_packet *p, __u32 real)
{
	return pm_lend_source(host, 4, p, real);
}

PM_PART __u32 pm_lend_source6(PM_HOST *host, const struct pm_packet *p, __u32 real)
{
	return pm_lend_source(host, 6, p, real);
}

/* To be called with the packet as it came. PM_CONTINUE: it may go on to a real server with the virtual address. */
pm_inline enum pm_verdict pm_own_source(struct pm_frame *f, int family, const struct pm_settings *set,
					const struct pm_packet *p, __u32 real)
{
	enum pm_verdict v;

	if (pm_likely(!pm_is_own(set, f->ifindex)) || !pm_from_itself(family, &p->key))
		return PM_CONTINUE;
	v = family == 4 ? pm_lend_source4(f->host, p, real) : pm_lend_source6(f->host, p, real);
	pm_frame_load(f);
	return v;
}
