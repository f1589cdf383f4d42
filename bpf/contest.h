/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Playing a schedule's bracket (bpf/bracket.h): who of many real servers has the least to do for its weight. */
#pragma once

#include "turn.h"

/* Matches that a packet plays of a bracket that has not been played through yet; meanwhile members are walked over. */
#define PM_MATCHES_AT_ONCE 512
/* Challenges that a packet plays for. After a sweep there may be more: then members are walked over, too. */
#define PM_CHALLENGES_AT_ONCE 64
/*
 * Attempts to write a match. Who has written looks at both sides again: they may have changed since he first did, and
 * who changed them may have found the match as it ought to be, before it was written. Who loses two attempts has been
 * overtaken by somebody that saw all that he did.
 */
#define PM_MATCH_TRIES 4
#define PM_SEATS_PER_CHALLENGE (1u << (PM_BRACKET_MAX - PM_BRACKET_CHALLENGES_SHIFT))

pm_inline struct pm_form pm_form_of_seat(const struct pm_schedule *s, __u32 kind, __u32 seat)
{
	return pm_form_of(seat - 1 < s->count ? pm_members(s->first + s->count - seat) : PM_NULL, kind);
}

/* Who has come through to a match from one of its two sides. */
pm_inline __u32 pm_through(const struct pm_schedule *s, __u32 leaves, __u32 side)
{
	const pm_u64 *match;

	if (side >= leaves)
		return side - leaves < s->count ? side - leaves + 1 : 0;
	match = pm_bracket_word(s, side);
	return match ? (__u32)pm_read(*match) : 0;
}

/* Plays one match; who has won, with PM_MATCH_CHANGED if it was somebody else before. */
#define PM_MATCH_CHANGED 0x80000000u
PM_PART __u32 pm_play(__u32 schedule, __u32 kind, __u32 match)
{
	const struct pm_schedule *s = pm_schedules(schedule);
	__u32 won = 0, leaves, n = 0;
	pm_u64 *word;

	if (!s)
		return 0;
	leaves = 1u << (s->bracket & 31);
	word = pm_bracket_word(s, match);
#pragma clang loop unroll(disable)
	for (; word && n < PM_MATCH_TRIES; n++) {
		__u64 was = pm_read(*word);
		__u32 later = pm_through(s, leaves, 2 * match), earlier = pm_through(s, leaves, 2 * match + 1);
		struct pm_form one = pm_form_of_seat(s, kind, earlier), other = pm_form_of_seat(s, kind, later);

		won = pm_outdoes(&other, &one) ? later : one.weight > 0 ? earlier : 0;
		if ((__u32)was == won)
			break;
		(void)pm_swap(word, was, ((was >> 32) + 1) << 32 | won);
	}
	return n ? won | PM_MATCH_CHANGED : won;
}

/* The matches below a challenge of several seats, from the last to the one that all of them lead to. */
PM_PART int pm_play_below(__u32 schedule, __u32 kind, __u32 challenge)
{
	struct pm_schedule *s = pm_schedules(schedule);
	__u32 shift, match;

	if (!s || s->bracket <= PM_BRACKET_CHALLENGES_SHIFT || s->bracket > PM_BRACKET_MAX)
		return 0;
	shift = pm_challenge_shift(s->bracket);
	match = (1u << (s->bracket - shift)) + challenge;
	for (__u32 at = PM_SEATS_PER_CHALLENGE - 1; at; at--) {
		__u32 depth = 0;

		if (at >> shift)
			continue;
		for (__u32 n = at; n > 1; n >>= 1)
			depth++;
		(void)pm_play(schedule, kind, (match << depth) + at - (1u << depth));
	}
	return 0;
}

/* Plays on from a match, up to where that changes nothing any more. */
PM_PART int pm_play_on(__u32 schedule, __u32 kind, __u32 match)
{
	for (__u32 n = 0; n < PM_BRACKET_MAX; n++) {
		match >>= 1;
		if (!match || !(pm_play(schedule, kind, match) & PM_MATCH_CHANGED))
			break;
	}
	return 0;
}

/* Who has come through to the end, as a challenge. */
pm_inline __u32 pm_challenge_of_final(__u32 schedule, __u32 shift)
{
	const struct pm_schedule *s = pm_schedules(schedule);
	const pm_u64 *final = s ? pm_bracket_word(s, 1) : PM_NULL;

	return final ? ((__u32)pm_read(*final) - 1) >> shift : PM_NONE;
}

/* A bracket of this order does not stay in the caches from one packet to the next. */
#define PM_BRACKET_FAR 9

/*
 * Looks at whom a challenge will meet on the way to the final, before the first match is played: what has to come from
 * memory comes at the same time, not one match after the other.
 */
PM_PART int pm_foresee(__u32 schedule, __u32 match)
{
	const struct pm_schedule *s = pm_schedules(schedule);
	__u32 leaves;

	if (!s)
		return 0;
	leaves = 1u << (s->bracket & 31);
#pragma clang loop unroll(disable)
	for (__u32 n = 0; n < PM_BRACKET_MAX && match > 1; n++, match >>= 1) {
		__u32 seat = pm_through(s, leaves, match ^ 1);
		const struct pm_member *m = seat - 1 < s->count ? pm_members(s->first + s->count - seat) : PM_NULL;
		const struct pm_live *live = m ? pm_live(m->real) : PM_NULL;

		if (live)
			(void)pm_read(live->active);
	}
	return 0;
}

/* Plays for a challenge's seats again, up to where that changes nothing any more. */
PM_PART int pm_play_up(__u32 schedule, __u32 kind, __u32 challenge)
{
	struct pm_schedule *s = pm_schedules(schedule);
	__u32 shift, match;

	if (!s || s->bracket > PM_BRACKET_MAX)
		return 0;
	shift = pm_challenge_shift(s->bracket);
	match = (1u << (s->bracket - shift)) + challenge;
	if (s->bracket >= PM_BRACKET_FAR)
		(void)pm_foresee(schedule, match);
	for (__u32 n = 0; n < PM_BRACKET_CHALLENGES_SHIFT; n++) {
		__u32 won;

		match >>= 1;
		if (!match)
			break;
		won = pm_play(schedule, kind, match);
		/*
		 * Still another's, whose counts have not changed: then so it is further up. Unless whoever wrote this was
		 * killed before he got there: then in the end who has just been chosen for no reason says so.
		 */
		if (!(won & PM_MATCH_CHANGED) && (won - 1) >> shift != challenge &&
		    pm_challenge_of_final(schedule, shift) != challenge)
			break;
	}
	return 0;
}

/* Takes one challenge away, whose seats are to be played for; PM_NONE: there is none; PM_NO_CHALLENGE: somebody else has it. */
#define PM_NO_CHALLENGE 0xfffffffeu
PM_PART __u32 pm_take_challenge(__u32 schedule)
{
	struct pm_schedule *s = pm_schedules(schedule);
	pm_u64 *any = s ? pm_bracket_word(s, 0) : PM_NULL, *challenges;
	__u32 word, bit;
	__u64 seen;

	if (!any)
		return PM_NONE;
	seen = pm_read(*any);
	if (!seen)
		return PM_NONE;
	word = pm_lowest_bit(seen);
	challenges = pm_bracket_word(s, (1u << (s->bracket & 31)) + word);
	if (!challenges)
		return PM_NONE;
	(void)pm_clear_bits(any, 1ull << word);
	seen = pm_read(*challenges);
	if (!seen)
		return PM_NO_CHALLENGE;
	bit = pm_lowest_bit(seen);
	seen = pm_clear_bits(challenges, 1ull << bit);
	if (seen & ~(1ull << bit))
		(void)pm_set_bits(any, 1ull << word);
	return seen >> bit & 1 ? word * 64 + bit : PM_NO_CHALLENGE;
}

/* Some of the matches that a new bracket begins with, from the last one to the final. */
PM_PART int pm_play_first(__u32 schedule, __u32 kind)
{
	struct pm_schedule *s = pm_schedules(schedule);
	__u32 from;

	if (!s)
		return 0;
	from = pm_read(s->unplayed);
	for (__u32 i = 0; i < PM_MATCHES_AT_ONCE && i < from; i++) {
		/* Others may have gone on meanwhile: then nobody comes by here again. */
		if ((pm_play(schedule, kind, from - i) & PM_MATCH_CHANGED) && pm_read(s->unplayed) != from)
			(void)pm_play_on(schedule, kind, from - i);
	}
	(void)pm_swap(&s->unplayed, from, from > PM_MATCHES_AT_ONCE ? from - PM_MATCHES_AT_ONCE : 0);
	return 0;
}

/* Index in reals of the one with the least to do for its weight, or whose turn it is; PM_NONE, PM_UNPLAYED. */
PM_PART __u32 pm_final(__u32 schedule, __u32 kind)
{
	__u32 in_turn = kind == PM_SCHEDULER_RR || kind == PM_SCHEDULER_WRR, challenge = 0, seat, real;
	struct pm_schedule *s = pm_schedules(schedule);
	struct pm_member *m;
	const pm_u64 *final;

	if (!s)
		return PM_NONE;
	if (in_turn) {
		real = pm_in_turn(schedule, kind, 0);
		if (pm_likely(real != PM_UNPLAYED))
			return real;
	}
	if (pm_read(s->unplayed)) {
		(void)pm_play_first(schedule, kind);
		return PM_UNPLAYED;
	}
	for (int n = 0; n < PM_CHALLENGES_AT_ONCE; n++) {
		challenge = pm_take_challenge(schedule);
		if (challenge == PM_NONE)
			break;
		if (challenge == PM_NO_CHALLENGE)
			continue;
		if (pm_unlikely(s->bracket > PM_BRACKET_CHALLENGES_SHIFT))
			(void)pm_play_below(schedule, kind, challenge);
		(void)pm_play_up(schedule, kind, challenge);
	}
	if (challenge != PM_NONE)
		return PM_UNPLAYED;
	if (in_turn)
		return pm_in_turn(schedule, kind, PM_TURNING_PLAYED);
	final = pm_bracket_word(s, 1);
	seat = final ? (__u32)pm_read(*final) : 0;
	if (seat - 1 >= s->count)
		return PM_NONE;
	m = pm_members(s->first + s->count - seat);
	return m ? m->real : PM_NONE;
}
