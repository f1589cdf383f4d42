/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where a packet goes out. To a real server: as the daemon has written it down for all of its connections. To a
 * client, and where no daemon knows: asked of the host's FIB once, then kept by the connection's line.
 */
#pragma once

#include "ends.h"
#include "neighbour.h"

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

/* Writes down in a line where its packets go, unless another CPU is doing so, or it has a new owner. */
pm_inline void pm_keep_neighbour(struct pm_conn *c, __u32 word, __u32 neighbour, __u32 epoch)
{
	if (!c || !pm_hold(c, word))
		return;
	pm_write(c->neighbour, neighbour);
	pm_commit(c, epoch);
}

PM_PART int pm_keep_neighbour4(__u32 index, __u32 word, __u32 neighbour, __u32 epoch)
{
	pm_keep_neighbour(pm_line(4, index), word, neighbour, epoch);
	return 0;
}

PM_PART int pm_keep_neighbour6(__u32 index, __u32 word, __u32 neighbour, __u32 epoch)
{
	pm_keep_neighbour(pm_line(6, index), word, neighbour, epoch);
	return 0;
}

/*
 * Looks up the next hop of a connection that was seen: to the real server, or of its replies to the client.
 * `k` is that of the line. enum pm_fib_result, and in the high half what the host says of the gateway.
 */
pm_inline __u64 pm_route_line(PM_HOST *host, int family, struct pm_seen *seen, const struct pm_key *k, __u32 index)
{
	const struct pm_conn *c;
	struct pm_next_hop *hop;
	struct pm_found found;
	enum pm_fib_result rc;
	struct pm_fib q = {};
	struct pm_real *real;
	__u32 method, kind;

	if (!seen || !k)
		return PM_FIB_NO_ROUTE;
	c = &seen->c;
	kind = pm_kind_of(c->traits);
	method = pm_method_of(c->traits);
	hop = &seen->hop;
	real = pm_reals(c->real);
	if (!real)
		return PM_FIB_NO_ROUTE;
	q.protocol = c->protocol;
	if (kind == PM_CONN_REPLY) {
		/* Like a packet of our own from the virtual address (sysctl snat_reroute=1). */
		pm_fib_addresses(&q, family, seen->addr, k->daddr);
		if (pm_unlikely(method == PM_METHOD_FULL_NAT)) {
			struct pm_end client = {};

			if (!(family == 4 ? pm_look_end4(index, c->word, 0, &client) :
					    pm_look_end6(index, c->word, 0, &client)))
				return PM_FIB_NO_NEIGHBOUR;
			pm_fib_addresses(&q, family, seen->addr, client.addr);
		}
	} else if (method == PM_METHOD_TUN) {
		pm_fib_addresses(&q, real->family, (const __be32 *)real->source, (const __be32 *)real->addr);
	} else {
		pm_fib_addresses(&q, family, k->saddr,
				 real->flags & PM_REAL_BYPASS ? k->daddr : (const __be32 *)real->addr);
	}
	q.ifindex = pm_frame_open(host).ifindex;
	rc = pm_host_fib(host, &q);
	/* Where forwarding is off, it says so before it says that the address is ours. */
	if (rc == PM_FIB_FORWARDING_OFF && kind == PM_CONN_IN && (real->flags & PM_REAL_LOCAL))
		rc = PM_FIB_LOCAL;
	if (rc == PM_FIB_LOCAL && !(kind == PM_CONN_IN && (real->flags & PM_REAL_LOCAL)))
		rc = PM_FIB_NO_ROUTE; /* the kernel's FIB says the same of both */
	/* The stack resolves on its own, where it is the one to send (pm_hand_over). */
	if (rc == PM_FIB_NO_NEIGHBOUR && pm_translates(method) && (kind == PM_CONN_IN || family == 6) &&
	    !pm_host_takes(host, q.ifindex))
		return PM_FIB_STACK_ONLY;
	/*
	 * A neighbour that is being resolved again does not interrupt a connection that had it. Another one
	 * that is not known yet does: the daemon is told by the drop. Neither is kept as good.
	 */
	if (rc == PM_FIB_NO_NEIGHBOUR && c->neighbour && pm_read_neighbour(c->neighbour, hop, &found) &&
	    hop->ifindex == q.ifindex && found.gateway == q.gateway)
		return PM_FIB_OLD;
	if (rc != PM_FIB_OK)
		return rc;
	pm_copy_mac(hop->smac, q.smac);
	pm_copy_mac(hop->dmac, q.dmac);
	hop->mtu = q.mtu > 65535 ? 65535 : q.mtu;
	hop->ifindex = q.ifindex;
	return (__u64)q.gateway << 32 | PM_FIB_OK;
}

PM_PART __u64 pm_route4(PM_HOST *host, struct pm_seen *seen, const struct pm_key *k, __u32 index)
{
	return pm_route_line(host, 4, seen, k, index);
}

PM_PART __u64 pm_route6(PM_HOST *host, struct pm_seen *seen, const struct pm_key *k, __u32 index)
{
	return pm_route_line(host, 6, seen, k, index);
}

/* The next hop that the daemon keeps for a real server; 0 if it knows none. */
pm_inline int pm_kept_hop(__u32 index, struct pm_next_hop *next)
{
	const struct pm_real *real = pm_reals(index);
	const struct pm_hop *hop = pm_hops(index);
	const pm_u64 *from, *to, *address;
	pm_u64 *mac = (pm_u64 *)next;
	__u64 head, any, differs = 0;

	if (!hop || !real)
		return 0;
	head = pm_glance(*(const pm_u64 *)hop); /* version and interface */
	hop = pm_after(hop, head);
	from = (const pm_u64 *)hop->dmac;
	any = mac[0] = pm_glance(from[0]); /* both MAC addresses, and the MTU */
	any |= mac[1] = pm_glance(from[1]);
	next->ifindex = head >> 32;
	to = (const pm_u64 *)hop->addr;
	address = (const pm_u64 *)real->addr;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__u64 words = pm_glance(to[i]);

		any |= words;
		differs |= words ^ address[i];
	}
	if (pm_unlikely(differs || !next->ifindex || (head & 1)))
		return 0;
	return pm_glance(*(const pm_u64 *)pm_after(hop, any)) == head;
}

PM_PART int pm_use_kept_hop(struct pm_seen *seen)
{
	return seen ? pm_kept_hop(seen->c.real, &seen->hop) : 0;
}

/* The next hop into what was seen, and its line; PM_FIB_LOCAL means that the real server is this host. */
pm_inline __u32 pm_route(PM_HOST *host, int family, struct pm_seen *seen, const struct pm_key *k, __u32 index,
			 __u32 epoch)
{
	__u64 found = family == 4 ? pm_route4(host, seen, k, index) : pm_route6(host, seen, k, index);
	__u32 rc = found, neighbour;

	if (rc == PM_FIB_OLD)
		return PM_FIB_OK;
	/* Where forwarding is off, it refuses to answer. */
	if (rc == PM_FIB_FORWARDING_OFF && pm_kind_of(seen->c.traits) == PM_CONN_IN && pm_use_kept_hop(seen))
		return PM_FIB_OK;
	neighbour = rc == PM_FIB_OK ? pm_intern(&seen->hop, found >> 32, epoch) : 0;
	/* One that is given may come back. */
	if (!neighbour && pm_is_given(seen->c.neighbour))
		return rc;
	if (family == 4)
		pm_keep_neighbour4(index, seen->c.word, neighbour, epoch);
	else
		pm_keep_neighbour6(index, seen->c.word, neighbour, epoch);
	return rc;
}

/*
 * Whether packets of the line have come since it can have missed all of the epochs that its part of one can tell
 * apart.
 */
pm_inline int pm_epoch_is_whole(const struct pm_settings *set, const struct pm_conn *c, __u32 now)
{
	return pm_age(set, c->protocol, pm_head_of(c->word, c->expires), now) <= PM_EPOCH_MEMORY;
}

/* The next hop that the line keeps, if that is still to be trusted. */
pm_inline int pm_neighbour_known(const struct pm_settings *set, struct pm_seen *seen, __u32 epoch, __u32 now)
{
	const struct pm_conn *c = &seen->c;
	struct pm_found found;

	if (!c->neighbour)
		return 0;
	if (pm_unlikely(pm_is_given(c->neighbour)))
		return pm_read_neighbour(c->neighbour, &seen->hop, &found) && seen->hop.ifindex != 0;
	if (((c->word ^ epoch << PM_CONN_EPOCH_SHIFT) & PM_CONN_EPOCHS) || !pm_epoch_is_whole(set, c, now))
		return 0;
	return pm_read_neighbour(c->neighbour, &seen->hop, &found) && (__s32)(found.epoch - epoch) >= 0;
}

/* The next hop of a packet of the client, into what was seen of its line. */
pm_inline int pm_hop_in(const struct pm_settings *set, struct pm_seen *seen, __u32 epoch, __u32 now)
{
	if (pm_likely(pm_daemon_is_there(set, now)) && pm_likely(pm_kept_hop(seen->c.real, &seen->hop)))
		return 1;
	return pm_neighbour_known(set, seen, epoch, now);
}
