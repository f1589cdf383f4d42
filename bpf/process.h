/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The order of decisions: parse, connection, service, new connection, send. One text for both
 * families: `family` is a constant wherever these functions are used, the other one's code is gone.
 */
#pragma once

#include "icmp.h"
#include "fragment.h"
#include "move.h"
#include "stray.h"
#include "limit.h"
#include "by-way.h"
#include "call-out.h"

/*
 * A packet of the client on its connection; `line` is NULL of one that is known without (untracked.h).
 * PM_CONTINUE: the connection is over, this packet is to be looked at as if there were none.
 */
pm_inline enum pm_verdict pm_client_packet(struct pm_frame *f, int family, struct pm_flow *flow,
					   struct pm_conn *line)
{
	const struct pm_conn *c = &flow->seen.c;
	struct pm_settings *set = flow->set;
	struct pm_packet *p = &flow->p;
	struct pm_real *real = pm_reals(c->real);

	if (!real)
		return PM_DROP_MAP;
	/* Of a frame that comes again as a whole all this was decided when its headers came. */
	if (!pm_is_resumed(f)) {
		if (pm_unlikely(set->flags & PM_SETTING_FILTERS) &&
		    pm_denied(&p->key, real->service, flow->now, family))
			return PM_DROP_DENIED;
		if (pm_unlikely(p->tcp_flags & PM_TCP_SYN)) {
			/* It stays where its template has led it. */
			__u32 mode = c->traits & PM_CONN_CONTROLLED &&
						     (family == 4 ? pm_is_led4(flow->index) : pm_is_led6(flow->index)) ?
					     0 :
					     set->reuse_mode;

			/* dataplane.md §2 (6): a SYN on a connection that is ending starts a new one. */
			if (((set->flags & PM_SETTING_EXPIRE_NODEST) && !real->weight) ||
			    pm_is_reusable(p->key.protocol, pm_state(c->word), !!(c->word & PM_CONN_INPUT_ONLY), mode)) {
				return pm_forget(family, flow->index, c->word) ? PM_CONTINUE : PM_DROP_CONNECTION_BUSY;
			}
		}
		if (pm_unlikely(real->slot != PM_SLOT_LIVE)) {
			if (!(set->flags & PM_SETTING_EXPIRE_NODEST))
				return PM_DROP_REAL_SERVER_GONE;
			return pm_forget(family, flow->index, c->word) ? PM_CONTINUE : PM_DROP_CONNECTION_BUSY;
		}
		pm_frame_counted(f);
		pm_account_packet(family, p, c->real, 0);
		if (pm_likely(line && p->key.part != PM_PART_LATER))
			pm_follow(family, set, line, flow->index, c, PM_DIR_IN, p, flow->now);
		if (pm_unlikely((set->flags & PM_SETTING_UNTRACKED) && flow->index != PM_NONE) &&
		    pm_may_be_untracked(family, &p->key))
			pm_keep_lines(c->real, flow->now);
	}
	return pm_send(f, family, flow, real);
}

/* A packet of a NAT real server on its connection: it leaves with the virtual address as source. */
pm_inline enum pm_verdict pm_server_packet(struct pm_frame *f, int family, struct pm_flow *flow,
					   struct pm_conn *line)
{
	const struct pm_conn *c = &flow->seen.c;
	struct pm_packet *p = &flow->p;
	struct pm_real *real = pm_reals(c->real);
	__u32 epoch = pm_epoch(flow->set, flow->now);
	struct pm_nat nat = { .addr = flow->seen.addr, .port = flow->seen.port, .source = 1, .decrement = 1 };
	int stack_only = 0;
	enum pm_verdict v;

	if (!real)
		return PM_DROP_MAP;
	/* The kernel checks TTL and size before IPVS sees a forwarded packet, and answers by itself. */
	if (pm_unlikely(p->ttl <= 1))
		return pm_leave_answer(f, p, c, PM_PASS_REPLY_TTL, PM_ANSWER_TIME_EXCEEDED, 0);
	if (pm_unlikely(!pm_neighbour_known(flow->set, &flow->seen, epoch, flow->now))) {
		switch (pm_route(f->host, family, &flow->seen, &p->key, flow->index, epoch)) {
		case PM_FIB_OK:
			break;
		case PM_FIB_STACK_ONLY:
			stack_only = 1;
			break;
		case PM_FIB_NO_NEIGHBOUR:
			if (pm_host_resolves(f, &flow->seen.hop))
				break;
			return PM_DROP_NEXT_HOP_UNRESOLVED;
		case PM_FIB_FORWARDING_OFF:
			return PM_DROP_FORWARDING_OFF;
		default:
			return pm_leave_answer(f, p, c, PM_PASS_NO_ROUTE_REPLY, PM_ANSWER_HOST_UNREACHABLE, 0);
		}
	}
	if (pm_unlikely(!stack_only && pm_wire_length(f, p) > flow->seen.hop.mtu)) {
		if (pm_unfragmentable(f, family))
			return pm_leave_answer(f, p, c, PM_PASS_REPLY_MTU, PM_ANSWER_TOO_BIG, flow->seen.hop.mtu);
		if (!pm_host_cuts(f, flow->seen.hop.mtu))
			return pm_uncut(f, flow->set, PM_CUT_UNCOUNTED);
	}
	if (!pm_is_resumed(f)) {
		pm_frame_counted(f);
		if (real->slot == PM_SLOT_LIVE)
			pm_account_packet(family, p, c->real, 1);
		if (pm_likely(p->key.part != PM_PART_LATER))
			pm_follow(family, flow->set, line, flow->index, c, PM_DIR_OUT, p, flow->now);
	}
	pm_cut_padding(f, p, PM_ETH_MIN);
	if (pm_unlikely(pm_method_of(c->traits) == PM_METHOD_FULL_NAT)) {
		int handed_over = family == 6 && (stack_only || !pm_host_takes(f->host, flow->seen.hop.ifindex));

		v = pm_exchange_ends(f, family, p, flow->index, c, !handed_over);
		if (v != PM_CONTINUE)
			return v;
		if (handed_over)
			return PM_PASS_EGRESS;
		return pm_address_frame(f, &flow->seen.hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
			       PM_DROP_MAP :
			       PM_FORWARD_NAT_REPLY;
	}
	/* Not for IPv4: the stack takes no packet from outside whose source is an address of its own. */
	if (family == 6 && pm_unlikely(stack_only || !pm_host_takes(f->host, flow->seen.hop.ifindex)))
		return pm_hand_over(f, p, family, &nat);
	v = pm_translate(f, p, family, &nat);
	if (v != PM_CONTINUE)
		return v;
	return pm_address_frame(f, &flow->seen.hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6) ?
		       PM_DROP_MAP :
		       PM_FORWARD_NAT_REPLY;
}

/* A packet of no connection: for a virtual service, or not ours. */
pm_inline enum pm_verdict pm_stranger(struct pm_frame *f, int family, struct pm_flow *flow)
{
	struct pm_settings *set = flow->set;
	struct pm_packet *p = &flow->p;
	struct pm_service *service;
	struct pm_plan plan;
	struct pm_real *real;
	enum pm_verdict v;
	struct pm_conn *c;
	__u32 slot = 0;
	__u64 line;

	if (p->key.part == PM_PART_LATER)
		return PM_DROP_FRAGMENT_ALONE;
	service = pm_service_of(family, set, &p->key, f->ifindex, &slot);
	if (!service) {
		if (family == 6 || pm_unlikely(set->flags & PM_SETTING_OWN))
			return pm_answer_by_way(f, family, flow);
		return PM_PASS_NO_SERVICE;
	}
	if (pm_martian(family, &p->key) && !pm_is_own(set, f->ifindex))
		return PM_PASS_MARTIAN_SOURCE;
	if (pm_unlikely(set->flags & PM_SETTING_FILTERS) && pm_denied(&p->key, slot, flow->now, family))
		return PM_DROP_DENIED;
	v = PM_PASS_NOT_FIRST;
	if (pm_unlikely(set->flags & PM_SETTING_UNTRACKED) && !(p->tcp_flags & PM_TCP_SYN) && !pm_is_own(set, f->ifindex)) {
		v = pm_plan_judged(slot, p, flow->now, &plan);
		if (v == PM_DROP_REAL_SERVER_GONE)
			return v;
	}
	if (pm_likely(v != PM_CONTINUE)) {
		if (!pm_may_start(set, p))
			return PM_PASS_NOT_FIRST;
		if (pm_unlikely(service->pe)) {
			v = pm_find_call(f, p, service);
			if (v != PM_CONTINUE)
				return v;
		}
		if (!pm_is_resumed(f) && pm_read(p->key.turn) == PM_TURN_FIRST && pm_defend(set))
			return PM_DROP_DEFENCE;
		if (pm_unlikely(set->flags & PM_SETTING_LIMITS) && !pm_is_resumed(f) &&
		    pm_read(p->key.turn) == PM_TURN_FIRST) {
			v = pm_limit(&p->key, slot, flow->now, family);
			if (v != PM_CONTINUE)
				return v;
		}
		if (p->key.sport == pm_htons(PM_FTP_DATA_PORT)) {
			pm_frame_counted(f);
			return PM_PASS_FTP_DATA;
		}
		pm_expire(set, flow->now);
		v = PM_PASS_NOT_FIRST;
		if (pm_unlikely(set->flags & PM_SETTING_UNTRACKED) && (p->tcp_flags & PM_TCP_SYN) &&
		    !pm_is_own(set, f->ifindex))
			v = pm_plan_judged(slot, p, flow->now, &plan);
		if (pm_likely(v != PM_CONTINUE))
			v = pm_choose(family, flow, service, slot, &plan);
		if (v != PM_CONTINUE)
			return v;
	}
	real = plan.real == PM_NONE ? PM_NULL : pm_reals(plan.real);
	if (pm_unlikely(plan.flags & PM_CONNECT_ALONE) && !pm_is_resumed(f))
		pm_count_alone(family, p, plan.real);
	pm_frame_counted(f);
	if (!real && service->fwmark &&
	    (family == 4 ? pm_foreign4(f->host, &p->key, f->ifindex) : pm_foreign6(f->host, &p->key, f->ifindex))) {
		if (!(set->flags & PM_SETTING_BYPASS))
			return PM_DROP_NO_ROUTE;
		plan = (struct pm_plan){ .real = set->bypass, .template = PM_NONE };
		real = pm_reals(plan.real);
		if (!real)
			return PM_DROP_MAP;
	}
	if (!real) {
		/* FTP is for its own port only, where no template leads elsewhere. */
		if (service->port == pm_htons(PM_FTP_PORT) && service->port != p->key.dport)
			return PM_PASS_FTP_DATA;
		return pm_answer(f, family, p->ip_length, PM_ANSWER_PORT_UNREACHABLE, 0, flow->now);
	}
	if (pm_is_own(set, f->ifindex))
		plan.flags |= PM_CONNECT_OWN;
	if (pm_likely(!(plan.flags & PM_CONNECT_ALONE))) {
		line = pm_connect(family, flow, &plan);
		if (!pm_is_connected(line) && plan.template != PM_NONE)
			pm_uncontrol(family, plan.template);
		flow->index = line >> 32;
		c = pm_line(family, flow->index);
		/* Or so full that it had to give way again at once. */
		if (c && pm_look(c, (__u32)line, &flow->seen))
			pm_frame_connected(f, flow->index);
		else if (!(plan.flags & PM_CONNECT_JUDGED) || (p->tcp_flags & PM_TCP_SYN))
			return pm_not_connected(line);
		else
			plan.flags |= PM_CONNECT_ALONE; /* its next packet will be judged like this one */
		if (!pm_keeps_port(family, flow->seen.c.traits, flow->index)) {
			(void)pm_forget(family, flow->index, flow->seen.c.word);
			return PM_DROP_CONNECTION_BUSY;
		}
		pm_account_packet(family, p, plan.real, 0);
	}
	if (pm_unlikely(plan.flags & PM_CONNECT_ALONE)) {
		flow->index = PM_NONE;
		pm_opaque(flow->index);
		if (!pm_see_alone(&flow->seen, plan.real, p->key.protocol))
			return PM_DROP_MAP;
	}
	return pm_send(f, family, flow, real);
}

/* The connection that a frame made when only its headers were in reach; NULL if it is another's by now. */
pm_inline struct pm_conn *pm_made_before(const struct pm_frame *f, int family, struct pm_flow *flow, __u64 *head)
{
	__u32 index = pm_frame_connection(f);
	struct pm_conn *c;

	if (index == PM_NONE)
		return PM_NULL;
	c = pm_line(family, index);
	if (!c)
		return PM_NULL;
	*head = pm_head(c);
	if (!pm_is_live(*head) || !pm_same_key(family, pm_after(c, *head), &flow->p.key))
		return PM_NULL;
	flow->index = index;
	return c;
}

/* The line that was found, and what its packets need beside it; 0: it is not the same any more. */
pm_inline int pm_look_at(int family, const struct pm_conn *c, struct pm_flow *flow, __u64 head)
{
	return pm_look(c, head, &flow->seen) && (pm_kind_of(flow->seen.c.traits) != PM_CONN_REPLY ||
						 pm_look_virtual(family, flow->index, &flow->seen));
}

/* Looks at a line that others move meanwhile. */
#define PM_LOOKS 2

pm_inline enum pm_verdict pm_process_family(struct pm_frame *f, PM_HOST *host, int family, __u64 piece, __u32 *icmp)
{
	struct pm_flow flow = {};
	struct pm_conn *c;
	enum pm_verdict v;
	__u64 head = 0;
	int made, seen = 0;

	/* First of all: it needs no place of its own on the stack then. */
	pm_take_piece(&flow.p, piece);
	*f = pm_frame_open(host);
	flow.set = pm_settings(0);
	if (!flow.set || f->data + PM_ETH_LEN > f->end)
		return PM_PASS_MALFORMED;
	v = family == 4 ? pm_parse_ipv4(f, &flow.p) : pm_parse_ipv6(f, &flow.p);
	if (v == PM_PASS_ICMP) {
		*icmp = flow.p.l4 << 16 | (flow.p.ip_length & 0xffff);
		return v;
	}
	if (v != PM_CONTINUE)
		return v;
	if ((flow.set->flags & PM_SETTING_INTEREST) &&
	    !pm_interests(family, flow.p.key.daddr, flow.p.key.dport) &&
	    !pm_interests(family, flow.p.key.saddr, flow.p.key.sport))
		return PM_PASS_NO_SERVICE;
	flow.now = pm_now();
	flow.at = pm_place(family, flow.set, &flow.p.key);
	flow.index = PM_NONE;
	pm_opaque(flow.index);
	if (pm_unlikely(flow.set->flags & PM_SETTING_UNTRACKED) && pm_may_be_untracked(family, &flow.p.key))
		seen = family == 4 ? pm_alone4(&flow.p, flow.now, f->ifindex, &flow.seen) :
				     pm_alone6(&flow.p, flow.now, f->ifindex, &flow.seen);
	c = seen ? PM_NULL : pm_made_before(f, family, &flow, &head);
	made = c != PM_NULL;
	if (!made && !seen)
		c = pm_find(family, flow.set, &flow.at, &flow.p.key, &flow.index, &head);
	for (int n = 0; c && n < PM_LOOKS; n++) {
		if (pm_unlikely(pm_over(family, c, flow.index, head, flow.now))) {
			/* The first run of a frame has done so; there may be several lines of source port 0. */
			if (pm_is_resumed(f) || pm_end_over(family, c, flow.index, head)) {
				c = PM_NULL;
				break;
			}
		} else {
			/* The first run of a frame has seen to where its line stands, or could not. */
			if (!pm_is_resumed(f))
				c = pm_at_home(family, c, &flow.at, &flow.p.key, &flow.index, &head);
			seen = c && pm_look_at(family, c, &flow, head);
			if (pm_likely(seen))
				break;
		}
		/* Its owner has ended just now, and this packet came too late; or another packet has moved the line. */
		c = pm_find_again(family, &flow.at, &flow.p.key, &flow.index, &head);
	}
	if (seen) {
		/* Else the compiler asks something else instead, which the verifier does not know to be the same. */
		pm_opaque(c);
		if (c && pm_kind_of(flow.seen.c.traits) == PM_CONN_REPLY) {
			return pm_server_packet(f, family, &flow, c);
		} else if ((flow.p.key.sport && !(flow.seen.c.traits & PM_CONN_ONE_PACKET)) || made || !c) {
			/*
			 * IPVS never finds a connection by source port 0: it means "any" there. Nor one that is for
			 * another packet only, which another CPU is at just now.
			 */
			v = pm_client_packet(f, family, &flow, c);
			if (v != PM_CONTINUE)
				return v;
		}
	} else if (pm_unlikely(c)) {
		return PM_DROP_CONNECTION_BUSY; /* a second one of its key would hide it */
	}
	return pm_stranger(f, family, &flow);
}

/*
 * A verdict, and in the high half the interface the frame leaves by; for ICMP, which is looked at from
 * outside (the verifier counts the stack of a chain of calls), where it is.
 */
pm_inline __u64 pm_process_frame(PM_HOST *host, int family, __u64 piece)
{
	struct pm_frame f;
	__u32 icmp = 0;
	enum pm_verdict v = pm_process_family(&f, host, family, piece, &icmp);

	return (__u64)(v == PM_PASS_ICMP ? icmp : f.ifindex) << 32 | v;
}

PM_PART __u64 pm_process4(PM_HOST *host, __u64 piece)
{
	return pm_process_frame(host, 4, piece);
}

PM_PART __u64 pm_process6(PM_HOST *host, __u64 piece)
{
	return pm_process_frame(host, 6, piece);
}

/*
 * The frame as one of this family, whole or the piece of a datagram; twice, if its client has to get a template in
 * between.
 */
pm_inline __u64 pm_process_piece(PM_HOST *host, int family, __u64 piece)
{
	__u64 result = family == 4 ? pm_process4(host, piece) : pm_process6(host, piece);
	__u64 turn;

	if (pm_likely((__u32)result != PM_WANT_TEMPLATE))
		return result;
	turn = pm_next_turn(family == 4 ? pm_introduce4(host, piece) : pm_introduce6(host, piece));
	if (turn == PM_TURN_FIRST)
		return PM_DROP_TABLE_FULL;
	piece |= turn << PM_PIECE_TURN_SHIFT;
	return family == 4 ? pm_process4(host, piece) : pm_process6(host, piece);
}

/* A fragment, by what the first of its datagram was taken for. */
pm_inline __u64 pm_process_fragment(PM_HOST *host, int family, const struct pm_settings *set)
{
	__u64 piece, result;

	if (pm_waits_elsewhere(set))
		return PM_WANT_DATAGRAM;
	piece = family == 4 ? pm_fragment4(host) : pm_fragment6(host);
	if (!(piece & PM_PIECE_PART))
		return piece >> PM_PIECE_PROTOCOL_SHIFT;
	result = pm_process_piece(host, family, piece);
	pm_note_fate(piece, result);
	return result;
}

/* A packet that no virtual service is for: of a real server that makes a call, or a stray, or not ours. */
pm_inline __u64 pm_process_other(PM_HOST *host, int family, const struct pm_settings *set)
{
	__u64 sender = family == 4 ? pm_sender4(host) : pm_sender6(host), line, result;
	__u32 calls = PM_PASS_NO_SERVICE;

	if (sender == PM_NO_LINE)
		return PM_PASS_NO_SERVICE;
	if (set->flags & PM_SETTING_ENGINES)
		calls = pm_calls_out(host, sender);
	if (calls == PM_PASS_NO_SERVICE && (set->flags & PM_SETTING_NAT_ICMP_SEND))
		return family == 4 ? pm_stray4(host, sender) : pm_stray6(host, sender);
	if (calls != PM_CONTINUE)
		return calls;
	line = family == 4 ? pm_call_out4(sender) : pm_call_out6(sender);
	if (line == PM_CALL_OUT(PM_WANT_TEMPLATE)) {
		if ((family == 4 ? pm_introduce_call4(sender) : pm_introduce_call6(sender)) == PM_CONTINUE)
			line = family == 4 ? pm_call_out4(sender) : pm_call_out6(sender);
		if (line == PM_CALL_OUT(PM_WANT_TEMPLATE))
			return PM_DROP_TABLE_FULL;
	}
	if (line >> 32 == PM_NONE)
		return (__u32)line;
	result = family == 4 ? pm_process4(host, 0) : pm_process6(host, 0);
	pm_end_call_out(family, line);
	return result;
}

/* The frame as one of this family; what only few packets need has its own look at it. */
pm_inline __u64 pm_process_as(PM_HOST *host, int family, const struct pm_settings *set)
{
	__u64 result = pm_process_piece(host, family, 0);

	if (pm_likely((__u8)result >= PM_FORWARD_NAT))
		return result;
	if ((__u32)result == PM_PASS_FRAGMENT)
		return pm_process_fragment(host, family, set);
	if ((__u32)result == PM_PASS_ICMP)
		return pm_icmp(host, family, result >> 32, set);
	if ((__u8)result == PM_REFUSE_ANSWER)
		return family == 4 ? pm_refuse_answer4(host, result) : pm_refuse_answer6(host, result);
	if ((__u32)result == PM_PASS_NO_SERVICE && (set->flags & (PM_SETTING_NAT_ICMP_SEND | PM_SETTING_ENGINES)))
		return pm_process_other(host, family, set);
	return result;
}

/* Takes off a priority tag: a function of its own, so that others' stack has no part in it. */
PM_PART int pm_untag(PM_HOST *host)
{
	struct pm_frame f = pm_frame_open(host);

	return pm_parse_vlan(&f);
}

/*
 * Whether the frame is for us at all: PM_CONTINUE and its family in the high half, or the verdict. What every frame
 * goes through is no function of its own: where CPUs are not trusted with returns, each costs as much as a look at
 * a table.
 */
pm_inline __u64 pm_admit(PM_HOST *host)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_frame f = pm_frame_open(host);
	const struct pm_interface *nic;
	struct pm_eth *eth;
	enum pm_verdict v;

	if (!set || !(set->flags & PM_SETTING_READY))
		return PM_PASS_NOT_CONFIGURED;
	if (f.data + PM_ETH_LEN > f.end)
		return PM_PASS_MALFORMED;
	eth = (void *)f.data;
	nic = pm_find_interface(f.ifindex);
	if (!nic)
		return PM_PASS_NOT_CONFIGURED;
	if (!pm_for_host(nic, eth) && !pm_is_delivered(host))
		return PM_PASS_NOT_FOR_HOST;
	if (pm_unlikely(pm_is_tagged(&f, eth))) {
		v = pm_untag(host);
		pm_frame_load(&f);
		if (v != PM_CONTINUE)
			return v;
		if (f.data + PM_ETH_LEN > f.end)
			return PM_PASS_MALFORMED;
		eth = (void *)f.data;
	}
	if (eth->type == pm_htons(PM_ETHERTYPE_IPV4))
		return set->flags & PM_SETTING_V4 ? 4ull << 32 : PM_PASS_NO_SERVICE;
	if (eth->type == pm_htons(PM_ETHERTYPE_IPV6))
		return set->flags & PM_SETTING_V6 ? 6ull << 32 : PM_PASS_NO_SERVICE;
	return PM_PASS_NOT_IP;
}

/* Verdict, and in the high half the interface the frame leaves by. */
pm_inline __u64 pm_process(PM_HOST *host)
{
	__u64 admitted = pm_admit(host);
	struct pm_settings *set = pm_settings(0);

	if ((__u32)admitted != PM_CONTINUE || !set)
		return (__u32)admitted;
	if (admitted >> 32 == 4)
		return pm_process_as(host, 4, set);
	return pm_process_as(host, 6, set);
}

/* Verdicts to actions, in one place. */
pm_inline enum pm_action pm_act(enum pm_verdict v)
{
	if (v == PM_WANT_PAYLOAD || v == PM_WANT_DATAGRAM || v == PM_WANT_CUT)
		return PM_ACTION_AGAIN;
	if (v < PM_FORWARD_NAT)
		return PM_ACTION_PASS;
	return v < PM_DROP_ANSWER_LIMIT ? PM_ACTION_SEND : PM_ACTION_DROP;
}
