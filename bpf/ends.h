/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What packets of full NAT leave as. Both of their ends are replaced: those of a client's packets by the key of their
 * connection's line for answers, the other way round, and those of answers by that of the client's line. So each
 * direction's packets read both lines, and nothing is stored twice.
 */
#pragma once

#include "connection.h"

/* One end of a packet. */
struct pm_end {
	__be32 addr[4];
	__be16 port;
	__u16 pad;
};

/* Which of the two. */
#define PM_SOURCE 1u

/*
 * An end that packets of the line have when they leave: 0 if the line is not that of `word` any more, or one of both
 * is just being moved.
 */
pm_inline int pm_look_end(int family, __u32 index, __u32 word, __u32 source, struct pm_end *end)
{
	const struct pm_conn *c = pm_line(family, index), *other;
	__u64 head, theirs, again;
	const pm_u32 *from;
	__u32 any;

	if (!c || !end)
		return 0;
	head = pm_head(c);
	if (!pm_same_owner(head, word))
		return 0;
	other = pm_peer(family, index, pm_glance(pm_after(c, head)->peer), &theirs);
	if (!other)
		return 0;
	other = pm_after(other, theirs);
	if (family == 4)
		from = source ? (const pm_u32 *)&((const struct pm_conn4 *)other)->daddr :
				(const pm_u32 *)&((const struct pm_conn4 *)other)->saddr;
	else
		from = source ? (const pm_u32 *)((const struct pm_conn6 *)other)->daddr :
				(const pm_u32 *)((const struct pm_conn6 *)other)->saddr;
	any = end->port = source ? pm_glance(other->dport) : pm_glance(other->sport);
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			any |= end->addr[i] = pm_glance(from[i]);
	again = pm_head(pm_after(other, any));
	return pm_same_owner(again, theirs);
}

PM_PART int pm_look_end4(__u32 index, __u32 word, __u32 source, struct pm_end *end)
{
	return pm_look_end(4, index, word, source, end);
}

PM_PART int pm_look_end6(__u32 index, __u32 word, __u32 source, struct pm_end *end)
{
	return pm_look_end(6, index, word, source, end);
}
