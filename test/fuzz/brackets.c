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
static unsigned misjudged(void)
{
	struct pm_schedule *s = pm_schedules(0);
	unsigned bad = 0;

	for (uint32_t match = (1u << s->bracket) - 1; match; match--)
		bad += !!(pm_play(0, PM_SCHEDULER_LC, match) & PM_MATCH_CHANGED);
	return bad;
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

int main(void)
{
	int bad = 0;

	bad |= two_choose();
	bad |= two_begin();
	bad |= one_dies();
	return bad;
}
