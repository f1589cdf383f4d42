/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Datagrams that a NAT real server of a service with a persistence engine sends by itself: a call that it makes, or,
 * with one-packet scheduling, any answer. They leave from the virtual address and port, as of a connection that begins
 * with them; the call's template leads the other side's requests to where it came from (dataplane.md §3.4, §5).
 *
 * As with strays, only what the stack would forward: what real servers answer to the director itself stays its own.
 */
#pragma once

#include "stray.h"
#include "choose.h"

/* No line; what becomes of the packet stands in the low half. */
#define PM_CALL_OUT(verdict) ((__u64)PM_NONE << 32 | (verdict))

/*
 * Whether the packet of this sender (pm_sender) begins a connection: PM_CONTINUE, and this CPU's room has the key of
 * what the other side sends to the service.
 */
PM_PART __u32 pm_calls_out(PM_HOST *host, __u64 sender)
{
	__u32 l4 = sender >> 32 & 0xffff, length = sender >> 48;
	const struct pm_real *real = pm_reals(sender);
	struct pm_frame f = pm_frame_open(host);
	const struct pm_service *service;
	struct pm_call *call = pm_call_room();
	const __be32 *addr;

	if (!real || !call || f.data + PM_ETH_LEN > f.end)
		return PM_PASS_NO_SERVICE;
	service = pm_services(real->service);
	/* A firewall mark is no address to send from. */
	if (!service || service->pe != PM_ENGINE_SIP || service->fwmark || call->key.protocol != PM_PROTO_UDP ||
	    service->family != real->family)
		return PM_PASS_NO_SERVICE;
	/* The message is read, and translated at once: there is no second run. */
	if (pm_reach(&f) < f.length)
		return PM_WANT_PAYLOAD;
	if (pm_is_by_call(service) && pm_read_call(host, l4 + PM_UDP_LEN, PM_ETH_LEN + length) != PM_CONTINUE)
		return PM_PASS_NO_SERVICE;
	addr = (const __be32 *)service->addr;
	call->key.sport = call->key.dport;
	call->key.dport = service->port;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		call->key.saddr[i] = call->key.daddr[i];
		call->key.daddr[i] = addr[i];
	}
	return PM_CONTINUE;
}

/* A connection that begins with the packet under treatment, of real server `index`: its line; or PM_CALL_OUT. */
pm_inline __u64 pm_call_out(int family, __u32 index)
{
	struct pm_plan plan = { .real = index, .template = PM_NONE, .flags = PM_CONNECT_UNSEEN };
	struct pm_flow flow = { .set = pm_settings(0) };
	struct pm_real *real = pm_reals(index);
	const struct pm_call *call = pm_call_room();
	struct pm_key *k = &flow.p.key;
	struct pm_service *service;
	__u64 line, found;
	__u32 slot, which;

	if (!flow.set || !real || !call)
		return PM_CALL_OUT(PM_PASS_NO_SERVICE);
	slot = real->service;
	service = pm_services(slot);
	if (!service)
		return PM_CALL_OUT(PM_PASS_NO_SERVICE);
	*k = call->key;
	flow.now = pm_now();
	plan.port = real->port;
	if (service->flags & PM_SERVICE_ONE_PACKET)
		plan.flags |= PM_CONN_ONE_PACKET;
	if (service->flags & PM_SERVICE_PERSISTENT) {
		which = pm_call_of(service);
		found = PM_AGAIN;
		for (int n = 0; n < PM_TRIES && found == PM_AGAIN; n++)
			found = family == 4 ? pm_use_template4(slot, k, flow.now, which) :
					      pm_use_template6(slot, k, flow.now, which);
		if (found == PM_AGAIN)
			return PM_CALL_OUT(PM_DROP_CONNECTION_BUSY);
		if (found == PM_AT_LIMIT)
			return PM_CALL_OUT(PM_DROP_CONNECTIONS);
		if (found == PM_NO_LINE)
			return PM_CALL_OUT(PM_WANT_TEMPLATE);
		plan.template = found >> 32;
		if ((__u32)found != index) {
			if (plan.template != PM_NONE)
				pm_uncontrol(family, plan.template);
			return PM_CALL_OUT(PM_WANT_TEMPLATE);
		}
		if (plan.template != PM_NONE)
			plan.flags |= PM_CONN_CONTROLLED;
	}
	flow.at = pm_place(family, flow.set, k);
	/* Of two connections of one client, the newer one counts. */
	found = PM_NO_LINE;
	if (!(plan.flags & PM_CONN_ONE_PACKET))
		found = family == 4 ? pm_seek4(k) : pm_seek6(k);
	line = found != PM_NO_LINE && !pm_forget(family, found >> 32, found) ? PM_LINE_BUSY :
									       pm_connect(family, &flow, &plan);
	if (pm_is_connected(line))
		return line;
	if (plan.template != PM_NONE)
		pm_uncontrol(family, plan.template);
	return PM_CALL_OUT(pm_not_connected(line));
}

PM_PART __u64 pm_call_out4(__u32 index)
{
	return pm_call_out(4, index);
}

PM_PART __u64 pm_call_out6(__u32 index)
{
	return pm_call_out(6, index);
}

/* A template that leads the call under treatment to real server `index`, instead of one that leads elsewhere. */
pm_inline __u32 pm_introduce_call(int family, __u32 index)
{
	const struct pm_real *real = pm_reals(index);
	const struct pm_call *call = pm_call_room();

	if (!real || !call)
		return PM_DROP_MAP;
	return family == 4 ? pm_make_template4(real->service, &call->key, pm_now(), index, 1) :
			     pm_make_template6(real->service, &call->key, pm_now(), index, 1);
}

PM_PART __u32 pm_introduce_call4(__u32 index)
{
	return pm_introduce_call(4, index);
}

PM_PART __u32 pm_introduce_call6(__u32 index)
{
	return pm_introduce_call(6, index);
}

/* The end of what was for this packet only. */
pm_inline void pm_end_call_out(int family, __u64 line)
{
	const struct pm_conn *c = pm_line(family, line >> 32);

	if (c && (pm_glance(c->traits) & PM_CONN_ONE_PACKET))
		(void)pm_forget(family, line >> 32, line);
}
