/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Choosing by a table of slots that the daemon has compiled from the list of real servers (`sh`, `dh`, `mh`): who is
 * chosen depends on the packet and the table alone, and on who is overloaded.
 */
#pragma once

#include "walk.h"

/* schedulers.md §6: addresses folded to 32 bits in host order, and the 32-bit multiplicative hash. */
pm_inline __u32 pm_fold_addr(int family, const __be32 *addr)
{
	__be32 a = addr[0];

	if (family == 6)
		a ^= addr[1] ^ addr[2] ^ addr[3];
	return pm_ntohl(a);
}

#define PM_HASH_BITS 8

pm_inline __u32 pm_hash32(__u32 x)
{
	return (x * 0x61C88647u) >> (32 - PM_HASH_BITS);
}

pm_inline __u64 pm_rotl(__u64 x, int by)
{
	return x << by | x >> (64 - by);
}

#define PM_SIP_ROUND(a, b, c, d)         \
	do {                             \
		a += b;                  \
		b = pm_rotl(b, 13) ^ a;  \
		a = pm_rotl(a, 32);      \
		c += d;                  \
		d = pm_rotl(d, 16) ^ c;  \
		a += d;                  \
		d = pm_rotl(d, 21) ^ a;  \
		c += b;                  \
		b = pm_rotl(b, 17) ^ c;  \
		c = pm_rotl(c, 32);      \
	} while (0)

/* schedulers.md §9: SipHash-1-3 of one 32-bit word under IPVS's fixed key, low 32 bits. */
pm_inline __u32 pm_mh_hash(__u32 x)
{
	const __u64 key = 2654435761ull, word = 4ull << 56 | x;
	__u64 a = key ^ 0x736f6d6570736575ull, b = key ^ 0x646f72616e646f6dull;
	__u64 c = key ^ 0x6c7967656e657261ull, d = key ^ 0x7465646279746573ull;

	d ^= word;
	PM_SIP_ROUND(a, b, c, d);
	a ^= word;
	c ^= 0xff;
	PM_SIP_ROUND(a, b, c, d);
	PM_SIP_ROUND(a, b, c, d);
	PM_SIP_ROUND(a, b, c, d);
	return a ^ b ^ c ^ d;
}

/* A table, and the real servers that it was made from in front of it. */
struct pm_table {
	__u32 first; /* in members */
	__u32 count; /* of slots, 0: nobody is ever chosen */
	__u32 members;
	__u32 how; /* enum pm_scheduler in bits 0-7, the scheduler's flags of enum pm_service_flag above */
};

#define PM_TABLE_FLAGS_SHIFT 8

/* The table in force, by the service's word of scheduler and schedule. */
pm_inline struct pm_table pm_table_of(const struct pm_service *service, const struct pm_schedule *s, __u32 word)
{
	__u32 how = s->how ? s->how : (word & 0xff) | (service->flags & PM_SERVICE_SCHED) << PM_TABLE_FLAGS_SHIFT;

	return (struct pm_table){ .first = s->table_first, .count = s->table_count, .members = s->count, .how = how };
}

/* The real server in a slot if it can take a connection, else PM_NONE. `heed`: the overloaded cannot. */
pm_inline __u32 pm_table_real(const struct pm_table *t, __u32 slot, int heed)
{
	const struct pm_member *m;
	struct pm_live *live;

	if (slot >= t->count)
		return PM_NONE;
	m = pm_members(t->first + slot);
	if (!m || m->weight <= 0)
		return PM_NONE;
	if (!heed)
		return m->real;
	live = pm_live(m->real);
	return live && !pm_read(live->overloaded) ? m->real : PM_NONE;
}

struct pm_table_search {
	struct pm_table t;
	__u32 base; /* mh: port + folded client address */
	__u32 from; /* the slot that could not take it */
	__u32 real;
};

/* mh-fallback: the slots of other offsets until one can take it. */
static long pm_mh_next(__u32 i, void *arg)
{
	struct pm_table_search *m = arg;
	__u32 size = m->t.count;

	if (!size)
		return 1;
	m->real = pm_table_real(&m->t, pm_mh_hash((i + m->from) % size + m->base) % size, 1);
	return m->real != PM_NONE;
}

/* sh-fallback: other slots until one can take it. */
static long pm_sh_next(__u32 i, void *arg)
{
	struct pm_table_search *h = arg;
	__u32 off = (i + h->from) % (1 << PM_HASH_BITS);

	h->real = pm_table_real(&h->t, (off + h->from) % (1 << PM_HASH_BITS), 1);
	return h->real != PM_NONE;
}

/* Whom a packet's own slot is for: its slot, and for mh what it was made from in the high half. */
pm_inline __u64 pm_own_slot(const struct pm_table *t, int family, const struct pm_key *k)
{
	__u32 port = t->how & PM_SERVICE_SCHED_2 << PM_TABLE_FLAGS_SHIFT ? pm_ntohs(k->sport) : 0, base;

	if ((t->how & 0xff) == PM_SCHEDULER_DH)
		return pm_hash32(pm_fold_addr(family, k->daddr));
	base = port + pm_fold_addr(family, k->saddr);
	if ((t->how & 0xff) == PM_SCHEDULER_SH)
		return pm_hash32(base);
	return (__u64)base << 32 | (t->count ? pm_mh_hash(base) % t->count : 0);
}

/*
 * Who is chosen for a packet whose own slot is nobody's that can take it, or PM_NONE. `s`: the schedule whose present
 * table it is. If nobody at all can take a connection, nobody is looked for until somebody is overloaded no more: whoever
 * ends that says so after the flag (pm_challenge), and has done it before or after the number was read.
 */
pm_inline __u32 pm_fall_back(const struct pm_table *t, __u64 own, struct pm_schedule *s)
{
	struct pm_table_search search = { .t = *t, .base = own >> 32, .from = own, .real = PM_NONE };
	__u32 kind = t->how & 0xff, released = 0;
	int nobody;

	if (!(t->how & PM_SERVICE_SCHED_1 << PM_TABLE_FLAGS_SHIFT) || kind == PM_SCHEDULER_DH)
		return PM_NONE;
	if (s) {
		released = pm_read(s->released);
		if (pm_read(s->nobody) == released + 1)
			return PM_NONE;
		/* Flags are read after it, on every processor. */
		released = __sync_fetch_and_add(&s->released, 0);
	}
	if (kind == PM_SCHEDULER_SH) {
		pm_loop(1 << PM_HASH_BITS, pm_sh_next, &search);
		nobody = search.real == PM_NONE;
	} else {
		struct pm_walk w = { .first = t->first - t->members, .count = t->members, .floor = 1, .real = PM_NONE };

		/* The table has thousands of slots, the list few members: is there anybody to be found? */
		pm_loop(w.count, pm_walk_first, &w);
		nobody = w.real == PM_NONE;
		if (!nobody)
			pm_loop(t->count, pm_mh_next, &search);
	}
	if (nobody && s)
		pm_write(s->nobody, released + 1);
	return search.real;
}

/* Whether a scheduler of this number has a table of slots. */
pm_inline int pm_has_table(__u32 kind)
{
	return kind == PM_SCHEDULER_MH || kind == PM_SCHEDULER_SH || kind == PM_SCHEDULER_DH;
}

/* Index in reals of whom a table has for this packet, or PM_NONE. */
pm_inline __u32 pm_from_table(const struct pm_table *t, int family, const struct pm_key *k, struct pm_schedule *s)
{
	__u64 own;
	__u32 real;

	/* It may just have become another scheduler's. */
	if (!pm_has_table(t->how & 0xff))
		return PM_NONE;
	own = pm_own_slot(t, family, k);
	real = pm_table_real(t, own, 1);
	return pm_likely(real != PM_NONE) ? real : pm_fall_back(t, own, s);
}
