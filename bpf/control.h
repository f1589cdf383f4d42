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

/* What became of a connection that is to be counted. */
enum pm_taken {
	PM_TAKEN_NOT, /* the template has ended, or is about to */
	PM_TAKEN,
	PM_TAKEN_ALL, /* it has as many as it may have */
};

/* One more of the live template that was found with this head, which may have `most`, 0: any number. */
pm_inline enum pm_taken pm_take_control(int family, __u32 index, __u64 head, __u32 most)
{
	__u32 *word = pm_control(family, index);
	struct pm_conn *c = pm_line(family, index);
	int taken = 0;

	if (!word || !c)
		return PM_TAKEN_NOT;
	for (int n = 0; n < PM_TRIES && !taken; n++) {
		__u32 was = pm_read(*word);

		if (!(was & PM_CONTROL_OPEN))
			return PM_TAKEN_NOT;
		if (pm_unlikely(most && (was & ~PM_CONTROL_OPEN) >= most))
			return PM_TAKEN_ALL;
		taken = pm_swap(word, was, was + 1);
	}
	if (!taken)
		return PM_TAKEN_NOT;
	if (pm_same_owner(pm_head(c), head))
		return PM_TAKEN;
	pm_uncontrol(family, index);
	return PM_TAKEN_NOT;
}

pm_inline int pm_controls_any(int family, __u32 index)
{
	const __u32 *word = pm_control(family, index);

	return word && (pm_read(*word) & ~PM_CONTROL_OPEN) != 0;
}

/* Whether the template of the connection in this line leads somewhere, and does not only count it. */
pm_inline int pm_is_led(int family, __u32 index)
{
	const __u32 *word = pm_control(family, index);
	const struct pm_conn *c = word ? pm_line(family, pm_read(*word)) : PM_NULL;

	return !c || !(pm_state(pm_head(c)) & PM_TEMPLATE_SOURCE);
}

PM_PART int pm_is_led4(__u32 index)
{
	return pm_is_led(4, index);
}

PM_PART int pm_is_led6(__u32 index)
{
	return pm_is_led(6, index);
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
