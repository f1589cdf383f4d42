/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A line for a new key, by what costs others least: a free one; one whose connection can as well stand in its
 * other set; one in a larger part of the table; one whose connection has to give way.
 */
#pragma once

#include "move.h"

/*
 * Places new lines in a larger part of the table, if there is one: 1, and `at` is there. This is asked for
 * first when about half of all lines are in use.
 */
pm_inline int pm_grow(int family, struct pm_place *at)
{
	struct pm_settings *set = pm_settings(0);
	__u32 *levels, was, level, next;

	if (!set)
		return 0;
	levels = pm_levels(family, set);
	was = pm_read(*levels);
	level = was & PM_LEVEL;
	if (level == at->level) {
		if (!level)
			return 0;
		next = level > PM_LEVEL_STEP ? level - PM_LEVEL_STEP : 0;
		/* Who loses has been forestalled. */
		(void)pm_swap(levels, was, (pm_levels_in_use(was) & ~(1u << next)) << PM_LEVELS_SHIFT | next);
		level = pm_read(*levels) & PM_LEVEL;
	}
	if (level >= at->level)
		return 0;
	at->level = level;
	return 1;
}

PM_PART int pm_grow4(struct pm_place *at)
{
	return at ? pm_grow(4, at) : 0;
}

PM_PART int pm_grow6(struct pm_place *at)
{
	return at ? pm_grow(6, at) : 0;
}

/*
 * Looks for a free line, each after the first in a larger part of the table: from the least there is to the largest
 * table are six steps.
 */
#define PM_GROWTHS 7
/* Lines of a full set that are asked whether their other set has room. */
#define PM_DISPLACED 3

/*
 * A line for a new key, claimed; PM_NO_LINE when the sets are full of connections that stay, and the table
 * cannot grow. Without `force` none has to give way.
 */
pm_inline __u64 pm_claim_line(int family, struct pm_place *at, __u32 now, int force)
{
	__u64 line = PM_NO_LINE;

	if (!at)
		return PM_NO_LINE;
	for (int n = 0; n < PM_GROWTHS; n++) {
		line = family == 4 ? pm_claim_free4(at, now) : pm_claim_free6(at, now);
		for (__u32 way = 0; way < PM_DISPLACED && pm_unlikely(line == PM_NO_LINE); way++)
			if (pm_displace(family, at, way, now))
				line = family == 4 ? pm_claim_free4(at, now) : pm_claim_free6(at, now);
		if (pm_likely(line != PM_NO_LINE))
			return line;
		if (!(family == 4 ? pm_grow4(at) : pm_grow6(at)))
			break;
	}
	if (!force)
		return PM_ONLY_BY_FORCE;
	return family == 4 ? pm_claim_by_force4(at, now) : pm_claim_by_force6(at, now);
}

PM_PART __u64 pm_claim4(struct pm_place *at, __u32 now, int force)
{
	return pm_claim_line(4, at, now, force);
}

PM_PART __u64 pm_claim6(struct pm_place *at, __u32 now, int force)
{
	return pm_claim_line(6, at, now, force);
}

pm_inline __u64 pm_claim(int family, struct pm_place *at, __u32 now, int force)
{
	__u64 line = family == 4 ? pm_claim_free4(at, now) : pm_claim_free6(at, now);

	if (pm_likely(line != PM_NO_LINE))
		return line;
	return family == 4 ? pm_claim4(at, now, force) : pm_claim6(at, now, force);
}

/* Whether `pm_claim` would find a line, by growth or force if need be. */
pm_inline int pm_has_room(int family, const struct pm_place *at, __u32 now)
{
	struct pm_victim victim = { .index = PM_NONE };

	if (at->level)
		return 1;
	return (family == 4 ? pm_any_free4(at, now) : pm_any_free6(at, now)) ||
	       (family == 4 ? pm_choose_victim4(at, now, &victim) : pm_choose_victim6(at, now, &victim));
}
