/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Where a new connection goes: to the real server of its client's template, or of the scheduler's choice. */
#pragma once

#include "untracked.h"
#include "persist.h"
#include "expiry.h"

/* No frame's verdict: a client that has no persistence template yet. */
#define PM_WANT_TEMPLATE 0x7fu

/*
 * Clients without a template get one on the way between two turns of their packet, since making one takes as
 * much stack as making a connection.
 */
enum pm_turn {
	PM_TURN_FIRST,
	PM_TURN_TEMPLATE, /* there is one now */
	PM_TURN_NOBODY,	  /* there is no real server that it could lead to */
};

/*
 * What a new connection of this key is to be. PM_WANT_TEMPLATE: its client has none yet; no verdict: the
 * plan's real server is PM_NONE if there is none to be had.
 */
pm_inline enum pm_verdict pm_choose(int family, const struct pm_flow *flow, const struct pm_service *service,
				    __u32 slot, struct pm_plan *plan)
{
	__u32 persistent = service->flags & PM_SERVICE_PERSISTENT;
	const struct pm_key *k = &flow->p.key;
	struct pm_real *real;
	__u64 found = PM_AGAIN;
	__u32 call;

	plan->template = PM_NONE;
	plan->port = 0;
	plan->flags = service->flags & PM_SERVICE_ONE_PACKET ? PM_CONN_ONE_PACKET : 0;
	if (persistent ||
	    (!(service->flags & PM_SERVICE_ONE_PACKET) && pm_unlikely(pm_most_connections(flow->set, slot)))) {
		call = pm_call_of(service);
		for (int n = 0; n < PM_TRIES && found == PM_AGAIN; n++)
			found = family == 4 ? pm_use_template4(slot, k, flow->now, call) :
					      pm_use_template6(slot, k, flow->now, call);
		if (found == PM_AGAIN)
			return PM_DROP_CONNECTION_BUSY;
		if (found == PM_AT_LIMIT)
			return PM_DROP_CONNECTIONS;
		if (found == PM_NO_LINE && pm_read(flow->p.key.turn) != PM_TURN_NOBODY)
			return pm_read(flow->p.key.turn) == PM_TURN_FIRST ? PM_WANT_TEMPLATE : PM_DROP_TABLE_FULL;
		plan->real = found;
		if (found != PM_NO_LINE)
			plan->template = found >> 32;
		if (plan->template != PM_NONE)
			plan->flags |= PM_CONN_CONTROLLED;
	}
	if (!persistent) {
		plan->real = service->fwmark || service->port == k->dport ? pm_pick(service, slot, k, flow->now) :
									 PM_NONE;
		if (plan->real == PM_NONE && plan->template != PM_NONE)
			pm_uncontrol(family, plan->template);
	}
	real = pm_reals(plan->real);
	if (service->port != k->dport && persistent)
		plan->flags |= PM_CONN_OTHER_PORT;
	if (real)
		plan->port = pm_real_port(real, k, plan->flags);
	return PM_CONTINUE;
}

/* The turn that a packet has after its client was to get a template; PM_TURN_FIRST: none, there is no room for one. */
pm_inline enum pm_turn pm_next_turn(enum pm_verdict introduced)
{
	if (introduced == PM_CONTINUE)
		return PM_TURN_TEMPLATE;
	return introduced == PM_ANSWER_PORT_UNREACHABLE ? PM_TURN_NOBODY : PM_TURN_FIRST;
}

/*
 * The service that this packet is for, PM_NONE; its key is left in this CPU's room. Apart from what comes next, or the
 * frame's place on the stack would be in the way of that.
 */
pm_inline __u32 pm_meet(PM_HOST *host, int family, __u64 piece)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	struct pm_call *call = pm_call_room();
	struct pm_packet p = {};
	__u32 slot = 0;

	pm_take_piece(&p, piece);
	if (!set || !call || f.data + PM_ETH_LEN > f.end ||
	    (family == 4 ? pm_parse_ipv4(&f, &p) : pm_parse_ipv6(&f, &p)) != PM_CONTINUE ||
	    !pm_service_of(family, set, &p.key, f.ifindex, &slot))
		return PM_NONE;
	call->key = p.key;
	return slot;
}

PM_PART __u32 pm_meet4(PM_HOST *host, __u64 piece)
{
	return pm_meet(host, 4, piece);
}

PM_PART __u32 pm_meet6(PM_HOST *host, __u64 piece)
{
	return pm_meet(host, 6, piece);
}

/* A template for the client of this packet, which has none: PM_CONTINUE, and the packet has its next turn. */
pm_inline enum pm_verdict pm_introduce(PM_HOST *host, int family, __u64 piece)
{
	__u32 slot = family == 4 ? pm_meet4(host, piece) : pm_meet6(host, piece);
	const struct pm_call *call = pm_call_room();

	return slot == PM_NONE || !call ? PM_PASS_NO_SERVICE : pm_introduce_to(family, slot, &call->key);
}

PM_PART __u32 pm_introduce4(PM_HOST *host, __u64 piece)
{
	return pm_introduce(host, 4, piece);
}

PM_PART __u32 pm_introduce6(PM_HOST *host, __u64 piece)
{
	return pm_introduce(host, 6, piece);
}
