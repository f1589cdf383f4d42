/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * An ICMP message: an error about an answer of a virtual service, about a request that was translated, about a
 * tunnel packet of ours, or none of our business. With the sysctl schedule_icmp an error about an answer without
 * a connection makes one, as if its client had come first (dataplane.md §8.1).
 */
#pragma once

#include "choose.h"
#include "filter.h"
#include "limit.h"
#include "tunnel-error.h"

/* The key of the client's packet that would have made a connection, as an error about an answer quotes it. */
pm_inline __u32 pm_error_key(PM_HOST *host, int family, __u32 icmp, __u32 end, struct pm_key *k)
{
	__u32 ports = family == 4 ? pm_read_quote4(host, icmp + PM_ICMP_LEN, end, k) :
				    pm_read_quote6(host, icmp + PM_ICMP_LEN, end, k);

	if (ports)
		pm_reverse_key(k);
	return ports;
}

/*
 * As pm_find_error, for a connection that is made here. No ports in the high half: a verdict is in the low one.
 */
pm_inline __u64 pm_schedule_error(PM_HOST *host, int family, __u32 icmp, __u32 end, enum pm_turn turn)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_flow flow = { .set = pm_settings(0) };
	struct pm_key *k = &flow.p.key;
	struct pm_service *service;
	const struct pm_real *real;
	struct pm_plan plan;
	__u32 ports, slot = 0, nameless;
	enum pm_verdict v;
	__u64 line;

	k->turn = turn;
	ports = pm_error_key(host, family, icmp, end, k);
	if (!flow.set || !ports)
		return PM_PASS_ICMP;
	if (!pm_error_is_for(&f, family, k))
		return PM_PASS_ICMP;
	service = pm_service_at(family, flow.set, k, &slot);
	if (!service)
		return PM_PASS_ICMP;
	if (pm_unlikely(flow.set->flags & PM_SETTING_UNTRACKED)) {
		/* A connection may be under way though there is no line: it has one for as long as this takes. */
		flow.now = pm_now();
		if (turn == PM_TURN_FIRST && pm_plan_judged(slot, &flow.p, flow.now, &plan) == PM_CONTINUE) {
			plan.flags = PM_CONNECT_JUDGED | PM_CONNECT_UNSEEN | PM_CONN_ONE_PACKET;
			flow.at = pm_place(family, flow.set, k);
			line = pm_connect(family, &flow, &plan);
			return !pm_is_connected(line) ? PM_DROP_TABLE_FULL : pm_found_error(ports, line >> 32, line);
		}
		if (!(flow.set->flags & PM_SETTING_SCHEDULE_ICMP))
			return PM_PASS_ICMP;
	}
	if (pm_martian(family, k))
		return PM_PASS_MARTIAN_SOURCE;
	flow.now = pm_now();
	/* Whose connection it would be. */
	if (pm_unlikely(flow.set->flags & PM_SETTING_FILTERS) && pm_denied(k, slot, flow.now, family))
		return PM_DROP_DENIED;
	if (pm_unlikely(service->pe)) {
		if (pm_unsupported(service))
			return PM_PASS_UNSUPPORTED;
		/* It quotes no message that could be read. */
		if (pm_is_by_call(service))
			return PM_DROP_NO_CALL_ID;
	}
	if (turn == PM_TURN_FIRST && pm_defend(flow.set))
		return PM_DROP_DEFENCE;
	if (pm_unlikely(flow.set->flags & PM_SETTING_LIMITS) && turn == PM_TURN_FIRST) {
		v = pm_limit(k, slot, flow.now, family);
		if (v != PM_CONTINUE)
			return v;
	}
	if (k->sport == pm_htons(PM_FTP_DATA_PORT))
		return PM_PASS_FTP_DATA;
	pm_expire(flow.set, flow.now);
	v = pm_choose(family, &flow, service, slot, &plan);
	if (v != PM_CONTINUE)
		return v;
	/* An error is never answered by an error (RFC 1122 §3.2.2). */
	real = pm_reals(plan.real);
	if (plan.real == PM_NONE || !real)
		return PM_DROP_NO_REAL_SERVER;
	plan.flags |= PM_CONNECT_UNSEEN;
	flow.at = pm_place(family, flow.set, k);
	/* By full NAT nobody knows any more which port of ours the real server has answered to. */
	nameless = pm_method_to(real) == PM_METHOD_FULL_NAT;
	line = nameless ? PM_NO_LINE : pm_connect(family, &flow, &plan);
	if (pm_is_connected(line))
		return pm_found_error(ports, line >> 32, line);
	if (plan.template != PM_NONE)
		pm_uncontrol(family, plan.template);
	return nameless ? PM_PASS_ICMP : pm_not_connected(line);
}

PM_PART __u64 pm_schedule_error4(PM_HOST *host, __u32 icmp, __u32 end, __u32 turn)
{
	return pm_schedule_error(host, 4, icmp, end, turn);
}

PM_PART __u64 pm_schedule_error6(PM_HOST *host, __u32 icmp, __u32 end, __u32 turn)
{
	return pm_schedule_error(host, 6, icmp, end, turn);
}

/* A template for the client that an error is about. */
pm_inline enum pm_verdict pm_introduce_error(PM_HOST *host, int family, __u32 icmp, __u32 end)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_key k = {};
	__u32 slot = 0;

	if (!set || !pm_error_key(host, family, icmp, end, &k) || !pm_service_at(family, set, &k, &slot))
		return PM_PASS_ICMP;
	return pm_introduce_to(family, slot, &k);
}

PM_PART __u32 pm_introduce_error4(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_introduce_error(host, 4, icmp, end);
}

PM_PART __u32 pm_introduce_error6(PM_HOST *host, __u32 icmp, __u32 end)
{
	return pm_introduce_error(host, 6, icmp, end);
}

/*
 * An ICMP message that was parsed as far as its header: `where` has the header's offset in the frame in
 * its high half, the IP packet's length in the low half. Verdict and interface.
 */
pm_inline __u64 pm_icmp(PM_HOST *host, int family, __u32 where, const struct pm_settings *set)
{
	__u32 icmp = where >> 16, ip_length = where & 0xffff, end = PM_ETH_LEN + ip_length;
	struct pm_frame f = pm_frame_open(host);
	struct pm_icmp *head;
	__u64 found;

	if (icmp + PM_ICMP_LEN > end)
		return PM_PASS_ICMP;
	/* The message is summed before it is translated; and nothing has been counted yet. */
	if (pm_reach(&f) < end)
		return PM_WANT_PAYLOAD;
	head = pm_at_offset(&f, icmp, PM_ICMP_LEN);
	if (!head || !pm_is_error(family, head->type))
		return PM_PASS_ICMP;
	found = family == 4 ? pm_find_error4(host, icmp, end) : pm_find_error6(host, icmp, end);
	if (found == PM_NO_ERROR && family == 4) {
		found = pm_find_tunnel_error(host, icmp, end);
		if (found != PM_NO_ERROR)
			return pm_relay_error(host, (__u32)found, icmp, found >> 32, end);
	}
	if (found == PM_NO_ERROR) {
		if (!(set->flags & (PM_SETTING_SCHEDULE_ICMP | PM_SETTING_UNTRACKED)))
			return PM_PASS_ICMP;
		found = family == 4 ? pm_schedule_error4(host, icmp, end, PM_TURN_FIRST) :
				      pm_schedule_error6(host, icmp, end, PM_TURN_FIRST);
		if (found == PM_WANT_TEMPLATE) {
			__u32 turn = pm_next_turn(family == 4 ? pm_introduce_error4(host, icmp, end) :
								pm_introduce_error6(host, icmp, end));

			if (turn == PM_TURN_FIRST)
				return PM_DROP_TABLE_FULL;
			found = family == 4 ? pm_schedule_error4(host, icmp, end, turn) :
					      pm_schedule_error6(host, icmp, end, turn);
		}
		if (!(found >> 32))
			return found;
	}
	return family == 4 ? pm_send_error4(host, (__u32)found, icmp, found >> 32, ip_length) :
			     pm_send_error6(host, (__u32)found, icmp, found >> 32, ip_length);
}
