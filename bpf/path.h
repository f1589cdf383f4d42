/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Path MTUs that routers behind us have told of (RFC 1191), by real server. Only tunnel packets are ours, so
 * only their errors come to us; what is told of NAT and DR packets goes to the client, who sent them.
 */
#pragma once

#include "tunnel.h"

/* net.ipv4.route.mtu_expires and min_pmtu as Linux has them: nobody talks a path down to nothing, or for good. */
#define PM_PATH_TICKS 71526u /* 600 s */
#define PM_PATH_MIN 552u

/* The smaller of a path's MTU as routes have it, and as it was told. */
PM_PART __u32 pm_learnt_mtu(__u32 real, __u32 mtu, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_live *live = pm_live(real);
	__u32 last;
	__u64 path;

	if (!set || !live)
		return mtu;
	last = pm_read(set->paths_learnt);
	/* The last of them is forgotten: then packets need not look here any more. */
	if (last && pm_past(now, last))
		(void)pm_swap(&set->paths_learnt, last, 0);
	path = pm_read(live->path);
	if (!path || pm_past(now, path >> 32))
		return mtu;
	return (__u32)path < mtu ? (__u32)path : mtu;
}

/* A router says that nothing larger than `told` reaches the real server; `mtu` is what was reckoned with. */
PM_PART int pm_learn_mtu(__u32 real, __u32 told, __u32 mtu, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_live *live = pm_live(real);
	__u32 until = now + PM_PATH_TICKS;

	if (!set || !live)
		return 0;
	if (told < PM_PATH_MIN)
		told = PM_PATH_MIN;
	/* A path grows again by being tried, not by being told (RFC 1191 §6.3). */
	if (told >= mtu)
		return 0;
	if (!until)
		until = 1; /* 0 is "never" */
	pm_publish(&live->path, (__u64)until << 32 | told);
	pm_publish(&set->paths_learnt, until);
	return 1;
}

/* Largest IP packet the connection's path takes, without what a tunnel adds. */
pm_inline __u32 pm_path_limit(const struct pm_settings *set, const struct pm_seen *seen, const struct pm_real *real,
			      __u32 now)
{
	__u32 overhead = 0, mtu = seen->hop.mtu;

	if (pm_method_of(seen->c.traits) == PM_METHOD_TUN) {
		overhead = pm_tunnel_overhead(real);
		if (pm_unlikely(set->paths_learnt))
			mtu = pm_learnt_mtu(seen->c.real, mtu, now);
	}
	return mtu > overhead ? mtu - overhead : 0;
}

/* Whether a packet that is too long may not be fragmented either. */
pm_inline int pm_unfragmentable(struct pm_frame *f, int family)
{
	struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);

	if (family == 6)
		return 1; /* RFC 8200 §4.5: only the source fragments */
	if ((__u8 *)(ip + 1) > f->end)
		return 1;
	return !!(ip->fragment & pm_htons(PM_IPV4_DF));
}
