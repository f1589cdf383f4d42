/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Firewall marks. XDP comes before netfilter, so the marks are those of pointsman's own rules.
 *
 * The most specific rule wins: the longer prefix of the destination, then of the source, then whoever names a
 * protocol, an interface, the fewer ports. So the order in which rules were made means nothing, and rules of
 * several owners need no numbers. (First match would need both; what netfilter's order means to overlapping
 * rules is looked at when they are imported.)
 *
 * Rules are sorted into kinds by what they look at, and within a kind found by hash: a new connection costs a
 * look-up for each kind that is in use, however many rules there are, and a search by halves among the ports
 * of one key. Compiled by control/compile/marks.ts.
 */
#pragma once

#include "next-hop.h"

struct pm_marking {
	const struct pm_key *key;
	__u32 family;
	__u32 ifindex;
	__u32 half;
	__u32 kind; /* the next one to look for */
	__u32 kinds;
	__u32 low; /* spans that may have the port: from `low`, before `high` */
	__u32 high;
	__u32 mark;
};

/* Steps that a kind takes: finding its key, then halving PM_MARK_SPANS spans to one. */
#define PM_MARK_STEPS 16

/* Shared with control/compile/marks.ts. */
pm_inline __u32 pm_mark_hash(const struct pm_mark_key *k)
{
	__u32 h = 0x9E3779B9u;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		h = pm_mix(h, k->saddr[i]);
		h = pm_mix(h, k->daddr[i]);
	}
	h = pm_mix(h, k->ifindex);
	h = pm_mix(h, k->kind | (__u32)k->protocol << 16 | (__u32)k->family << 24);
	h *= 0xC2B2AE35u;
	return h ^ h >> 16;
}

pm_inline int pm_same_mark_key(const struct pm_mark_key *a, const struct pm_mark_key *b)
{
	const pm_u32 *x = (const pm_u32 *)a, *y = (const pm_u32 *)b;

	/* All of it but the spans. */
	for (int i = 0; i < 10; i++)
		if (x[i] != y[i])
			return 0;
	return 1;
}

/* Looks for the key of one kind; its spans are what is searched next. */
pm_inline void pm_mark_kind_spans(struct pm_marking *m, __u32 kind)
{
	const struct pm_mark_kind *what = pm_mark_kinds((m->half * 2 + (m->family == 6)) * PM_MARK_KINDS + kind);
	struct pm_mark_key k = {};
	__u32 h, tag;

	if (!what)
		return;
#pragma unroll
	for (__u32 i = 0; i < 4; i++) {
		k.saddr[i] = pm_prefix_word(m->key->saddr[i], i, what->source);
		k.daddr[i] = pm_prefix_word(m->key->daddr[i], i, what->destination);
	}
	k.ifindex = what->fields & PM_MARK_INTERFACE ? m->ifindex : 0;
	k.kind = kind;
	k.protocol = what->fields & PM_MARK_PROTOCOL ? m->key->protocol : 0;
	k.family = m->family;
	h = pm_mark_hash(&k);
	tag = h | 1;
	for (__u32 n = 0; n < 2 * PM_BUCKET; n++) {
		__u32 bucket = n < PM_BUCKET ? h & (PM_MARK_BUCKETS - 1) : pm_second_bucket(h, PM_MARK_BUCKETS - 1);
		const struct pm_service_bucket *entries = pm_mark_index(m->half * PM_MARK_BUCKETS + bucket);
		const struct pm_mark_key *found;
		__u64 entry;

		if (!entries)
			return;
		entry = pm_read(entries->entry[n % PM_BUCKET]);
		if ((__u32)entry != tag)
			continue;
		found = pm_mark_keys((__u32)(entry >> 32) - 1);
		if (!found || !pm_same_mark_key(found, &k))
			continue;
		m->low = found->first;
		m->high = found->first + found->count;
		return;
	}
}

static long pm_mark_step(__u32 n, void *arg)
{
	struct pm_marking *m = arg;
	const struct pm_mark_span *span;
	__u32 middle, port;

	(void)n;
	if (m->low >= m->high) {
		if (m->kind >= m->kinds)
			return 1;
		pm_mark_kind_spans(m, m->kind++);
		return 0;
	}
	middle = m->low + (m->high - m->low) / 2;
	span = pm_mark_spans(middle);
	if (!span)
		return 1;
	port = pm_ntohs(m->key->dport);
	if (port < span->from) {
		m->high = middle;
	} else if (port > span->to) {
		m->low = middle + 1;
	} else {
		m->mark = span->mark;
		return 1;
	}
	return 0;
}

/* The slot of the service with this mark, or PM_NONE. */
pm_inline __u32 pm_find_marked(__u32 family, __u32 mark)
{
	const __be32 none[4] = {};
	__u32 mask = pm_limits.service_mask;
	__u32 h = pm_service_hash(family, none, 0, 0, mark);

	for (__u32 n = 0; n < 2 * PM_BUCKET; n++) {
		__u32 bucket = n < PM_BUCKET ? h & mask : pm_second_bucket(h, mask);
		struct pm_service_bucket *entries = pm_service_index(bucket);
		const struct pm_service *s;
		__u64 entry;

		if (!entries)
			break;
		entry = pm_read(entries->entry[n % PM_BUCKET]);
		if ((__u32)entry != (h | 1))
			continue;
		s = pm_services((__u32)(entry >> 32) - 1);
		if (s && s->slot == PM_SLOT_LIVE && s->family == family && s->fwmark == mark)
			return (__u32)(entry >> 32) - 1;
	}
	return PM_NONE;
}

/* Multicast (and IPv4's class E, of which the broadcast address is one): never for a virtual service. */
pm_inline int pm_for_many(__u32 family, __be32 first)
{
	if (family == 6)
		return (first & pm_htonl(0xff000000)) == pm_htonl(0xff000000);
	return (first & pm_htonl(0xe0000000)) == pm_htonl(0xe0000000);
}

/* The slot of the service that a packet of this key, received by this interface, has the mark of; PM_NONE. */
pm_inline __u32 pm_marked(__u32 family, const struct pm_key *k, __u32 ifindex)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_marking m = { .family = family, .ifindex = ifindex };
	__u32 word;

	if (!set || !k || pm_for_many(family, k->daddr[0]))
		return PM_NONE;
	word = pm_read(set->marks);
	m.key = k;
	m.half = word & PM_MARK_HALF;
	m.kinds = (word >> (family == 4 ? PM_MARK_KINDS4_SHIFT : PM_MARK_KINDS6_SHIFT)) & 255;
	pm_unknown(m.kind, word);
	pm_unknown(m.low, word);
	pm_unknown(m.high, word);
	pm_unknown(m.mark, word);
	pm_loop(m.kinds * PM_MARK_STEPS, pm_mark_step, &m);
	return m.mark ? pm_find_marked(family, m.mark) : PM_NONE;
}

PM_PART __u32 pm_marked4(const struct pm_key *k, __u32 ifindex)
{
	return pm_marked(4, k, ifindex);
}

PM_PART __u32 pm_marked6(const struct pm_key *k, __u32 ifindex)
{
	return pm_marked(6, k, ifindex);
}

/*
 * Whether a packet that has a mark is for another host: then no error may be sent about it, whose source would
 * be that host's address (the same as IPVS does). Where forwarding is off the kernel does not say.
 */
pm_inline int pm_foreign(PM_HOST *host, __u32 family, const struct pm_key *k, __u32 ifindex)
{
	struct pm_fib q = { .ifindex = ifindex };
	enum pm_fib_result rc;

	if (!k)
		return 0;
	q.protocol = k->protocol;
	pm_fib_addresses(&q, family, k->saddr, k->daddr);
	rc = pm_host_fib(host, &q);
	return rc != PM_FIB_LOCAL && rc != PM_FIB_FORWARDING_OFF;
}

PM_PART int pm_foreign4(PM_HOST *host, const struct pm_key *k, __u32 ifindex)
{
	return pm_foreign(host, 4, k, ifindex);
}

PM_PART int pm_foreign6(PM_HOST *host, const struct pm_key *k, __u32 ifindex)
{
	return pm_foreign(host, 6, k, ifindex);
}
