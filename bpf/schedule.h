/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Choosing a real server for a new connection. Each scheduler walks the service's members (IPVS's
 * list order, newest first) or a table compiled from them; see docs/ARCHITECTURE.md for why these run
 * here and not in the daemon.
 */
#pragma once

#include "contest.h"
#include "locality.h"

/* One attempt; 0 when another CPU moved the cursor meanwhile. */
static __attribute__((noinline)) int pm_try_rr(struct pm_schedule *s, struct pm_walk *w)
{
	__u64 cursor = pm_read(s->cursor);

	w->start = (__u32)cursor < w->count ? (__u32)cursor : 0;
	w->floor = 1;
	w->found = PM_NONE;
	w->real = PM_NONE;
	pm_loop(w->count, pm_walk_first, w);
	return w->found == PM_NONE || pm_swap(&s->cursor, cursor, (__u64)w->found + 1);
}

/*
 * schedulers.md §3. Position and current weight cw step together in one word. A pass that finds
 * nothing lowers cw by the step; passes that could find nothing are skipped in one go: cw falls at
 * once to where the heaviest usable member is heavy enough.
 */
static __attribute__((noinline)) int pm_try_wrr(struct pm_schedule *s, struct pm_walk *w)
{
	__s32 max = s->weight_max, step = s->weight_step;
	__u64 cursor = pm_read(s->cursor);
	__s32 cw = (__s32)(cursor >> 32);
	__u32 count = w->count;

	w->found = PM_NONE;
	w->real = PM_NONE;
	if (max <= 0 || step <= 0)
		return 1;
	w->start = (__u32)cursor < count ? (__u32)cursor : count;
	w->floor = cw;
	if (cw > 0 && w->start < count)
		pm_loop(count - w->start, pm_walk_first, w);
	if (w->found == PM_NONE) {
		cw -= step;
		if (cw <= 0)
			cw = max;
		w->start = 0;
		w->heaviest = 0;
		w->floor = cw;
		pm_loop(count, pm_walk_first, w);
	}
	if (w->found == PM_NONE) {
		if (w->heaviest <= 0)
			return 1;
		if (cw > w->heaviest)
			cw -= (__s32)(((__u32)(cw - w->heaviest) + (__u32)step - 1) / (__u32)step) * step;
		w->floor = cw > 0 ? cw : 1;
		pm_loop(count, pm_walk_first, w);
		if (w->found == PM_NONE)
			return 1;
	}
	return pm_swap(&s->cursor, cursor, (__u64)(__u32)cw << 32 | (w->found + 1));
}

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

/* The member in a slot of the compiled table if it can take a connection, else PM_NONE. */
pm_inline __u32 pm_table_real(const struct pm_schedule *s, __u32 slot)
{
	struct pm_member *m;
	struct pm_live *live;

	if (slot >= s->table_count)
		return PM_NONE;
	m = pm_members(s->table_first + slot);
	if (!m)
		return PM_NONE;
	live = pm_live(m->real);
	if (!live || m->weight <= 0 || pm_read(live->overloaded))
		return PM_NONE;
	return m->real;
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

struct pm_mh_search {
	struct pm_schedule *schedule;
	__u32 base; /* port + folded client address */
	__u32 from; /* the slot that could not take it */
	__u32 real;
};

/* mh-fallback: the slots of other offsets until one can take it. */
static long pm_mh_next(__u32 i, void *arg)
{
	struct pm_mh_search *m = arg;
	__u32 size = m->schedule->table_count;

	if (!size)
		return 1;
	m->real = pm_table_real(m->schedule, pm_mh_hash((i + m->from) % size + m->base) % size);
	return m->real != PM_NONE;
}

struct pm_sh_search {
	struct pm_schedule *schedule;
	__u32 home; /* the slot that could not take it */
	__u32 real;
};

/* sh-fallback: other slots until one can take it. */
static long pm_sh_next(__u32 i, void *arg)
{
	struct pm_sh_search *h = arg;
	__u32 off = (i + h->home) % (1 << PM_HASH_BITS);

	h->real = pm_table_real(h->schedule, (off + h->home) % (1 << PM_HASH_BITS));
	return h->real != PM_NONE;
}

pm_inline __u32 pm_pick_mh(struct pm_schedule *s, const struct pm_service *service, const struct pm_key *k,
			   struct pm_walk *w)
{
	__u32 port = service->flags & PM_SERVICE_SCHED_2 ? pm_ntohs(k->sport) : 0;
	struct pm_mh_search m = { .schedule = s, .real = PM_NONE };
	__u32 size = s->table_count;

	if (!size)
		return PM_NONE;
	m.base = port + pm_fold_addr(service->family, k->saddr);
	m.from = pm_mh_hash(m.base) % size;
	m.real = pm_table_real(s, m.from);
	if (m.real == PM_NONE && (service->flags & PM_SERVICE_SCHED_1)) {
		/* The table has thousands of slots, the list few members: is there anybody to be found? */
		w->floor = 1;
		pm_loop(w->count, pm_walk_first, w);
		if (w->real != PM_NONE)
			pm_loop(size, pm_mh_next, &m);
	}
	return m.real;
}

/* Index in reals of the choice for this packet, or PM_NONE. */
PM_PART __u32 pm_schedule_pick(__u32 slot, const struct pm_key *k)
{
	struct pm_service *service = pm_services(slot);
	struct pm_walk w = { .found = PM_NONE, .real = PM_NONE };
	struct pm_schedule *s;
	__u32 word, kind;
	int family;

	if (!service || !k)
		return PM_NONE;
	family = service->family;
	word = pm_read(service->schedule);
	kind = word & 0xff;
	s = pm_schedules(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE));
	if (!s || !s->count)
		return PM_NONE;
	w.first = s->first;
	w.count = s->count;
	w.kind = kind;
	switch (kind) {
	case PM_SCHEDULER_RR:
		/* A choice that loses the race for the cursor three times over is taken as it is. */
		(void)(pm_try_rr(s, &w) || pm_try_rr(s, &w) || pm_try_rr(s, &w));
		return w.real;
	case PM_SCHEDULER_WRR:
		(void)(pm_try_wrr(s, &w) || pm_try_wrr(s, &w) || pm_try_wrr(s, &w));
		return w.real;
	case PM_SCHEDULER_LBLC: /* of a destination that is not remembered (pm_pick) */
	case PM_SCHEDULER_LBLCR:
	case PM_SCHEDULER_LC:
	case PM_SCHEDULER_WLC:
	case PM_SCHEDULER_SED:
	case PM_SCHEDULER_NQ:
	case PM_SCHEDULER_FO:
	case PM_SCHEDULER_OVF:
		pm_loop(w.count, pm_walk_least, &w);
		return w.real;
	case PM_SCHEDULER_DH:
		return pm_table_real(s, pm_hash32(pm_fold_addr(family, k->daddr)));
	case PM_SCHEDULER_SH: {
		__u32 port = service->flags & PM_SERVICE_SCHED_2 ? pm_ntohs(k->sport) : 0;
		__u32 from = pm_fold_addr(family, k->saddr);
		struct pm_sh_search h = { .schedule = s, .home = pm_hash32(port + from) };

		h.real = pm_table_real(s, h.home);
		if (h.real == PM_NONE && (service->flags & PM_SERVICE_SCHED_1))
			pm_loop(1 << PM_HASH_BITS, pm_sh_next, &h);
		return h.real;
	}
	case PM_SCHEDULER_MH:
		return pm_pick_mh(s, service, k, &w);
	case PM_SCHEDULER_TWOS:
	case PM_SCHEDULER_RANDOM:
	case PM_SCHEDULER_WRANDOM:
		return pm_pick_by_chance(slot, k);
	default:
		return PM_NONE;
	}
}

/* The same, of many real servers without a look at all of them (bpf/bracket.h). */
pm_inline __u32 pm_select(const struct pm_service *service, __u32 slot, const struct pm_key *k)
{
	__u32 word = pm_read(service->schedule), schedule = slot * 2 + !!(word & PM_SCHEDULE_ACTIVE), real;
	const struct pm_schedule *s = pm_schedules(schedule);

	if (s && s->bracket) {
		real = pm_final(schedule, word & 0xff);
		if (real != PM_UNPLAYED)
			return real;
	}
	return pm_schedule_pick(slot, k);
}

/* The same, by what is remembered of the packet's destination where the scheduler does so. */
pm_inline __u32 pm_pick(const struct pm_service *service, __u32 slot, const struct pm_key *k, __u32 now)
{
	__u32 real;

	if (pm_likely(!pm_keeps_localities(service)))
		return pm_select(service, slot, k);
	real = pm_recall(slot, k, now);
	if (real != PM_NONE)
		return real;
	real = pm_select(service, slot, k);
	if (real != PM_NONE)
		pm_remember(slot, k, real, now);
	return real;
}
