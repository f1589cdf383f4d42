/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How often one destination is told of errors (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)), as Linux has it: six at once
 * after a pause, then one in each interval. What a destination has had stands in a word, found by a hash of its
 * address: until when its time is taken up. One whose time has come says nothing any more, and is anybody's; if
 * there is none in a bucket, the one gives way that has least to say. The budget for all of them is another matter.
 */
#pragma once

#include "lookup.h"

#define PM_ANSWER_BURST 6

pm_inline __u32 pm_answered_ahead(__u64 entry, __u32 now, __u32 interval)
{
	__u32 ahead = (__u32)entry - now;

	/* Further than that was never written: it is of another time. */
	return !entry || ahead > (PM_ANSWER_BURST + 1) * interval ? 0 : ahead;
}

/* Where the destination with this tag has its word in a bucket, or can have one. */
PM_PART __u32 pm_find_answered(__u32 index, __u32 tag, __u32 now, __u32 interval)
{
	const struct pm_answered *bucket = pm_answered(index);
	__u32 best = ~0u;

	if (!bucket)
		return 0;
	for (__u32 i = 0; i < PM_ANSWER_BUCKET; i++) {
		__u64 entry = pm_read(bucket->entry[i]);
		__u32 rank = entry >> 32 == tag ? 0 : pm_answered_ahead(entry, now, interval) + 1;

		rank = rank << 3 | i;
		best = rank < best ? rank : best;
	}
	return best & (PM_ANSWER_BUCKET - 1);
}

/* Attempts at a word that others write, too. */
#define PM_ANSWER_TRIES 2

/* A hash of the source of the packet whose IP header is at this offset in the frame; 0: it is not in reach. */
pm_inline __u64 pm_hash_of_source(PM_HOST *host, __u32 seed, __u32 family, __u32 at)
{
	struct pm_frame f = pm_frame_open(host);
	__u64 h = pm_stir(seed, family);

	if (family == 4) {
		const struct pm_ipv4 *ip = pm_l4_at(&f, at, PM_IPV4_LEN);

		if (!ip)
			return 0;
		h = pm_stir(h, ip->saddr);
	} else {
		const struct pm_ipv6 *ip = pm_l4_at(&f, at, PM_IPV6_LEN);

		if (!ip)
			return 0;
		h = pm_stir(h, (__u64)ip->saddr[0] << 32 | ip->saddr[1]);
		h = pm_stir(h, (__u64)ip->saddr[2] << 32 | ip->saddr[3]);
	}
	h *= 0xBF58476D1CE4E5B9ull;
	return (h ^ h >> 32) | 1ull << 32;
}

/* Whether who sent the packet whose IP header is there may be told of an error now: 1, and it is counted. */
PM_PART int pm_may_tell(PM_HOST *host, __u32 family, __u32 at, __u32 now)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_answered *bucket;
	__u32 interval, index;
	__u64 h;

	if (!set)
		return 0;
	interval = set->answer_intervals >> (family == 4 ? 0 : 16) & 0xffff;
	if (!interval)
		return 1;
	h = pm_hash_of_source(host, set->hash_seed, family, at);
	if (!h)
		return 0;
	index = h & (PM_ANSWER_BUCKETS - 1);
	for (int n = 0; n < PM_ANSWER_TRIES; n++) {
		__u32 ahead = 0, way = pm_find_answered(index, h >> 32, now, interval);
		__u64 was;

		bucket = pm_answered(index);
		if (!bucket)
			return 0;
		way &= PM_ANSWER_BUCKET - 1;
		was = pm_read(bucket->entry[way]);
		if (was >> 32 == h >> 32)
			ahead = pm_answered_ahead(was, now, interval);
		if (ahead > (PM_ANSWER_BURST - 1) * interval)
			return 0;
		if (pm_swap(&bucket->entry[way], was, (h >> 32) << 32 | (__u32)(now + ahead + interval)))
			return 1;
	}
	/* Several CPUs are at it: it has just been told by another one. */
	return 0;
}
