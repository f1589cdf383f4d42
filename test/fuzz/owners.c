/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who has a line: not to be taken for free while somebody counts on it, nor taken without need.
 *
 *     owners
 *
 * Says what was not as it should be; 1 if something was.
 */
#include "one-service.h"

static int complain(const char *what)
{
	printf("%s\n", what);
	return 1;
}

static const struct pm_key KEY = { .sport = 0xd007, .dport = 0x5000, .protocol = PM_PROTO_TCP,
				   .saddr = { 0x0100000b }, .daddr = { 0x640200c0 } };

/* A persistence template that controls a connection, over its time. */
static void overdue_template(uint32_t index)
{
	struct pm_conn *c = pm_line(4, index);

	c->traits = pm_traits(PM_CONN_TEMPLATE, PM_METHOD_DR, 0);
	c->real = 0;
	c->peer = PM_TEMPLATE_STAYS | 1000;
	*pm_control(4, index) = PM_CONTROL_OPEN | 1;
	*(pm_u64 *)c = pm_head_of(pm_live_word(c->word, 0, PM_CONN_NEW, 0), NOW - 1);
}

/* There is a free line: it is taken, and nobody gives way for a template that stands before it and stays. */
static int beside_a_template(void)
{
	struct pm_place at;
	uint32_t room;
	__u64 line;

	begin(PM_METHOD_DR, 1);
	pm_set_now(NOW);
	at = pm_place(4, pm_settings(0), &KEY);
	for (uint32_t n = 0; n < PM_LINES; n++)
		occupy(pm_nth(4, &at, 0, n), PM_TCP_CLOSE);
	overdue_template(pm_nth(4, &at, 0, 0));
	room = pm_nth(4, &at, 0, PM_WAYS - 1);
	*(pm_u64 *)pm_line(4, room) = PM_CONN_FREED;
	if (!pm_has_room(4, &at, NOW))
		return complain("a free line beside a template: said to be no room");
	line = pm_claim4(&at, NOW, 1);
	if (line >> 32 != room || *pm_verdicts(PM_EVICTED_ENDED))
		return complain("a free line beside a template: somebody gave way");
	if (!pm_is_live(pm_head(pm_line(4, pm_nth(4, &at, 0, 0)))))
		return complain("a template that controls a connection was taken for free");
	return 0;
}

int main(void)
{
	int bad = 0;

	bad |= beside_a_template();
	return bad;
}
