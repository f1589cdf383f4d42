/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Just enough tracking, of services that ask for it. Where the choice depends on the packet and a table alone (`sh`,
 * `dh`, `mh`), and nothing is translated, a connection needs a line of the connection table only if a change of the
 * table would move it:
 *
 *   - as long as nothing changes, packets go by the table, and the connection table is not looked at;
 *   - a change comes with the table before it and a time (pm_schedule.settles), in which every connection that is
 *     alive shows itself. A packet of no line that begins none is by definition of a connection from before: it goes
 *     by the table before, and if the present one has another answer, gets a line with that. What begins a
 *     connection goes by the present one, and gets a line if the table before has another answer;
 *   - a change on top of that keeps the same table before: whoever had another answer by one of those between has a
 *     line by now, and all others went by the table before.
 *
 * Real servers that are translated to (a sorry server may be one) have lines for all of their connections.
 *
 * So no number of changes moves a connection. UDP says of no datagram that it begins something: those without a line
 * stay with the real server of before while that is in the service, since to be led to it is what new clients of a
 * minute ago wanted, too, while others' conversations would be cut. If it has been removed they go by the table.
 *
 * The lines that a change has left are looked for until the last of them is over (pm_schedule.lines).
 */
#pragma once

#include "schedule.h"
#include "connect.h"
#include "service.h"

/* A closing or opening state's time at most (ticks, 120 s): longer ones are ESTABLISHED, and what `--set` may make of FIN_WAIT. */
#define PM_UNTRACKED_STATES 14306u

/* The longest that a connection of this protocol may be silent, in ticks. */
pm_inline __u32 pm_longest(const struct pm_settings *set, __u8 protocol)
{
	__u32 ticks = PM_UNTRACKED_STATES;

	if (protocol != PM_PROTO_TCP)
		return pm_read(set->timeouts[PM_TIMEOUT_UDP]);
	if (ticks < pm_read(set->timeouts[PM_TCP_ESTABLISHED]))
		ticks = set->timeouts[PM_TCP_ESTABLISHED];
	if (ticks < pm_read(set->timeouts[PM_TCP_FIN_WAIT]))
		ticks = set->timeouts[PM_TCP_FIN_WAIT];
	return ticks;
}

/* Whether the service that a packet is for may be tracked just enough. */
pm_inline int pm_may_be_untracked(int family, const struct pm_key *k)
{
	return pm_interest_bit(pm_interest_hash(family, k->daddr), k->dport | PM_INTEREST_UNTRACKED);
}

/* What sending a packet asks of its line, of one that has none. */
pm_inline int pm_see_without(struct pm_seen *seen, __u32 index, __u8 protocol)
{
	const struct pm_real *real = pm_reals(index);
	__u32 method;

	if (!real)
		return 0;
	method = pm_read(real->method);
	if (pm_translates(method))
		return 0;
	seen->c.word = 0;
	seen->c.protocol = protocol;
	seen->c.traits = pm_traits(PM_CONN_IN, method, 0);
	seen->c.neighbour = 0;
	seen->c.real = index;
	seen->c.peer = PM_NONE;
	return 1;
}

/*
 * Whether who sends by this interface has lines for all connections: health checks, which are led to the real server
 * that they ask, and this host's own sockets, whose answers may have to be led back.
 */
pm_inline int pm_has_lines(const struct pm_settings *set, int family, __u32 ifindex)
{
	const struct pm_neighbour *check = pm_neighbours(family == 4 ? PM_NEIGHBOUR_CHECK4 : PM_NEIGHBOUR_CHECK6);

	return (check && check->ifindex == ifindex) || pm_is_own(set, ifindex);
}

/*
 * Whether a packet goes by the table, without a line; then that is as if one had been seen. 0: it is to be looked for
 * among the lines, or to be judged by what it begins (pm_judge).
 */
pm_inline int pm_alone(int family, const struct pm_packet *p, __u32 now, __u32 ifindex, struct pm_seen *seen)
{
	const struct pm_settings *set = pm_settings(0);
	const struct pm_key *k = &p->key;
	struct pm_service *service;
	struct pm_schedule *s;
	struct pm_table t;
	__u32 slot = 0, word, lines;
	__u64 own;

	if ((p->tcp_flags & PM_TCP_SYN) || pm_martian(family, k) || k->sport == pm_htons(PM_FTP_DATA_PORT))
		return 0;
	/* What has a firewall mark is for another service, which the look at strangers finds. */
	if (!set || (set->flags & PM_SETTING_MARKS) || pm_has_lines(set, family, ifindex))
		return 0;
	service = pm_find_service(family, k->daddr, k->dport, k->protocol, &slot);
	if (!service || !(service->flags & PM_SERVICE_UNTRACKED))
		return 0;
	word = pm_read(service->schedule);
	s = pm_schedules(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE));
	if (!s)
		return 0;
	lines = pm_read(s->lines);
	if (pm_unlikely(lines)) {
		if (!pm_past(now, lines))
			return 0;
		/* Time has an end (416 days): a word that stayed would be of the future one day. */
		(void)pm_swap(&s->lines, lines, 0);
	}
	t = pm_table_of(service, s, word);
	if (!pm_has_table(t.how & 0xff))
		return 0;
	own = pm_own_slot(&t, family, k);
	return pm_see_without(seen, pm_table_real(&t, own, 0), k->protocol);
}

PM_PART int pm_alone4(const struct pm_packet *p, __u32 now, __u32 ifindex, struct pm_seen *seen)
{
	return p && seen ? pm_alone(4, p, now, ifindex, seen) : 0;
}

PM_PART int pm_alone6(const struct pm_packet *p, __u32 now, __u32 ifindex, struct pm_seen *seen)
{
	return p && seen ? pm_alone(6, p, now, ifindex, seen) : 0;
}

/* The same of a packet that was judged to go without. */
PM_PART int pm_see_alone(struct pm_seen *seen, __u32 index, __u32 protocol)
{
	return seen ? pm_see_without(seen, index, protocol) : 0;
}

/* Whether connections may be under way that the service's present table would move. */
pm_inline int pm_is_settling(__u32 slot, __u32 word, __u32 now)
{
	const struct pm_schedule *s = pm_schedules(slot * 2 + !!(word & PM_SCHEDULE_ACTIVE));

	return s && s->before_count && pm_read(s->lines) && !pm_past(now, pm_read(s->settles));
}

/*
 * A packet that no line was found for, of whichever service: index in reals in the low half, and PM_CONNECT_JUDGED with
 * what else there is to say in the high. PM_USUAL: it is like any other service's packet. PM_GONE_BEFORE: of a
 * connection to a real server that has been removed.
 */
#define PM_USUAL (~0ull)
#define PM_GONE_BEFORE (~1ull)
PM_PART __u64 pm_judge(__u32 slot, const struct pm_packet *p, __u32 now)
{
	struct pm_service *service = pm_services(slot);
	struct pm_settings *set = pm_settings(0);
	__u32 old = PM_NONE, is = PM_NONE, flags = PM_CONNECT_JUDGED | PM_CONNECT_ALONE;
	int untracked, settling, begins;
	struct pm_real *real;
	__u32 word;

	if (!service || !set || !p || p->key.sport == pm_htons(PM_FTP_DATA_PORT))
		return PM_USUAL;
	untracked = !!(service->flags & PM_SERVICE_UNTRACKED);
	/* Once: with another schedule the table before may be another one. */
	word = pm_read(service->schedule);
	settling = pm_is_settling(slot, word, now);
	begins = !!(p->tcp_flags & PM_TCP_SYN);
	/* One that is tracked like all others from now on has connections from before that have no line. */
	if ((!untracked && (begins || !settling)) || service->fwmark || service->port != p->key.dport)
		return PM_USUAL;
	if (settling)
		old = pm_consult(slot, word, &p->key, 1);
	if (untracked)
		is = pm_consult(slot, word, &p->key, 0);
	if (settling && old != is)
		flags = PM_CONNECT_JUDGED;
	if (begins || !settling) {
		real = pm_reals(is);
		/* None: it is answered, or passed on as what begins nothing. */
		return !real || pm_translates(pm_read(real->method)) ? PM_USUAL : (__u64)flags << 32 | is;
	}
	real = pm_reals(old);
	if (real && real->slot != PM_SLOT_LIVE) {
		if (p->key.protocol == PM_PROTO_TCP)
			return set->flags & PM_SETTING_EXPIRE_NODEST ? PM_USUAL : PM_GONE_BEFORE;
		real = PM_NULL;
	}
	if (real)
		is = old;
	else if (p->key.protocol != PM_PROTO_UDP)
		return PM_USUAL;
	real = pm_reals(is);
	return !real || pm_translates(pm_read(real->method)) ? PM_USUAL : (__u64)flags << 32 | is;
}

/* What a packet without a line is to be: PM_CONTINUE and the plan; a drop; anything else: it is a usual one. */
pm_inline enum pm_verdict pm_plan_judged(__u32 slot, const struct pm_packet *p, __u32 now, struct pm_plan *plan)
{
	__u64 judged = pm_judge(slot, p, now);

	if (judged == PM_GONE_BEFORE)
		return PM_DROP_REAL_SERVER_GONE;
	if (judged == PM_USUAL)
		return PM_PASS_NOT_FIRST;
	plan->real = judged;
	plan->template = PM_NONE;
	plan->flags = judged >> 32;
	plan->port = 0;
	return PM_CONTINUE;
}

/* Counts a packet that begins a connection without a line, or goes on with one. */
pm_inline void pm_count_alone(int family, const struct pm_packet *p, __u32 real)
{
	__u32 row = pm_cpu();
	struct pm_counters *n = pm_counters(real * pm_limits.cpus + row);

	if (n && (p->tcp_flags & PM_TCP_SYN))
		pm_count(row, &n->conns, 1);
	pm_account_packet(family, p, real, 0);
}

/*
 * A packet has met a line of a service that is tracked just enough: lines are looked for as long as that one may live.
 * Seldom written: every packet reads the word.
 */
PM_PART int pm_keep_lines(__u32 real_index, __u32 now)
{
	const struct pm_real *real = pm_reals(real_index);
	struct pm_settings *set = pm_settings(0);
	const struct pm_service *service;
	struct pm_schedule *s;
	__u32 until, lines;

	service = real ? pm_services(real->service) : PM_NULL;
	if (!set || !service || !(service->flags & PM_SERVICE_UNTRACKED))
		return 0;
	s = pm_schedules(real->service * 2 + !!(pm_read(service->schedule) & PM_SCHEDULE_ACTIVE));
	if (!s)
		return 0;
	until = pm_longest(set, service->protocol);
	lines = pm_read(s->lines);
	if (!lines || pm_past(now + until, lines)) {
		until += now + until / 4;
		(void)pm_swap(&s->lines, lines, until ? until : 1);
	}
	return 0;
}
