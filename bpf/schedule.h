/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Choosing a real server for a new connection. Each scheduler walks the service's members (IPVS's
 * list order, newest first) or a table compiled from them; see docs/ARCHITECTURE.md for why these run
 * here and not in the daemon.
 */
#pragma once

#include "contest.h"
#include "locality.h"
#include "table.h"

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
		pm_unknown(w->heaviest, cursor);
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

/*
 * Whom one of a service's tables has for a packet: that of this word of scheduler and schedule, or the one before it
 * (untracked.h).
 */
PM_PART __u32 pm_consult(__u32 slot, __u32 word, const struct pm_key *k, __u32 before)
{
	struct pm_service *service = pm_services(slot);
	struct pm_schedule *s;
	struct pm_table t;

	if (!service || !k)
		return PM_NONE;
	s = pm_schedules(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE));
	if (!s)
		return PM_NONE;
	if (before)
		t = (struct pm_table){ .first = s->before_first, .count = s->before_count,
				       .members = s->before_members, .how = s->before_how };
	else
		t = pm_table_of(service, s, word);
	return pm_from_table(&t, service->family, k, before ? PM_NULL : s);
}

/* Index in reals of the choice for this packet, or PM_NONE. */
PM_PART __u32 pm_schedule_pick(__u32 slot, const struct pm_key *k)
{
	struct pm_service *service = pm_services(slot);
	struct pm_walk w = { .found = PM_NONE, .real = PM_NONE };
	struct pm_schedule *s;
	__u32 word, kind;
	__u64 cursor;

	if (!service || !k)
		return PM_NONE;
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
		cursor = pm_read(s->cursor);
		pm_unknown(w.best_load, cursor);
		pm_unknown(w.best_weight, cursor);
		pm_loop(w.count, pm_walk_least, &w);
		return w.real;
	case PM_SCHEDULER_DH:
	case PM_SCHEDULER_SH:
	case PM_SCHEDULER_MH:
		return pm_consult(slot, word, k, 0);
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
