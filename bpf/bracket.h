/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The bracket of a service with many real servers, whose scheduler takes the one with the least to do: a knock-out
 * over their live counts, so that a new connection need not look at all of them (bpf/contest.h plays it). With `rr`
 * and `wrr` the heaviest wins that can take a connection (bpf/turn.h). It stands behind the schedule's members, one
 * word each:
 *
 *   0                 which words of challenges are not empty
 *   1 .. leaves - 1   matches, as a heap: 1 is the final, that of 2i and 2i+1 is i. Who has won in the low half,
 *                     as a seat; in the high half how often the word has been written
 *   leaves ..         challenges: a bit for each seat, or few seats, to be played for again
 *
 * A seat is 1 + the place in the list from its end, so that a real server keeps its seat when others are added,
 * which come first. Who has changed what a real server is chosen by challenges its seat afterwards (pm_challenge;
 * the daemon and its sweeper by control/compile/bracket.ts); who chooses takes challenges away before it looks at
 * counts. So a change is never lost, however many CPUs change and choose.
 */
#pragma once

#include "host.h"

#define PM_CHALLENGE_WORDS 64 /* as many as the first word has bits */

/* Seats that share a challenge, as a power of two. */
pm_inline __u32 pm_challenge_shift(__u32 order)
{
	return order > PM_BRACKET_CHALLENGES_SHIFT ? order - PM_BRACKET_CHALLENGES_SHIFT : 0;
}

pm_inline pm_u64 *pm_bracket_word(const struct pm_schedule *s, __u32 at)
{
	return (pm_u64 *)pm_members(s->table_first + at);
}

/*
 * A real server's counts have changed, or whether it is overloaded: its seat is to be played for again. Without a seat
 * it can only be that who was overloaded is so no more, of those that a table is about: then somebody can be chosen.
 */
pm_inline void pm_challenge_seat(__u32 real_index)
{
	const struct pm_real *real = pm_reals(real_index);
	struct pm_live *live = pm_live(real_index);
	const struct pm_service *service;
	struct pm_schedule *s;
	__u32 order, place, slot;
	pm_u64 *challenges, *any;
	__u64 bit;

	if (!real || !live)
		return;
	slot = real->service;
	service = pm_services(slot);
	if (!service)
		return;
	s = pm_schedules(slot * 2 + !!(pm_read(service->schedule) & PM_SCHEDULE_ACTIVE));
	if (!s)
		return;
	place = pm_read(live->seat);
	if (!place) {
		if (!pm_read(live->overloaded))
			pm_add(&s->released, 1);
		return;
	}
	place = (place & ~PM_SEAT_STEADY) - 1;
	if (place >= s->count)
		return;
	order = s->bracket;
	if (!order || order > PM_BRACKET_MAX)
		return;
	place >>= pm_challenge_shift(order);
	challenges = pm_bracket_word(s, (1u << order) + place / 64);
	any = pm_bracket_word(s, 0);
	if (!challenges || !any)
		return;
	(void)pm_set_bits(challenges, 1ull << place % 64);
	/* Also if somebody has said so before: he may have been killed in between, or who took the word away. */
	bit = 1ull << place / 64 % PM_CHALLENGE_WORDS;
	if (!(pm_read(*any) & bit))
		(void)pm_set_bits(any, bit);
}

PM_PART int pm_challenge(__u32 real_index)
{
	pm_challenge_seat(real_index);
	return 0;
}
