/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Finding things: the interface, the virtual service, the connection, our own addresses. */
#pragma once

#include "line.h"

#define PM_LINES (2 * PM_WAYS) /* where a key may stand: two sets */

/* MAC and MTU of an interface the program is attached to, or NULL. */
pm_inline const struct pm_interface *pm_find_interface(__u32 ifindex)
{
	for (__u32 i = 0; i < PM_INTERFACE_PROBES; i++) {
		const struct pm_interface *nic = pm_interfaces((ifindex + i) % PM_INTERFACES);

		if (!nic || nic->ifindex == ifindex)
			return nic;
	}
	return PM_NULL;
}

/* The addresses that an interface's own record has no place for. Shared with dataplane/interface-table.ts. */
PM_PART int pm_in_macs(__u32 ifindex, __u64 mac)
{
	__u64 entry = mac | (__u64)ifindex << 48;
	__u32 h = ((__u32)entry ^ (__u32)(entry >> 32)) * 0x9E3779B1u;

	for (int b = 0; b < 2; b++) {
		const struct pm_mac_bucket *bucket = pm_macs((b ? h >> 8 : h >> 22) % PM_MAC_BUCKETS);

		if (!bucket)
			return 0;
		for (int i = 0; i < PM_MAC_BUCKET; i++)
			if (pm_read(bucket->entry[i]) == entry)
				return 1;
	}
	return 0;
}

/* Whether frames for this address, other than the interface's own, are for the host. */
PM_PART int pm_also_ours(const struct pm_interface *nic, __u64 mac)
{
	if (!nic)
		return 0;
	for (__u32 i = 0; i < PM_INTERFACE_MACS && i < nic->macs; i++)
		if (pm_read(nic->more[i]) == mac)
			return 1;
	return nic->macs > PM_INTERFACE_MACS && pm_in_macs(nic->ifindex, mac);
}

/* One comparison for nearly every frame; what is for another host costs one look at a number more. */
pm_inline int pm_for_host(const struct pm_interface *nic, const struct pm_eth *eth)
{
	__u32 low = *(const __u32 *)eth->dst;
	__u32 high = *(const __u16 *)(eth->dst + 4);

	if (pm_likely(low == *(const __u32 *)nic->mac && high == *(const __u16 *)(nic->mac + 4)))
		return 1;
	return nic->macs && pm_also_ours(nic, (__u64)high << 32 | low);
}

/* IPv4 addresses of this host. The hash is shared with control/compile. */
pm_inline int pm_is_local4(__be32 addr)
{
	__u32 home = (addr * 0x9E3779B1u) >> 16;

	for (__u32 b = 0; b < 2; b++) {
		const struct pm_local_bucket *bucket = pm_locals((home + b) % PM_LOCALS);

		if (!bucket)
			return 0;
#pragma unroll
		for (int i = 0; i < PM_BUCKET; i++)
			if (bucket->addr[i] == addr)
				return 1;
	}
	return 0;
}

pm_inline __u32 pm_mix(__u32 h, __u32 word)
{
	h ^= word;
	h *= 0x85EBCA6Bu;
	return h ^ h >> 13;
}

/*
 * The first `length` bits of an address's word number `i`. Without branches, which the verifier would follow for
 * each word by itself, and then for all combinations.
 */
pm_inline __be32 pm_prefix_word(__be32 word, __u32 i, __u32 length)
{
	__s64 bits = (__s64)length - i * 32, more;

	bits &= ~(bits >> 63);
	pm_opaque(bits);
	more = bits - 32;
	more &= more >> 63;
	pm_opaque(more);
	return word & pm_htonl((__u32)(0xffffffff00000000ull >> (more + 32)));
}

#define PM_INTEREST_LINE 512 /* bits that an address has: one cache line */

pm_inline int pm_interest_bit(__u32 address_hash, __u32 port)
{
	__u32 h = pm_mix(address_hash, port) * 0xC2B2AE35u, bit = (h ^ h >> 16) % PM_INTEREST_LINE;
	const __u64 *word;

	bit += address_hash % (PM_INTEREST_BITS / PM_INTEREST_LINE) * PM_INTEREST_LINE;
	word = pm_interest(bit / 64);
	return !word || *word >> (bit % 64) & 1;
}

pm_inline __u32 pm_interest_hash(int family, const __be32 *addr)
{
	__u32 h = pm_mix(0x9E3779B9u, addr[0]);

	if (family == 6) {
		h = pm_mix(h, addr[1]);
		h = pm_mix(h, addr[2]);
		h = pm_mix(h, addr[3]);
	}
	return h;
}

/* Whether some rule or connection is about this end of a packet; hash shared with control/compile/interest.ts. */
pm_inline int pm_interests(int family, const __be32 *addr, __be16 port)
{
	__u32 h = pm_interest_hash(family, addr);

	return pm_interest_bit(h, port) || pm_interest_bit(h, 0);
}

/* A service there is tracked just enough (untracked.h): with its port, a bit of its own. */
#define PM_INTEREST_UNTRACKED 0x10000u

/* Shared with the compiler (control/): changing it orphans every published index. */
pm_inline __u32 pm_service_hash(int family, const __be32 *addr, __be16 port, __u8 protocol, __u32 fwmark)
{
	__u32 h = 0x9E3779B9u;

	h = pm_mix(h, addr[0]);
	h = pm_mix(h, family == 6 ? addr[1] : 0);
	h = pm_mix(h, family == 6 ? addr[2] : 0);
	h = pm_mix(h, family == 6 ? addr[3] : 0);
	h = pm_mix(h, port | (__u32)protocol << 16 | (__u32)family << 24);
	h = pm_mix(h, fwmark);
	h *= 0xC2B2AE35u;
	return h ^ h >> 16;
}

/* The other one of the two buckets that an entry of this hash may stand in; the first is hash & mask. */
pm_inline __u32 pm_second_bucket(__u32 hash, __u32 mask)
{
	__u32 first = hash & mask;
	__u32 second = (first ^ (hash * 0x5bd1e995u) >> 7) & mask;

	return second == first ? (first + 1) & mask : second;
}

/* The service at exactly this address and port, or NULL; its slot goes to *slot. */
pm_inline struct pm_service *pm_find_service(int family, const __be32 *addr, __be16 port, __u8 protocol,
					     __u32 *slot)
{
	__u32 mask = pm_limits.service_mask;
	__u32 h = pm_service_hash(family, addr, port, protocol, 0);
	__u32 tag = h | 1;

	for (int b = 0; b < 2; b++) {
		struct pm_service_bucket *bucket = pm_service_index(b ? pm_second_bucket(h, mask) : h & mask);

		if (!bucket)
			return PM_NULL;
#pragma unroll
		for (int i = 0; i < PM_BUCKET; i++) {
			__u64 entry = pm_read(bucket->entry[i]);
			struct pm_service *s;
			const __be32 *a;

			if ((__u32)entry != tag)
				continue;
			s = pm_services((__u32)(entry >> 32) - 1);
			if (!s)
				continue;
			a = (const __be32 *)s->addr;
			if (s->slot != PM_SLOT_LIVE || s->family != family || s->protocol != protocol ||
			    s->port != port || s->fwmark || a[0] != addr[0])
				continue;
			if (family == 6 && (a[1] != addr[1] || a[2] != addr[2] || a[3] != addr[3]))
				continue;
			*slot = (__u32)(entry >> 32) - 1;
			return s;
		}
	}
	return PM_NULL;
}

/* The NAT real server that sends from exactly this address and port, as an index in reals, or PM_NONE. */
pm_inline __u32 pm_find_nat_real(int family, const struct pm_key *k)
{
	__u32 h = pm_service_hash(family, k->saddr, k->sport, k->protocol, 0);
	__u32 mask = pm_limits.nat_mask;

	for (int b = 0; b < 2; b++) {
		struct pm_service_bucket *bucket = pm_nat_index(b ? pm_second_bucket(h, mask) : h & mask);

		if (!bucket)
			return PM_NONE;
#pragma unroll
		for (int i = 0; i < PM_BUCKET; i++) {
			__u64 entry = pm_read(bucket->entry[i]);
			__u32 index = (__u32)(entry >> 32) - 1;
			const struct pm_service *s;
			const struct pm_real *r;
			const __be32 *a;

			if ((__u32)entry != (h | 1))
				continue;
			r = pm_reals(index);
			s = r ? pm_services(r->service) : PM_NULL;
			/* The daemon may be a step behind: a removed real server is none. */
			if (!s || r->slot != PM_SLOT_LIVE || r->method != PM_METHOD_NAT || r->family != family ||
			    r->port != k->sport || s->protocol != k->protocol)
				continue;
			a = (const __be32 *)r->addr;
			if (a[0] != k->saddr[0])
				continue;
			if (family == 6 && (a[1] != k->saddr[1] || a[2] != k->saddr[2] || a[3] != k->saddr[3]))
				continue;
			return index;
		}
	}
	return PM_NONE;
}

/* Where a key may stand. */
struct pm_place {
	__u32 set[2]; /* in a table without end: see pm_nth */
	__u32 hash;   /* of the flow */
	__u8 way;     /* first of a set to look at: spreads keys, so that a hit is mostly the first look */
	__u8 level;   /* of the table that is looked at, and that new lines are placed in */
	__u16 nth;    /* full NAT: which of the addresses and ports that the flow may have (full-nat.h) */
};

/* What of the table is in use (PM_LEVEL). */
pm_inline __u32 *pm_levels(int family, struct pm_settings *set)
{
	return family == 4 ? &set->levels4 : &set->levels6;
}

/* Sets of a level, less one. */
pm_inline __u32 pm_level_mask(int family, __u32 level)
{
	return (family == 4 ? pm_limits.conn4_mask : pm_limits.conn6_mask) >> (level & PM_LEVEL);
}

pm_inline __u64 pm_stir(__u64 h, __u64 word)
{
	h = (h ^ word) * 0x9E3779B97F4A7C15ull;
	return h ^ h >> 29;
}

pm_inline struct pm_place pm_place(int family, struct pm_settings *set, const struct pm_key *k)
{
	struct pm_place at = { .level = pm_read(*pm_levels(family, set)) & PM_LEVEL };
	__u64 h = set->hash_seed;

	h = pm_stir(h, (__u64)k->saddr[0] << 32 | k->daddr[0]);
	if (family == 6) {
		h = pm_stir(h, (__u64)k->saddr[1] << 32 | k->daddr[1]);
		h = pm_stir(h, (__u64)k->saddr[2] << 32 | k->daddr[2]);
		h = pm_stir(h, (__u64)k->saddr[3] << 32 | k->daddr[3]);
	}
	h = pm_stir(h, (__u64)k->sport << 32 | (__u32)k->dport << 8 | k->protocol);
	h *= 0xBF58476D1CE4E5B9ull;
	h ^= h >> 32;
	at.set[0] = h;
	/* Odd difference: never the first set again, if there are two at all. */
	at.set[1] = at.set[0] ^ ((__u32)(h >> 33) | 1);
	at.way = h >> 62;
	at.hash = h >> 28;
	return at;
}

/*
 * The same of a template. A client's calls are told apart by the tag, too (sip.h): without it all of them would have to
 * do with so many places as there are ports.
 */
pm_inline struct pm_place pm_template_place(int family, struct pm_settings *set, const struct pm_key *t)
{
	struct pm_place at = pm_place(family, set, t);
	__u32 apart = t->tag * 0x9E3779B1u;

	at.set[0] ^= apart;
	at.set[1] ^= apart;
	return at;
}

/* Index of the n-th line to look at. */
pm_inline __u32 pm_nth(int family, const struct pm_place *at, __u32 level, __u32 n)
{
	return (at->set[n / PM_WAYS] & pm_level_mask(family, level)) * PM_WAYS + ((at->way + n) % PM_WAYS);
}

pm_inline int pm_same_ends(int family, const struct pm_conn *c, const struct pm_key *k)
{
	if (c->sport != k->sport || c->dport != k->dport || c->protocol != k->protocol)
		return 0;
	if (family == 4) {
		const struct pm_conn4 *l = (const void *)c;

		return l->saddr == k->saddr[0] && l->daddr == k->daddr[0];
	} else {
		const struct pm_conn6 *l = (const void *)c;
		const pm_u32 *s = (const pm_u32 *)l->saddr, *d = (const pm_u32 *)l->daddr;

		return s[0] == k->saddr[0] && s[1] == k->saddr[1] && s[2] == k->saddr[2] &&
		       s[3] == k->saddr[3] && d[0] == k->daddr[0] && d[1] == k->daddr[1] &&
		       d[2] == k->daddr[2] && d[3] == k->daddr[3];
	}
}

/* A packet never finds a template: their keys are of another kind, and could be any packet's. */
pm_inline int pm_same_key(int family, const struct pm_conn *c, const struct pm_key *k)
{
	return pm_same_ends(family, c, k) && pm_kind_of(c->traits) != PM_CONN_TEMPLATE;
}

/* The key of a line, for whoever has only its index. To be read before the line is looked at (pm_look). */
pm_inline void pm_line_key(int family, const struct pm_conn *c, struct pm_key *k)
{
	k->sport = pm_glance(c->sport);
	k->dport = pm_glance(c->dport);
	k->protocol = pm_glance(c->protocol);
	if (family == 4) {
		const struct pm_conn4 *l = (const void *)c;

		k->saddr[0] = pm_glance(l->saddr);
		k->daddr[0] = pm_glance(l->daddr);
	} else {
		const pm_u32 *s = (const pm_u32 *)((const struct pm_conn6 *)c)->saddr;
		const pm_u32 *d = (const pm_u32 *)((const struct pm_conn6 *)c)->daddr;

#pragma unroll
		for (int i = 0; i < 4; i++) {
			k->saddr[i] = pm_glance(s[i]);
			k->daddr[i] = pm_glance(d[i]);
		}
	}
}

/*
 * The live line with this key in one level of the table, or NULL; its index, and the head it was found with
 * (after a search in vain: all that were seen, for pm_after).
 * Within a set, lines are filled in the order of this search, so a line that was never used ends the search
 * of its set: in a table that is not crowded a hit is mostly the first look, and a miss costs one line of
 * each set.
 */
pm_inline struct pm_conn *pm_find_at(int family, const struct pm_place *at, __u32 level, const struct pm_key *k,
				     __u32 *index, __u64 *head)
{
	__u64 any = 0;

#pragma unroll
	for (__u32 set = 0; set < 2; set++) {
#pragma unroll
		for (__u32 way = 0; way < PM_WAYS; way++) {
			__u32 i = pm_nth(family, at, level, set * PM_WAYS + way);
			struct pm_conn *c = pm_line(family, i);
			__u64 h;

			if (!c)
				break;
			h = pm_head(c);
			any |= h;
			if (pm_status(h) == PM_CONN_CLEAN)
				break;
			if (pm_is_live(h) && pm_same_key(family, pm_after(c, h), k)) {
				*index = i;
				*head = h;
				return c;
			}
		}
	}
	*head = any;
	return PM_NULL;
}

/*
 * The live line with this key in one level of the table: index in the high half, word in the low; PM_NO_LINE, which
 * nobody knows before the level has been read. A part: the verifier would follow it for each level.
 */
pm_inline __u64 pm_find_in_level(int family, const struct pm_place *at, const struct pm_key *k, __u32 level)
{
	__u32 index = PM_NONE;
	__u64 head;

	if (!at || !k)
		return PM_NO_LINE;
	if (pm_find_at(family, at, level, k, &index, &head))
		return (__u64)index << 32 | (__u32)head;
	index = (__u32)(unsigned long)pm_after((__u8 *)(unsigned long)PM_NONE, head);
	return (__u64)index << 32 | index;
}

PM_PART __u64 pm_find_in_level4(const struct pm_place *at, const struct pm_key *k, __u32 level)
{
	return pm_find_in_level(4, at, k, level);
}

PM_PART __u64 pm_find_in_level6(const struct pm_place *at, const struct pm_key *k, __u32 level)
{
	return pm_find_in_level(6, at, k, level);
}

/* Levels, a bit for each, that lines may stand in. */
pm_inline __u32 pm_levels_in_use(__u32 levels)
{
	return levels >> PM_LEVELS_SHIFT | 1u << (levels & PM_LEVEL);
}

/* The level in which all others lie. */
pm_inline __u32 pm_largest_level(int family, struct pm_settings *set)
{
	__u32 levels = pm_levels_in_use(pm_read(*pm_levels(family, set))), level = 0;

	for (int shift = 16; shift; shift >>= 1) {
		if (!(levels & ((1u << shift) - 1))) {
			levels >>= shift;
			level += shift;
		}
	}
	return level;
}

/* Searches that others have moved lines during, of whichever key, before that is taken for an answer. */
#define PM_SEARCHES 4

/*
 * The same as pm_find, after a search in vain: in all levels, and for as long as lines are moved meanwhile. One
 * that is moved stands in its new place before it is counted, and is counted before it leaves the old one: while
 * the count stays, no search misses it.
 */
pm_inline __u64 pm_search(int family, const struct pm_place *at, const struct pm_key *k)
{
	struct pm_settings *set = pm_settings(0);

	if (!set || !at)
		return PM_NO_LINE;
	for (int n = 0; n < PM_SEARCHES; n++) {
		__u32 moves = pm_glance(set->moves);
		const struct pm_place *then = pm_after(at, moves);
		__u32 levels = pm_levels_in_use(pm_read(*pm_levels(family, set))) & ~(1u << (at->level & PM_LEVEL));
		__u64 found, read = 0;

		/* Where new lines are, last, and nothing but that if there are no others. */
		for (__u32 i = levels ? 0 : PM_LEVELS; i <= PM_LEVELS; i++) {
			__u32 level = i < PM_LEVELS ? i : at->level;

			if (i < PM_LEVELS && !(levels >> i & 1))
				continue;
			found = family == 4 ? pm_find_in_level4(then, k, level) : pm_find_in_level6(then, k, level);
			read |= found;
			/* Else the compiler would know, and the processor not wait for, what is read when nothing is found. */
			pm_opaque(read);
			if (found != PM_NO_LINE)
				return found;
		}
		if (pm_likely(pm_glance(pm_after(set, read)->moves) == moves))
			break;
	}
	return PM_NO_LINE;
}

PM_PART __u64 pm_search4(const struct pm_place *at, const struct pm_key *k)
{
	return pm_search(4, at, k);
}

PM_PART __u64 pm_search6(const struct pm_place *at, const struct pm_key *k)
{
	return pm_search(6, at, k);
}

/* The same; the head of a line that has another owner by now is one that nobody has. */
pm_inline struct pm_conn *pm_find_again(int family, const struct pm_place *at, const struct pm_key *k, __u32 *index,
					__u64 *head)
{
	__u64 found = family == 4 ? pm_search4(at, k) : pm_search6(at, k), is;
	struct pm_conn *c = pm_line(family, found >> 32);

	if (!c)
		return PM_NULL;
	is = pm_head(c);
	*index = found >> 32;
	*head = pm_same_owner(is, found) ? is : pm_head_of(found, pm_until(is));
	return c;
}

/* The live line with this key, or NULL; its index, and the head it was found with. */
pm_inline struct pm_conn *pm_find(int family, struct pm_settings *set, const struct pm_place *at,
				  const struct pm_key *k, __u32 *index, __u64 *head)
{
	__u32 moves = pm_glance(set->moves);
	struct pm_conn *c = pm_find_at(family, pm_after(at, moves), at->level, k, index, head);

	if (c)
		return c;
	/* Where lines stand in one level only, and none was moved meanwhile, one look is enough. */
	if (pm_likely(pm_read(*pm_levels(family, pm_after(set, *head))) == at->level &&
		      pm_glance(pm_after(set, *head)->moves) == moves))
		return PM_NULL;
	return pm_find_again(family, at, k, index, head);
}
