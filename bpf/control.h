/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which connections a persistence template controls: it stays as long as there are any. The count is at the
 * same time what opens and closes a template, so that nobody counts on one that is ending:
 *
 *   to count a connection, the word is raised while it is open, then the template's head looked at once more;
 *   to end a template its line is claimed, then the word closed, which works for a count of zero only.
 *
 * Whoever is late finds another owner and takes back what was counted; while that is there, the line is a
 * template's. The daemon's sweeper (control/connections/sweep.ts) plays by the same rules.
 */
#pragma once

#include "lookup.h"

pm_inline __u32 *pm_control(int family, __u32 index)
{
	struct pm_controls *set = family == 4 ? pm_controls4(index / PM_WAYS) : pm_controls6(index / PM_WAYS);

	return set ? &set->word[index % PM_WAYS] : PM_NULL;
}

/* One connection less of the template in this line: it is one for as long as that was counted. */
pm_inline void pm_uncontrol(int family, __u32 index)
{
	__u32 *word = pm_control(family, index);

	if (word)
		pm_add(word, -1);
}

/* One more of the live template that was found with this head; 0: it has ended, or is about to. */
pm_inline int pm_take_control(int family, __u32 index, __u64 head)
{
	__u32 *word = pm_control(family, index);
	struct pm_conn *c = pm_line(family, index);
	int taken = 0;

	if (!word || !c)
		return 0;
	for (int n = 0; n < PM_TRIES && !taken; n++) {
		__u32 was = pm_read(*word);

		if (!(was & PM_CONTROL_OPEN))
			return 0;
		taken = pm_swap(word, was, was + 1);
	}
	if (!taken)
		return 0;
	if (pm_same_owner(pm_head(c), head))
		return 1;
	pm_uncontrol(family, index);
	return 0;
}

pm_inline int pm_controls_any(int family, __u32 index)
{
	const __u32 *word = pm_control(family, index);

	return word && (pm_read(*word) & ~PM_CONTROL_OPEN) != 0;
}

pm_inline void pm_set_control(int family, __u32 index, __u32 template)
{
	__u32 *word = pm_control(family, index);

	if (word)
		pm_write(*word, template);
}

/* A connection that is controlled gets another line. */
pm_inline void pm_copy_control(int family, __u32 from, __u32 to)
{
	const __u32 *one = pm_control(family, from);
	__u32 *other = pm_control(family, to);

	if (one && other)
		pm_write(*other, pm_read(*one));
}
