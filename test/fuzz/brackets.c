/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A bracket that several play at once. Whatever another CPU does at a packet's first look, at its second, and so on:
 * when both are through, every match says who would win it. And whoever is killed in the midst of it, as a process
 * that forwards may be, leaves nothing behind that others do not get over.
 *
 *     brackets
 *
 * Says what was not as it should be; 1 if something was.
 */
#define REALS 1200
#define MEMBERS 4096
#include <stddef.h>
#include "other-cpu.h"
#include "one-service.h"
#include <setjmp.h>

static uint64_t dice;
static uint32_t below(uint32_t n)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	return (dice >> 33) % n;
}

static int complain(const char *what, uint64_t which)
{
	printf("%s (%llu, moment %u)\n", what, (unsigned long long)which, moment);
	return 1;
}

/* A service of so many real servers, each in its seat; some counts are the same, nothing has been played. */
static void begin_bracket(uint32_t count, uint32_t order, uint64_t seed)
{
	struct pm_schedule *s;

	begin(PM_METHOD_DR, 1);
	dice = seed * 0x9E3779B97F4A7C15ull + 1;
	pm_services(0)->schedule = PM_SCHEDULER_LC;
	s = pm_schedules(0);
	*s = (struct pm_schedule){ .count = count, .table_first = count, .bracket = order, .unplayed = (1u << order) - 1 };
	for (uint32_t i = 0; i < count; i++) {
		*pm_reals(i) = *pm_reals(0);
		*pm_members(i) = (struct pm_member){ .real = i, .weight = 1 };
		*pm_live(i) = (struct pm_live){ .seat = count - i, .inactive = 1 + below(3) };
	}
}

/* Until everything is played for: who is chosen. */
static uint32_t choose(void)
{
	uint32_t real = PM_UNPLAYED;

	for (int n = 0; n < 10 && real == PM_UNPLAYED; n++)
		real = pm_final(0, PM_SCHEDULER_LC);
	return real;
}

static uint32_t walked(void)
{
	struct pm_walk w = { .kind = PM_SCHEDULER_LC, .count = pm_schedules(0)->count, .real = PM_NONE };

	pm_loop(w.count, pm_walk_least, &w);
	return w.real;
}

/* Matches that say somebody else than would win, if they were played now, from the last to the first. */
static unsigned misjudged_by(uint32_t kind)
{
	struct pm_schedule *s = pm_schedules(0);
	unsigned bad = 0;

	for (uint32_t match = (1u << s->bracket) - 1; match; match--)
		bad += !!(pm_play(0, kind, match) & PM_MATCH_CHANGED);
	return bad;
}

static unsigned misjudged(void)
{
	return misjudged_by(PM_SCHEDULER_LC);
}

static void count(uint32_t real, int by)
{
	pm_add(&pm_live(real)->inactive, by);
	(void)pm_challenge(real);
}

static uint32_t whom;
static int more;

static void another_change(void)
{
	count(whom, more);
	(void)choose();
}

static void change_to_be_seen(void)
{
	(void)choose();
	count(whom, more);
}

/* Two CPUs: this one has changed a count and chooses, another one does so at any moment. */
static int two_choose(void)
{
	for (uint64_t seed = 0; seed < 60; seed++) {
		for (moment = 0;; moment++) {
			uint32_t real, only;

			begin_bracket(40, 6, seed);
			(void)choose();
			real = below(40);
			/* Near each other: they meet early. */
			whom = seed & 1 ? real : (real & ~7u) + below(8);
			more = below(2) ? 1 : -1;
			only = below(3);
			step = 0;
			other_cpu = another_change;
			count(real, only ? -1 : 1);
			(void)choose();
			other_cpu = NULL;
			if (step <= moment)
				break;
			(void)choose();
			if (misjudged())
				return complain("a match is not as it would be played", seed);
		}
	}
	return 0;
}

/* Two CPUs play the matches that a bracket begins with, one of them much faster, which goes on to choose. */
static int two_begin(void)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		for (moment = 0;; moment += 9) {
			begin_bracket(REALS, 11, seed);
			whom = below(REALS - 1024); /* whose seats are in the matches that are played first */
			more = below(2) ? 2 : -1;
			step = 0;
			other_cpu = change_to_be_seen;
			(void)pm_final(0, PM_SCHEDULER_LC);
			other_cpu = NULL;
			if (step <= moment)
				break;
			(void)choose();
			if (misjudged())
				return complain("a match of the first round is not as it would be played", seed);
		}
	}
	return 0;
}

static jmp_buf dead;

static void die(void)
{
	longjmp(dead, 1);
}

/*
 * Who chooses, or has changed a count, is killed. When every real server has got a few connections more, the others choose
 * as a walk would: nobody gets all that come, and nobody none.
 */
static int one_dies(void)
{
	enum { ROUNDS = 400, LAST = 40 };

	for (uint64_t seed = 0; seed < 40; seed++) {
		for (moment = 0;; moment++) {
			volatile int alive = 0, wrong = 0;

			begin_bracket(40, 6, seed);
			(void)choose();
			step = 0;
			if (!setjmp(dead)) {
				other_cpu = die;
				count(below(40), below(2) ? 2 : -1);
				count(below(40), 1);
				(void)choose();
				alive = 1;
			}
			other_cpu = NULL;
			if (alive)
				break;
			for (int n = 0; n < ROUNDS; n++) {
				uint32_t real = choose(), best = walked();

				wrong += n >= ROUNDS - LAST && real != best;
				count(real, 1);
			}
			(void)choose();
			if (wrong || misjudged())
				return complain("after somebody's death others are chosen than by a walk", seed);
		}
	}
	return 0;
}

/* A service by rr or wrr: every so many-th real server can be had, some of them are heavy. */
static void begin_turns(uint32_t count, uint32_t order, uint32_t kind, uint32_t one_in, uint64_t seed)
{
	struct pm_schedule *s = pm_schedules(0);
	int32_t max = 0;

	begin_bracket(count, order, seed);
	s = pm_schedules(0);
	pm_services(0)->schedule = kind;
	for (uint32_t i = 0; i < count; i++) {
		pm_members(i)->weight = below(one_in) ? 0 : 1 + (int32_t)below(5);
		pm_live(i)->overloaded = !below(3);
		pm_live(i)->seat |= PM_SEAT_STEADY;
		if (pm_members(i)->weight > max)
			max = pm_members(i)->weight;
	}
	s->weight_step = 1;
	s->weight_max = max;
	s->cursor = (uint64_t)below((uint32_t)max + 1) << 32;
	/* The same, without a bracket. */
	*pm_schedules(1) = *s;
	pm_schedules(1)->bracket = 0;
}

static uint32_t walked_to(uint32_t kind)
{
	struct pm_schedule *s = pm_schedules(1);
	struct pm_walk w = { .kind = kind, .count = s->count, .real = PM_NONE };

	(void)(kind == PM_SCHEDULER_RR ? pm_try_rr(s, &w) : pm_try_wrr(s, &w));
	return w.real;
}

static uint32_t in_turn(uint32_t kind)
{
	uint32_t real = PM_UNPLAYED;

	for (int n = 0; n < 10 && real == PM_UNPLAYED; n++)
		real = pm_final(0, kind);
	return real;
}

static void overload(uint32_t real)
{
	pm_live(real)->overloaded ^= 1;
	(void)pm_challenge(real);
}

/* Whose turn it is, and what is left behind for the next, are what a walk says. */
static int turns(void)
{
	static const uint32_t counts[] = { 33, 64, 65, 200, REALS };

	for (uint64_t seed = 0; seed < 300; seed++) {
		uint32_t count = counts[seed % 5], kind = seed & 1 ? PM_SCHEDULER_RR : PM_SCHEDULER_WRR;

		begin_turns(count, count > 1024 ? 11 : count > 128 ? 8 : count > 64 ? 7 : 6, kind, 1 + below(60), seed);
		for (int n = 0; n < 200; n++) {
			uint32_t wanted = walked_to(kind), got = in_turn(kind);

			if (got != wanted || pm_schedules(0)->cursor != pm_schedules(1)->cursor) {
				printf("%u, not %u; %llx, not %llx\n", got, wanted,
				       (unsigned long long)pm_schedules(0)->cursor,
				       (unsigned long long)pm_schedules(1)->cursor);
				return complain("it is another one's turn than by a walk", seed);
			}
			for (uint32_t more = below(4); more > 1; more--)
				overload(below(count));
		}
	}
	return 0;
}

static void overload_another(void)
{
	overload(whom);
}

/* Somebody is overloaded, or no more, at any moment of the choice. */
static int turns_of_two(void)
{
	for (uint64_t seed = 0; seed < 60; seed++) {
		for (moment = 0;; moment++) {
			uint32_t kind = seed & 1 ? PM_SCHEDULER_RR : PM_SCHEDULER_WRR, got;

			begin_turns(40, 6, kind, 8, seed);
			(void)in_turn(kind);
			for (int n = 0; n < 3; n++)
				overload(below(40));
			whom = below(40);
			step = 0;
			other_cpu = overload_another;
			got = in_turn(kind);
			other_cpu = NULL;
			if (got < 40 && got != whom && (pm_live(got)->overloaded || pm_members(got)->weight <= 0))
				return complain("it is the turn of somebody that cannot take a connection", seed);
			if (step <= moment)
				break;
			pm_schedules(1)->cursor = pm_schedules(0)->cursor;
			for (int n = 0; n < 40; n++)
				if (in_turn(kind) != walked_to(kind))
					return complain("after that it is another one's turn than by a walk", seed);
			/* Some of it had been looked at by nobody yet. */
			while (pm_take_challenge(0) != PM_NONE)
				;
		}
	}
	return 0;
}

/* Of mh, and nobody who can take a connection: how often the list was walked over until somebody can. */
static int nobody(void)
{
	struct pm_key k = { .saddr = { pm_htonl(CLIENT) }, .sport = pm_htons(1024) };
	const uint32_t word = PM_SCHEDULER_MH;
	struct pm_schedule *s;

	begin_bracket(100, 0, 1);
	s = pm_schedules(0);
	s->table_first = 100;
	s->table_count = 251;
	pm_services(0)->schedule = word;
	pm_services(0)->flags = PM_SERVICE_SCHED_1;
	for (uint32_t i = 0; i < 251; i++)
		*pm_members(100 + i) = (struct pm_member){ .real = i % 100, .weight = 1 };
	for (uint32_t i = 0; i < 100; i++)
		*pm_live(i) = (struct pm_live){ .overloaded = 1 };
	for (moment = 0;; moment++) {
		pm_live(7)->overloaded = 1;
		s->nobody = 0;
		whom = 7;
		step = 0;
		other_cpu = overload_another;
		(void)pm_consult(0, word, &k, 0);
		other_cpu = NULL;
		if (step <= moment)
			break;
		if (pm_consult(0, word, &k, 0) != 7)
			return complain("who is overloaded no more is not found", 7);
	}
	pm_live(7)->overloaded = 1;
	if (pm_consult(0, word, &k, 0) != PM_NONE || s->nobody != s->released + 1)
		return complain("that there is nobody is not remembered", 7);
	/* Without a word of it, as nobody does: it is not looked for. */
	pm_live(7)->overloaded = 0;
	if (pm_consult(0, word, &k, 0) != PM_NONE)
		return complain("everybody was looked at again", 7);
	(void)pm_challenge(7);
	return pm_consult(0, word, &k, 0) == 7 ? 0 : complain("who said so is not found", 7);
}

int main(void)
{
	int bad = 0;

	bad |= turns();
	bad |= turns_of_two();
	bad |= nobody();
	bad |= two_choose();
	bad |= two_begin();
	bad |= one_dies();
	return bad;
}
