/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who may come in, and how often. Prefixes of sources are denied or allowed, for all services or for one; the
 * longest one counts, of two of a length that of the service. What is denied is dropped, packets of connections
 * that exist included; everything else is as if there were no filter. Then limits of a service for each source.
 *
 * Prefixes are found by hash, a look-up for each length that is in use, in an array like all others: both hosts
 * read the same memory, and a change is a store or two, however many there are. An entry knows when its time is
 * over, so nobody has to take it away in time. Written by control/apply/filters.ts.
 */
#pragma once

#include "lookup.h"

/* Shared with control/compile/filters.ts. */
pm_inline __u32 pm_filter_hash(__u32 seed, const __be32 *addr, __u32 scope, __u32 what)
{
	__u32 h = seed;

	h = pm_mix(h, addr[0]);
	h = pm_mix(h, addr[1]);
	h = pm_mix(h, addr[2]);
	h = pm_mix(h, addr[3]);
	h = pm_mix(h, scope);
	h = pm_mix(h, what);
	h *= 0xC2B2AE35u;
	return h ^ h >> 16;
}

struct pm_filtering {
	const __be32 *addr;
	__u32 family;
	__u32 scope; /* of the service, 0: it has no prefixes of its own */
	__u32 now;
	__u32 seed;
	__u32 verdict; /* enum pm_filter_verdict; 0: no prefix matches */
};

/* What an entry for this prefix says: an entry that is being changed says nothing. */
pm_inline __u32 pm_filter_verdict(const struct pm_filtering *m, const __be32 *addr, __u32 scope, __u32 length)
{
	__u32 what = length | m->family << 8, mask = pm_limits.filter_mask;
	__u32 h = pm_filter_hash(m->seed, addr, scope, what);

	for (__u32 n = 0; n < 2 * PM_FILTER_BUCKET; n++) {
		__u32 bucket = n < PM_FILTER_BUCKET ? h & mask : pm_second_bucket(h, mask);
		const struct pm_filter *e = pm_filters(bucket * PM_FILTER_BUCKET + n % PM_FILTER_BUCKET);
		__u32 word;

		if (!e)
			return 0;
		word = pm_glance(e->what);
		if ((word & 0xffff) != what)
			continue;
		e = pm_after(e, word);
		if (pm_glance(e->scope) != scope || pm_glance(e->addr[0]) != addr[0] ||
		    pm_glance(e->addr[1]) != addr[1] || pm_glance(e->addr[2]) != addr[2] ||
		    pm_glance(e->addr[3]) != addr[3])
			continue;
		if (e->expires && (__s32)(m->now - e->expires) >= 0)
			continue;
		if (pm_read(e->what) == word)
			return word >> 16 & 0xff;
	}
	return 0;
}

/* The n-th longest length that is in use. */
static long pm_filter_step(__u32 n, void *arg)
{
	const struct pm_filter_lengths *lengths;
	struct pm_filtering *m = arg;
	__be32 addr[4] = {};
	__u32 length;

	lengths = pm_filter_lengths(m->family == 6);
	if (!lengths || n >= sizeof(lengths->length))
		return 1;
	length = pm_read(lengths->length[n]);
	/* Words that a family has not are zero, and no prefix is so long. */
#pragma unroll
	for (__u32 i = 0; i < 4; i++)
		addr[i] = pm_prefix_word(m->addr[i], i, length);
	if (m->scope)
		m->verdict = pm_filter_verdict(m, addr, m->scope, length);
	if (!m->verdict)
		m->verdict = pm_filter_verdict(m, addr, 0, length);
	return m->verdict != 0;
}

/* What is said about one service: NULL if nothing, or if it is about an earlier one of this slot. */
pm_inline const struct pm_gate *pm_gate_of(__u32 slot)
{
	const struct pm_service *service = pm_services(slot);
	const struct pm_gate *gate = pm_gates(slot);

	return service && gate && pm_read(gate->order) == service->order ? gate : PM_NULL;
}

/* Whether the source of a packet to the service in this slot is denied. */
PM_PART int pm_denied(const struct pm_key *k, __u32 slot, __u32 now, __u32 family)
{
	struct pm_filtering m = { .family = family, .now = now };
	const struct pm_filter_lengths *lengths = pm_filter_lengths(family == 6);
	struct pm_settings *set = pm_settings(0);
	const struct pm_gate *gate = pm_gate_of(slot);

	if (!set || !lengths || !k)
		return 0;
	m.addr = k->saddr;
	m.seed = set->hash_seed;
	m.scope = gate ? pm_read(gate->scope) : 0;
	pm_loop(pm_read(lengths->count) & 255, pm_filter_step, &m);
	return m.verdict == PM_FILTER_DENY;
}
