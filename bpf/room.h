/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Room for a new connection: a line that is free, or whose connection gives way. */
#pragma once

#include "connection.h"

/* No line that was claimed, beside PM_NO_LINE. */
#define PM_ONLY_BY_FORCE (~1ull) /* there is none but those of connections that would have to give way */
#define PM_LINE_BUSY (~2ull)	 /* there is one of this key already, and other packets are at that just now */

/*
 * While the first set has room for a spare it is preferred, so that most hits are found there; then the
 * emptier one is. Simulated with half of all lines in use: both sets are full for 33 keys in 10,000.
 */
#define PM_WAYS_PREFERRED 3

/*
 * Who gives way, first to last; among equals the one that has been silent longest. One clock for all: the
 * time since the last packet, not the time left, which compares protocols by their timeouts.
 *
 *   ended       closing states: no client waits for them
 *   unproven    half-open, or nobody has answered. Silence of the half-open counts four times: what does
 *               not answer a SYN within a second seldom does
 *   datagrams   answered, and silent for two seconds: lookups are over by then
 *   idle        established, and silent for half a minute
 *
 * Nobody else does: a stranger's first packet is refused before a conversation is broken off.
 */
enum pm_rank {
	PM_RANK_STAYS = 0,
	PM_RANK_IDLE = 1,
	PM_RANK_DATAGRAMS = 2,
	PM_RANK_UNPROVEN = 3,
	PM_RANK_ENDED = 4,
};
#define PM_RANK_SHIFT 28
#define PM_SILENCE_MAX ((1u << PM_RANK_SHIFT) - 1)
#define PM_SILENCE_DATAGRAMS 256u  /* 2.1 s */
#define PM_SILENCE_IDLE 3584u	   /* 30 s */
#define PM_HALF_OPEN_SHIFT 2

/* Rank and silence in one number: the largest gives way. */
pm_inline __u32 pm_rank(const struct pm_settings *set, __u8 protocol, __u64 head, __u32 now)
{
	__u32 silence = pm_age(set, protocol, head, now), rank = PM_RANK_UNPROVEN;

	if (pm_is_ended(protocol, pm_state(head), !!((__u32)head & PM_CONN_INPUT_ONLY))) {
		rank = PM_RANK_ENDED;
	} else if (pm_is_half_open(protocol, pm_state(head))) {
		silence = silence > PM_SILENCE_MAX >> PM_HALF_OPEN_SHIFT ? PM_SILENCE_MAX :
									   silence << PM_HALF_OPEN_SHIFT;
	} else if (pm_class(head) == PM_CONN_ANSWERED) {
		if (protocol != PM_PROTO_UDP)
			rank = silence >= PM_SILENCE_IDLE ? PM_RANK_IDLE : PM_RANK_STAYS;
		else
			rank = silence >= PM_SILENCE_DATAGRAMS ? PM_RANK_DATAGRAMS : PM_RANK_STAYS;
	}
	if (rank == PM_RANK_STAYS)
		return 0;
	return rank << PM_RANK_SHIFT | (silence > PM_SILENCE_MAX ? PM_SILENCE_MAX : silence);
}

/*
 * The same of a persistence template: it stays while it controls a connection. One that never had an established
 * connection is as unproven as those, one that has had waits for the client to come back.
 */
pm_inline __u32 pm_template_rank(int family, __u32 index, __u64 head, __u32 now)
{
	struct pm_conn *c = pm_line(family, index);
	__s32 silence;

	if (!c || pm_controls_any(family, index))
		return 0;
	silence = now - (pm_until(head) - pm_template_stays(c, head));
	if (silence < 0)
		silence = 0;
	if ((__u32)silence > PM_SILENCE_MAX)
		silence = PM_SILENCE_MAX;
	if (!(pm_state(head) & PM_TEMPLATE_ASSURED))
		return PM_RANK_UNPROVEN << PM_RANK_SHIFT | silence;
	return (__u32)silence >= PM_SILENCE_IDLE ? PM_RANK_IDLE << PM_RANK_SHIFT | silence : 0;
}

PM_PART __u32 pm_template_rank4(__u32 index, __u64 head, __u32 now)
{
	return pm_template_rank(4, index, head, now);
}

PM_PART __u32 pm_template_rank6(__u32 index, __u64 head, __u32 now)
{
	return pm_template_rank(6, index, head, now);
}

/* What a connection of this rank and word is counted as when it gives way. */
pm_inline enum pm_verdict pm_evicted_as(__u32 rank, __u8 protocol, __u32 word)
{
	switch (rank >> PM_RANK_SHIFT) {
	case PM_RANK_ENDED:
		return PM_EVICTED_ENDED;
	case PM_RANK_UNPROVEN:
		return pm_is_half_open(protocol, pm_state(word)) ? PM_EVICTED_HALF_OPEN : PM_EVICTED_UNANSWERED;
	default:
		return PM_EVICTED_IDLE;
	}
}

/* The connection in the two sets of a key that gives way first. */
struct pm_victim {
	__u64 head;  /* of its IN line */
	__u32 index; /* of that, PM_NONE: nobody does */
	__u32 line;  /* its line in the sets: the same, or that of its replies */
	__u32 rank;
	__u32 as;    /* enum pm_verdict */
};

/*
 * Looks at one line whether its connection gives way sooner than `victim` does, and is that then. A part: the verifier
 * would follow it for each line of the sets.
 */
pm_inline void pm_weigh_line(int family, __u32 index, __u32 now, struct pm_victim *victim)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = pm_line(family, index), *fields;
	__u32 in = index, rank;
	int orphan = 0;
	__u64 head, own;
	__u8 protocol, kind;

	if (!set || !c || !victim)
		return;
	own = head = pm_head(c);
	fields = pm_after(c, head);
	if (!pm_is_live(head))
		return;
	kind = pm_kind_of(pm_glance(fields->traits));
	if (kind == PM_CONN_REPLY) {
		in = pm_glance(fields->peer);
		fields = pm_peer_as(family, index, in, PM_CONN_IN, &head);
		if (!fields) {
			/* Left over from a connection that has ended. */
			in = index;
			fields = pm_after(c, own);
			head = own;
			orphan = 1;
		}
	}
	if ((__u32)head & PM_CONN_HELD)
		return;
	protocol = pm_glance(fields->protocol);
	if (orphan)
		rank = PM_RANK_ENDED << PM_RANK_SHIFT | PM_SILENCE_MAX;
	else if (kind == PM_CONN_TEMPLATE)
		rank = family == 4 ? pm_template_rank4(in, head, now) : pm_template_rank6(in, head, now);
	else
		rank = pm_rank(set, protocol, head, now);
	if (rank <= victim->rank)
		return;
	victim->rank = rank;
	victim->head = head;
	victim->index = in;
	victim->line = index;
	victim->as = pm_evicted_as(rank, kind == PM_CONN_TEMPLATE ? 0 : protocol, head);
}

PM_PART int pm_weigh_line4(__u32 index, __u32 now, struct pm_victim *victim)
{
	pm_weigh_line(4, index, now, victim);
	return 0;
}

PM_PART int pm_weigh_line6(__u32 index, __u32 now, struct pm_victim *victim)
{
	pm_weigh_line(6, index, now, victim);
	return 0;
}

pm_inline void pm_choose_victim(int family, const struct pm_place *at, __u32 now, struct pm_victim *victim)
{
	victim->index = PM_NONE;
	victim->rank = 0;
	for (__u32 n = 0; n < PM_LINES; n++) {
		__u32 index = pm_nth(family, at, at->level, n);

		if (family == 4)
			pm_weigh_line4(index, now, victim);
		else
			pm_weigh_line6(index, now, victim);
	}
}

PM_PART int pm_choose_victim4(const struct pm_place *at, __u32 now, struct pm_victim *victim)
{
	if (!at || !victim)
		return 0;
	pm_choose_victim(4, at, now, victim);
	return victim->index != PM_NONE;
}

PM_PART int pm_choose_victim6(const struct pm_place *at, __u32 now, struct pm_victim *victim)
{
	if (!at || !victim)
		return 0;
	pm_choose_victim(6, at, now, victim);
	return victim->index != PM_NONE;
}

/*
 * Whether a live line is to be had: its time is over, and it is no template that controls connections, which stays
 * all the same.
 */
pm_inline int pm_is_spent(int family, const struct pm_conn *c, __u32 index, __u64 head, __u32 now)
{
	if (pm_likely(!pm_over(family, c, index, head, now)))
		return 0;
	return pm_kind_of(pm_glance(pm_after(c, head)->traits)) != PM_CONN_TEMPLATE || !pm_controls_any(family, index);
}

/* What a look over one set found: lines in use (claimed, or live and not spent), the first that is not. */
struct pm_set_room {
	__u32 used;
	__u32 free; /* PM_NONE */
};

pm_inline struct pm_set_room pm_survey(int family, const struct pm_place *at, __u32 set, __u32 now)
{
	struct pm_set_room room = { .free = PM_NONE };

#pragma unroll
	for (__u32 n = 0; n < PM_WAYS; n++) {
		__u32 i = pm_nth(family, at, at->level, set * PM_WAYS + n);
		struct pm_conn *c = pm_line(family, i);
		__u64 head;

		if (!c)
			break;
		head = pm_head(c);
		if (pm_status(head) == PM_CONN_CLAIMED || (pm_is_live(head) && !pm_is_spent(family, c, i, head, now)))
			room.used++;
		else if (room.free == PM_NONE)
			room.free = i;
	}
	return room;
}

/* Whether there is a line in the sets of `at` that is not in use: a part, since its caller has little stack left. */
pm_inline int pm_any_free(int family, const struct pm_place *at, __u32 now)
{
	return at && (pm_survey(family, at, 0, now).free != PM_NONE || pm_survey(family, at, 1, now).free != PM_NONE);
}

PM_PART int pm_any_free4(const struct pm_place *at, __u32 now)
{
	return pm_any_free(4, at, now);
}

PM_PART int pm_any_free6(const struct pm_place *at, __u32 now)
{
	return pm_any_free(6, at, now);
}

/* Claims one line that is free, or whose connection is over. PM_NO_LINE when somebody else was quicker. */
pm_inline __u64 pm_take(int family, __u32 index, __u32 now)
{
	struct pm_conn *c = pm_line(family, index);
	__u64 head, claimed;

	if (!c)
		return PM_NO_LINE;
	head = pm_head(c);
	if (pm_is_live(head)) {
		if (!pm_over(family, c, index, head, now) || !pm_end_over(family, c, index, head))
			return PM_NO_LINE;
		head = pm_head(c);
	}
	claimed = pm_claimed(head, now);
	if (pm_status(head) >= PM_CONN_CLAIMED || !pm_swap_head(c, head, claimed))
		return PM_NO_LINE;
	return (__u64)index << 32 | (__u32)claimed;
}

PM_PART __u64 pm_take4(__u32 index, __u32 now)
{
	return pm_take(4, index, now);
}

PM_PART __u64 pm_take6(__u32 index, __u32 now)
{
	return pm_take(6, index, now);
}

pm_inline __u64 pm_take_line(int family, __u32 index, __u32 now)
{
	struct pm_conn *c = pm_line(family, index);
	__u64 head, claimed;

	if (!c)
		return PM_NO_LINE;
	head = pm_head(c);
	claimed = pm_claimed(head, now);
	if (pm_likely(pm_status(head) < PM_CONN_CLAIMED && pm_swap_head(c, head, claimed)))
		return (__u64)index << 32 | (__u32)claimed;
	return family == 4 ? pm_take4(index, now) : pm_take6(index, now);
}

/* Claims a line in the sets of `at` that is free; PM_NO_LINE. */
pm_inline __u64 pm_claim_free(int family, const struct pm_place *at, __u32 now)
{
	struct pm_set_room one, two;
	__u64 line;
	int swap;

	if (!at)
		return PM_NO_LINE;
	one = pm_survey(family, at, 0, now);
	line = one.used < PM_WAYS_PREFERRED ? pm_take_line(family, one.free, now) : PM_NO_LINE;
	if (line == PM_NO_LINE) {
		two = pm_survey(family, at, 1, now);
		swap = one.used >= PM_WAYS_PREFERRED && two.used < one.used;
		line = pm_take_line(family, swap ? two.free : one.free, now);
		if (line == PM_NO_LINE)
			line = pm_take_line(family, swap ? one.free : two.free, now);
	}
	return line;
}

PM_PART __u64 pm_claim_free4(const struct pm_place *at, __u32 now)
{
	return pm_claim_free(4, at, now);
}

PM_PART __u64 pm_claim_free6(const struct pm_place *at, __u32 now)
{
	return pm_claim_free(6, at, now);
}

/* Attempts at other people's lines: they may have got a packet meanwhile. */
#define PM_EVICTIONS 3

/* The same of a line whose connection has to give way; PM_NO_LINE when they all stay. */
pm_inline __u64 pm_claim_by_force(int family, const struct pm_place *at, __u32 now)
{
	struct pm_victim victim;
	__u64 line;

	if (!at)
		return PM_NO_LINE;
	for (int n = 0; n < PM_EVICTIONS; n++) {
		victim.index = PM_NONE;
		if (!(family == 4 ? pm_choose_victim4(at, now, &victim) : pm_choose_victim6(at, now, &victim)))
			return PM_NO_LINE;
		if (!pm_end(family, victim.index, victim.head))
			continue;
		pm_tally(victim.as);
		line = pm_take_line(family, victim.line, now);
		if (line != PM_NO_LINE)
			return line;
	}
	return PM_NO_LINE;
}

PM_PART __u64 pm_claim_by_force4(const struct pm_place *at, __u32 now)
{
	return pm_claim_by_force(4, at, now);
}

PM_PART __u64 pm_claim_by_force6(const struct pm_place *at, __u32 now)
{
	return pm_claim_by_force(6, at, now);
}
