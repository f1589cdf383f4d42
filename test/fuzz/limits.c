/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Limits of one source that others count at the same time. Whatever another CPU does at a packet's first look, at
 * its second, and so on: no source has more connections than it may, all of them are counted, and who waited gets
 * what has come free. And whoever is killed in the midst of it, as a process that forwards may be, shuts nobody out.
 *
 *     limits
 *
 * Says what was not as it should be; 1 if something was.
 */
#include <stddef.h>
#include "other-cpu.h"
#include "one-service.h"
#include <setjmp.h>

enum { MOST = 2, RATE = 4, LENGTH = 24 };

static int complain(const char *what)
{
	printf("moment %u: %s\n", moment, what);
	return 1;
}

static void limited(uint8_t method, uint32_t connections, uint32_t rate, uint32_t seed)
{
	begin(method, seed);
	now = NOW;
	frame_at = 128;
	pm_settings(0)->flags |= PM_SETTING_LIMITS;
	pm_services(0)->order = 1;
	*pm_gates(0) = (struct pm_gate){ .order = 1, .connections = connections, .rate = rate, .length = LENGTH };
}

/* A client of the one source connects, or says something. */
static uint32_t from(uint16_t port, uint8_t flags)
{
	return send_frame(CLIENT + (port & 7), port, VIP, 80, flags);
}

/* Connections of the source; what its counting lines have counted, and how many of those there are. */
static unsigned connections(unsigned *counted, unsigned *counting)
{
	unsigned live = 0;

	*counted = *counting = 0;
	for (uint32_t i = 0; i < LINES; i++) {
		const struct pm_conn *c = pm_line(4, i);

		if (!pm_is_live(c->word))
			continue;
		live += pm_kind_of(c->traits) == PM_CONN_IN;
		if (pm_kind_of(c->traits) != PM_CONN_TEMPLATE)
			continue;
		++*counting;
		*counted += *pm_control(4, i) & ~PM_CONTROL_OPEN;
	}
	return live;
}

static unsigned given; /* to the other CPU */

static void two_more(void)
{
	frame_at = 320;
	given += from(2001, PM_TCP_SYN) == PM_FORWARD_DR;
	given += from(2002, PM_TCP_SYN) == PM_FORWARD_DR;
	frame_at = 128;
}

static void one_ends(void)
{
	frame_at = 320;
	(void)from(1999, PM_TCP_RST);
	now += 20000;
	pm_settings(0)->swept = now;
	frame_at = 128;
}

/* Three packets of a source that is not known yet, two of them on another CPU. */
static int first_packets(uint32_t seed)
{
	for (moment = 0;; moment++) {
		unsigned counted, counting, live;
		uint32_t verdict;

		limited(PM_METHOD_DR, MOST, 0, seed);
		step = given = 0;
		other_cpu = two_more;
		verdict = from(2000, PM_TCP_SYN);
		other_cpu = NULL;
		if (step <= moment)
			return 0;
		live = connections(&counted, &counting);
		if (live != given + (verdict == PM_FORWARD_DR))
			return complain("connections that nobody was told of");
		(void)from(2003, PM_TCP_SYN);
		(void)from(2004, PM_TCP_SYN);
		(void)from(2005, PM_TCP_SYN);
		live = connections(&counted, &counting);
		if (live != MOST || counted != live || counting != 1) {
			printf("%u connections of %u, %u counted by %u lines, ", live, MOST, counted, counting);
			return complain("first packets of a source on two CPUs");
		}
	}
}

/* A source at its limit, of which one goes meanwhile: it can come again, and as many as it may. */
static int at_the_limit(uint32_t seed)
{
	for (moment = 0;; moment++) {
		unsigned counted, counting, live;

		limited(PM_METHOD_DR, 1, 0, seed);
		(void)from(1999, PM_TCP_SYN);
		step = 0;
		other_cpu = one_ends;
		(void)from(2000, PM_TCP_SYN);
		other_cpu = NULL;
		if (step <= moment)
			return 0;
		for (int n = 0; n < 4; n++) {
			now += 20000;
			pm_settings(0)->swept = now - 20000;
			(void)from(2001 + n, PM_TCP_SYN);
			pm_settings(0)->swept = now;
		}
		live = connections(&counted, &counting);
		if (live != 1 || counted != 1) {
			printf("%u connections, %u counted by %u lines, ", live, counted, counting);
			return complain("a source whose only connection has ended");
		}
	}
}

static jmp_buf dead;

static void die(void)
{
	longjmp(dead, 1);
}

/* A process is killed while it makes a connection: after everything's time its source has what it may have. */
static int one_dies(uint8_t method, uint32_t rate, uint32_t seed)
{
	for (moment = 0;; moment++) {
		volatile int alive = 0;
		unsigned counted, counting, live;

		limited(method, MOST, rate, seed);
		step = 0;
		if (!setjmp(dead)) {
			other_cpu = die;
			(void)from(2000, PM_TCP_SYN);
			alive = 1;
		}
		other_cpu = NULL;
		if (alive)
			return 0;
		for (int n = 0; n < 40; n++) {
			now += 20000;
			(void)from(3000, PM_TCP_RST); /* lets lines expire */
		}
		pm_settings(0)->swept = now;
		(void)from(2001, PM_TCP_SYN);
		(void)from(2002, PM_TCP_SYN);
		(void)from(2003, PM_TCP_SYN);
		live = connections(&counted, &counting);
		/* What was counted of a connection that was never made the daemon's recount takes back. */
		if (live + 1 < MOST || live > MOST || counted < live) {
			printf("%u connections of %u, %u counted by %u lines, ", live, MOST, counted, counting);
			return complain("after somebody's death");
		}
	}
}

static uint32_t taken_over; /* the record of the source, as who took it over left it */

static struct pm_source *record_of_source(void)
{
	for (uint32_t i = 0; i < PM_SOURCES; i++)
		if (pm_sources(i)->order == 1)
			return pm_sources(i);
	return NULL;
}

static void much_later(void)
{
	struct pm_source *r;

	now += 2 * (1000000000 >> PM_TICK_SHIFT);
	pm_settings(0)->swept = now;
	for (uint32_t i = 0; i < PM_SOURCES; i++)
		if (pm_sources(i)->word & PM_SOURCE_LIVE)
			pm_sources(i)->busy = ((uint64_t)now << 32) + PM_SOURCE_SECOND;
	frame_at = 320;
	given += from(2001, PM_TCP_SYN) == PM_FORWARD_DR;
	frame_at = 128;
	r = record_of_source();
	taken_over = r ? r->word : 0;
}

/* A virtual CPU stops for seconds in the midst of making a record: it is not its own any more. */
static int stopped_cpu(uint32_t seed)
{
	unsigned met = 0;

	for (moment = 0;; moment++) {
		struct pm_source *r;

		limited(PM_METHOD_DR, 0, 1, seed);
		for (uint32_t i = 0; i < PM_SOURCES; i++) {
			*pm_sources(i) = (struct pm_source){ .word = PM_SOURCE_LIVE | PM_SOURCE_VERSION * 8, .order = 9 };
			pm_sources(i)->busy = ((uint64_t)now << 32) + PM_SOURCE_SECOND;
		}
		step = given = taken_over = 0;
		other_cpu = much_later;
		(void)from(2000, PM_TCP_SYN);
		other_cpu = NULL;
		if (step <= moment)
			return met ? 0 : complain("nobody took over the record of a CPU that stood still");
		r = record_of_source();
		if (!r || !taken_over)
			continue;
		met++;
		if ((int32_t)(r->word - taken_over) < 0)
			return complain("a record was given back by somebody who had lost it");
	}
}

int main(void)
{
	int bad = 0;

	for (uint32_t seed = 1; seed < 8; seed++) {
		bad |= first_packets(seed);
		bad |= at_the_limit(seed);
		bad |= one_dies(PM_METHOD_DR, 0, seed);
		bad |= one_dies(PM_METHOD_NAT, 0, seed);
		bad |= one_dies(PM_METHOD_DR, RATE, seed);
	}
	bad |= stopped_cpu(1);
	return bad;
}
