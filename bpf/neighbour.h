/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Next hops that packets have found, each once: whoever finds the same one is given the same record. A record
 * is found by its content and keeps it; it gives way to another when nobody has found it for a while.
 *
 * A line names its record and the epoch in which that was found, and trusts both while that is the present
 * one. The line's epoch is a part of it only, so that a line which has been silent for a while looks again
 * (pm_epoch_is_whole), and the record says as well that somebody has found it in this one.
 */
#pragma once

#include "lookup.h"

/* Epochs in which nobody has found it: then a record may be another's. More than a line's part of an epoch. */
#define PM_NEIGHBOUR_EPOCHS 128

/* What is said of a record beside the next hop. */
struct pm_found {
	__u32 epoch;
	__u32 gateway;
};

/* The record, if nobody writes to it; 0: somebody does, or it was never used. */
pm_inline int pm_read_neighbour(__u32 index, struct pm_next_hop *hop, struct pm_found *found)
{
	const struct pm_neighbour *n = pm_neighbours(index);
	pm_u64 *to = (pm_u64 *)hop;
	const pm_u64 *from;
	__u32 version;
	__u64 any;

	if (!n)
		return 0;
	version = pm_glance(n->version);
	n = pm_after(n, version);
	from = (const pm_u64 *)n->dmac;
	any = to[0] = pm_glance(from[0]); /* both MAC addresses, and the MTU */
	any |= to[1] = pm_glance(from[1]);
	any |= hop->ifindex = pm_glance(n->ifindex);
	any |= found->gateway = pm_glance(n->gateway);
	any |= found->epoch = pm_glance(n->epoch);
	return version && !(version & 1) && pm_glance(pm_after(n, any)->version) == version;
}

/* Says that a record was found in this epoch; 0: it has become another's meanwhile. */
pm_inline int pm_refind(struct pm_neighbour *n, __u32 version, __u32 epoch)
{
	/* Written before the version is looked at again; who takes a record does it the other way round. */
	if ((__s32)(epoch - pm_read(n->epoch)) > 0)
		pm_publish(&n->epoch, epoch);
	return pm_glance(n->version) == version;
}

/* Writes a record that is free, or that nobody has found for a while; 0: it is in use. */
pm_inline int pm_take_neighbour(struct pm_neighbour *n, const struct pm_next_hop *hop, __u32 gateway, __u32 epoch)
{
	const pm_u32 *from = (const pm_u32 *)hop;
	__u32 version = pm_glance(n->version), was = pm_glance(pm_after(n, version)->epoch);
	pm_u32 *to = (pm_u32 *)n->dmac;
	int unused;

	if ((version & 1) || (version && (__s32)(epoch - was) <= PM_NEIGHBOUR_EPOCHS) ||
	    !pm_swap(&n->version, version, version + 1))
		return 0;
	unused = pm_glance(n->epoch) == was;
	if (unused) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			pm_write(to[i], from[i]);
		pm_write(n->ifindex, hop->ifindex);
		pm_write(n->gateway, gateway);
		pm_write(n->epoch, epoch);
	}
	version += 2;
	pm_publish(&n->version, version ? version : 2);
	return unused;
}

/* The record of a next hop that was found in this epoch: its index, 0 if there is no room for it. */
PM_PART __u32 pm_intern(const struct pm_next_hop *hop, __u32 gateway, __u32 epoch)
{
	const pm_u32 *words = (const pm_u32 *)hop;
	__u32 h = 0x9E3779B9u, first;
	struct pm_neighbour *n;

	if (!hop)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < sizeof(*hop) / 4; i++)
		h = pm_mix(h, words[i]);
	first = (1 + h % (PM_NEIGHBOURS / PM_NEIGHBOUR_BUCKET - 1)) * PM_NEIGHBOUR_BUCKET;
	for (__u32 k = 0; k < PM_NEIGHBOUR_BUCKET; k++) {
		struct pm_next_hop other __attribute__((aligned(8))) = {};
		const pm_u32 *theirs = (const pm_u32 *)&other;
		struct pm_found found = {};
		__u32 version, differs = 0;

		n = pm_neighbours(first + k);
		if (!n)
			return 0;
		version = pm_glance(n->version);
		if (!version)
			break; /* they are used in this order */
		if (!pm_read_neighbour(first + k, &other, &found))
			continue;
#pragma unroll
		for (__u32 w = 0; w < sizeof(other) / 4; w++)
			differs |= words[w] ^ theirs[w];
		if (differs)
			continue;
		if (!pm_refind(n, version, epoch))
			return 0;
		if (found.gateway != gateway)
			pm_write(n->gateway, gateway);
		return first + k;
	}
	for (__u32 k = 0; k < PM_NEIGHBOUR_BUCKET; k++) {
		n = pm_neighbours(first + k);
		if (!n)
			return 0;
		if (pm_take_neighbour(n, hop, gateway, epoch))
			return first + k;
	}
	return 0;
}
