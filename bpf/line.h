/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A line of a connection table, as packets on many CPUs and the daemon's sweeper share it.
 *
 * Its head is one 64-bit word: status, state, class, counts, generation, and the time it ends. Everything
 * about a live line is decided from a head that was read once, and done by swapping exactly that head for
 * another: who wins the swap owns what goes with it. Fields behind the head are written by the line's
 * owner alone, while it is claimed; the next hop, while it is held. Packets work on a copy (pm_look) that
 * is proven to be all of one owner.
 */
#pragma once

#include "parse.h"

/* No line, where there may be one: index in the high half, word in the low. */
#define PM_NO_LINE (~0ull)

/* Attempts at a swap that others keep winning: each loss means that somebody else has got on. */
#define PM_TRIES 8

pm_inline struct pm_conn *pm_line(int family, __u32 index)
{
	return family == 4 ? (struct pm_conn *)pm_connections4(index) :
			     (struct pm_conn *)pm_connections6(index);
}

pm_inline __u64 pm_head(const struct pm_conn *c)
{
	return pm_glance(*(const pm_u64 *)c);
}

pm_inline __u64 pm_head_of(__u32 word, __u32 until)
{
	return (__u64)until << 32 | word;
}

pm_inline __u32 pm_until(__u64 head)
{
	return head >> 32;
}

pm_inline __u32 pm_status(__u64 head)
{
	return head & PM_CONN_STATUS;
}

pm_inline int pm_is_live(__u64 head)
{
	return pm_status(head) == PM_CONN_LIVE;
}

pm_inline __u8 pm_state(__u64 head)
{
	return (__u32)head >> PM_CONN_STATE_SHIFT & PM_CONN_STATE_MASK;
}

pm_inline __u32 pm_class(__u64 head)
{
	return (__u32)head >> PM_CONN_CLASS_SHIFT & PM_CONN_CLASS_MASK;
}

/* Whether two words of a line say that the same owner had it. */
pm_inline int pm_same_owner(__u32 one, __u32 other)
{
	return !((one ^ other) & (PM_CONN_STATUS | PM_CONN_GENERATIONS));
}

/* A live connection's word, as the next of another's in the same line. */
pm_inline __u32 pm_live_word(__u32 word, __u8 state, __u32 class, __u32 bits)
{
	return (word & (PM_CONN_GENERATIONS | PM_CONN_EPOCHS | PM_CONN_HOLDS)) | (__u32)state << PM_CONN_STATE_SHIFT |
	       class << PM_CONN_CLASS_SHIFT | bits | PM_CONN_LIVE;
}

pm_inline int pm_swap_head(struct pm_conn *c, __u64 from, __u64 to)
{
	return pm_swap((pm_u64 *)c, from, to);
}

/* The head of a line that is taken from whoever has `head`, at this time. */
pm_inline __u64 pm_claimed(__u64 head, __u32 now)
{
	__u32 word = head;

	word = (word & PM_CONN_HOLDS) | ((word + PM_CONN_GENERATION) & PM_CONN_GENERATIONS);
	return pm_head_of(word | PM_CONN_CLAIMED, now);
}

/*
 * Gives back a line that is claimed with this head. If somebody has taken it for abandoned meanwhile, it is
 * no longer ours to give.
 */
pm_inline void pm_free(struct pm_conn *c, __u64 claimed)
{
	pm_swap_head(c, claimed, (__u32)claimed - PM_CONN_CLAIMED + PM_CONN_FREED);
}

/* A line as it was seen, and what packets need beside it. */
struct pm_seen {
	struct pm_next_hop hop __attribute__((aligned(8))); /* is copied by words of that */
	/* REPLY: the virtual address and port (pm_look_virtual). */
	__u32 port;
	__be32 addr[4];
	struct pm_conn c;
};

pm_inline enum pm_conn_kind pm_kind_of(__u8 traits)
{
	return traits & PM_CONN_KIND_MASK;
}

pm_inline enum pm_method pm_method_of(__u8 traits)
{
	return traits >> PM_CONN_METHOD_SHIFT & PM_CONN_METHOD_MASK;
}

/* Whether packets of this method get other addresses, so that those of their answers are translated, too. */
pm_inline int pm_translates(__u32 method)
{
	return method < PM_METHOD_TUN;
}

pm_inline __u8 pm_traits(enum pm_conn_kind kind, __u32 method, __u8 flags)
{
	return kind | (method & PM_CONN_METHOD_MASK) << PM_CONN_METHOD_SHIFT | flags;
}

/* Whether a next hop is not what was found at some time, but what there is always to be; or none. */
pm_inline int pm_is_given(__u32 neighbour)
{
	return neighbour < PM_NEIGHBOUR_BUCKET;
}

/* Protocol, traits and next hop; real server; the other line. */
#define PM_SEEN_FIRST (__builtin_offsetof(struct pm_conn, protocol) / 4)
#define PM_SEEN_WORDS (sizeof(struct pm_conn) / 4)

/*
 * Copies the live line that `head` was read of. 0: its owner has gone meanwhile, and what was read may be
 * another's in part. A next hop that somebody is writing is none; one that is given is written by nobody.
 */
pm_inline int pm_look(const struct pm_conn *c, __u64 head, struct pm_seen *seen)
{
	const pm_u32 *from = (const pm_u32 *)pm_after(c, head);
	pm_u32 *to = (pm_u32 *)&seen->c;
	__u32 any = 0, changed;
	__u64 again;

#pragma unroll
	for (__u32 i = PM_SEEN_FIRST; i < PM_SEEN_WORDS; i++)
		any |= to[i] = pm_glance(from[i]);
	again = pm_head(pm_after(c, any));
	if (!pm_same_owner(again, head))
		return 0;
	changed = (__u32)(again ^ head) & (PM_CONN_EPOCHS | PM_CONN_HOLDS);
	if (pm_unlikely(changed || ((__u32)(again | head) & PM_CONN_HELD)) && !pm_is_given(seen->c.neighbour))
		seen->c.neighbour = 0;
	seen->c.word = again;
	seen->c.expires = pm_until(again);
	return 1;
}

/*
 * The right to write the next hop of a live line: nobody ends it meanwhile. 0 if its owner is not that of
 * `word`, or somebody else is writing.
 */
pm_inline int pm_hold(struct pm_conn *c, __u32 word)
{
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 head = pm_head(c);

		if (!pm_same_owner(head, word) || ((__u32)head & PM_CONN_HELD))
			return 0;
		if (pm_swap_head(c, head, head | PM_CONN_HELD))
			return 1;
	}
	return 0;
}

/* Gives that right back. Others may move state and time meanwhile, so that this is an addition: it cannot fail. */
pm_inline void pm_release(struct pm_conn *c)
{
	pm_add(&c->word, PM_CONN_HOLD - PM_CONN_HELD);
}

/*
 * The same with the epoch of the next hop that was written: nobody else changes that. Where it begins anew, one
 * is carried to the count above, which does not mind.
 */
pm_inline void pm_commit(struct pm_conn *c, __u32 epoch)
{
	__u32 later = ((epoch << PM_CONN_EPOCH_SHIFT) - (pm_read(c->word) & PM_CONN_EPOCHS)) & PM_CONN_EPOCHS;

	pm_add(&c->word, later + PM_CONN_HOLD - PM_CONN_HELD);
}
