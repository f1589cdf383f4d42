/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Packets that this host's own stack sends: among them are the answers of real servers that are the host itself.
 * What their clients sent has gone to the stack (PM_PASS_LOCAL_NODE), so what they say comes by no interface of
 * ours. It is seen on its way out, routed and addressed already: there is nothing to be decided but from whom it
 * is (as IPVS does at the netfilter hook LOCAL_OUT).
 */
#pragma once

#include "process.h"

/* What a NAT real server on this host sends leaves with the virtual address; nobody takes anything off its TTL. */
pm_inline enum pm_verdict pm_own_answer(struct pm_frame *f, int family, struct pm_flow *flow, struct pm_conn *line)
{
	struct pm_nat nat = { .addr = flow->seen.addr, .port = flow->seen.port, .source = 1 };
	const struct pm_conn *c = &flow->seen.c;
	struct pm_real *real = pm_reals(c->real);
	struct pm_packet *p = &flow->p;
	enum pm_verdict v;

	if (!real)
		return PM_DROP_MAP;
	if (!pm_is_resumed(f)) {
		pm_frame_counted(f);
		if (real->slot == PM_SLOT_LIVE)
			pm_account_packet(family, p, c->real, 1);
		if (p->key.part != PM_PART_LATER)
			pm_follow(family, flow->set, line, flow->index, c, PM_DIR_OUT, p, flow->now);
	}
	v = pm_translate(f, p, family, &nat);
	return v == PM_CONTINUE ? PM_FORWARD_NAT_REPLY : v;
}

/* The answer of a DR or TUN real server leaves as it is; its connection's state follows both sides from now on. */
pm_inline enum pm_verdict pm_own_note(struct pm_frame *f, int family, struct pm_flow *flow)
{
	const struct pm_packet *p = &flow->p;
	__u64 line;

	if (p->key.part == PM_PART_LATER)
		return PM_PASS_FRAGMENT;
	line = family == 4 ? pm_note_reply4(&p->key, p->ip_length, flow->now) :
			     pm_note_reply6(&p->key, p->ip_length, flow->now);
	if (line == PM_NO_LINE)
		return PM_PASS_NO_SERVICE;
	pm_frame_counted(f);
	if (family == 4)
		pm_change_state4(line >> 32, line, PM_DEED(PM_DIR_OUT, p->tcp_flags), PM_NULL, flow->now);
	else
		pm_change_state6(line >> 32, line, PM_DEED(PM_DIR_OUT, p->tcp_flags), PM_NULL, flow->now);
	return PM_PASS_REPLY;
}

pm_inline enum pm_verdict pm_outgoing_family(PM_HOST *host, int family, __u64 piece, __u32 *icmp)
{
	struct pm_flow flow = {};
	struct pm_frame f;
	struct pm_conn *c;
	enum pm_verdict v;
	__u64 head = 0;

	pm_take_piece(&flow.p, piece);
	f = pm_frame_open(host);
	flow.set = pm_settings(0);
	if (!flow.set || f.data + PM_ETH_LEN > f.end)
		return PM_PASS_MALFORMED;
	v = family == 4 ? pm_parse_ipv4(&f, &flow.p) : pm_parse_ipv6(&f, &flow.p);
	if (v == PM_PASS_ICMP)
		*icmp = flow.p.l4 << 16 | (flow.p.ip_length & 0xffff);
	if (v != PM_CONTINUE)
		return v;
	if ((flow.set->flags & PM_SETTING_INTEREST) && !pm_interests(family, flow.p.key.saddr, flow.p.key.sport))
		return PM_PASS_NO_SERVICE;
	flow.now = pm_now();
	flow.at = pm_place(family, flow.set, &flow.p.key);
	c = pm_find(family, flow.set, &flow.at, &flow.p.key, &flow.index, &head);
	for (int n = 0; c && n < PM_LOOKS; n++) {
		if (pm_over(family, c, flow.index, head, flow.now)) {
			c = PM_NULL;
			break;
		}
		if (pm_look_at(family, c, &flow, head)) {
			if (pm_kind_of(flow.seen.c.traits) == PM_CONN_REPLY)
				return pm_own_answer(&f, family, &flow, c);
			/* The host is a client of its own service, which arrives elsewhere. */
			return PM_PASS_NO_SERVICE;
		}
		c = pm_find_again(family, &flow.at, &flow.p.key, &flow.index, &head);
	}
	/* Nothing may leave with the real server's own address while its connection is there. */
	if (c)
		return PM_DROP_CONNECTION_BUSY;
	return pm_own_note(&f, family, &flow);
}

/* A verdict; of ICMP where it is in the high half, as pm_process_frame says it. */
PM_PART __u64 pm_outgoing4(PM_HOST *host, __u64 piece)
{
	__u32 icmp = 0;
	enum pm_verdict v = pm_outgoing_family(host, 4, piece, &icmp);

	return (__u64)icmp << 32 | v;
}

PM_PART __u64 pm_outgoing6(PM_HOST *host, __u64 piece)
{
	__u32 icmp = 0;
	enum pm_verdict v = pm_outgoing_family(host, 6, piece, &icmp);

	return (__u64)icmp << 32 | v;
}

/*
 * An error that our stack sends about a client's packet quotes it as it arrived there, translated. `where`: the high
 * half of what was found.
 */
pm_inline enum pm_verdict pm_own_error(PM_HOST *host, int family, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	struct pm_quote q = { .icmp = icmp, .ip = icmp + PM_ICMP_LEN, .ports = pm_error_offset(where),
			      .handed_over = 1 };
	struct pm_conn *c = pm_line(family, index);
	struct pm_frame f = pm_frame_open(host);
	struct pm_seen seen = {};
	struct pm_real *real;
	enum pm_verdict v;
	__u64 head;

	if (!c || f.data + PM_ETH_LEN + PM_IPV6_LEN > f.end)
		return PM_DROP_MAP;
	head = pm_head(c);
	/* It may be another's by now. */
	if (!pm_error_owner(where, head) || !pm_look(c, head, &seen) || pm_kind_of(seen.c.traits) != PM_CONN_REPLY ||
	    !pm_look_virtual(family, index, &seen))
		return PM_PASS_ICMP;
	real = pm_reals(seen.c.real);
	if (real && real->slot == PM_SLOT_LIVE)
		pm_account(seen.c.real, ip_length, 1);
	v = pm_translate_error(&f, family, &q, seen.addr, seen.port, 1);
	return v == PM_CONTINUE ? PM_FORWARD_ICMP_REPLY : v;
}

PM_PART int pm_own_error4(PM_HOST *host, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	return pm_own_error(host, 4, index, icmp, where, ip_length);
}

PM_PART int pm_own_error6(PM_HOST *host, __u32 index, __u32 icmp, __u32 where, __u32 ip_length)
{
	return pm_own_error(host, 6, index, icmp, where, ip_length);
}

pm_inline enum pm_verdict pm_own_icmp(PM_HOST *host, int family, __u32 where)
{
	__u32 icmp = where >> 16, ip_length = where & 0xffff, end = PM_ETH_LEN + ip_length;
	struct pm_frame f = pm_frame_open(host);
	struct pm_icmp *head;
	__u64 found;

	if (icmp + PM_ICMP_LEN > end)
		return PM_PASS_ICMP;
	head = pm_at_offset(&f, icmp, PM_ICMP_LEN);
	if (!head || !pm_is_error(family, head->type))
		return PM_PASS_ICMP;
	if (pm_reach(&f) < end)
		return PM_WANT_PAYLOAD;
	found = family == 4 ? pm_find_error4(host, icmp, end) : pm_find_error6(host, icmp, end);
	if (found == PM_NO_ERROR)
		return PM_PASS_ICMP;
	return family == 4 ? pm_own_error4(host, (__u32)found, icmp, found >> 32, ip_length) :
			     pm_own_error6(host, (__u32)found, icmp, found >> 32, ip_length);
}

pm_inline enum pm_verdict pm_outgoing_as(PM_HOST *host, int family)
{
	__u64 result = family == 4 ? pm_outgoing4(host, 0) : pm_outgoing6(host, 0), piece;

	if (pm_unlikely((__u32)result == PM_PASS_ICMP))
		return pm_own_icmp(host, family, result >> 32);
	if (pm_likely((__u32)result != PM_PASS_FRAGMENT))
		return result;
	piece = family == 4 ? pm_fragment4(host) : pm_fragment6(host);
	if (!(piece & PM_PIECE_PART))
		return piece >> PM_PIECE_PROTOCOL_SHIFT;
	result = family == 4 ? pm_outgoing4(host, piece) : pm_outgoing6(host, piece);
	pm_note_fate(piece, result);
	return result;
}

/* The verdict on a packet that this host sends: PM_PASS_* leaves as it is, PM_FORWARD_* as it is by now. */
pm_inline enum pm_verdict pm_outgoing(PM_HOST *host, __u16 ethertype)
{
	const struct pm_settings *set = pm_settings(0);

	if (!set || !(set->flags & PM_SETTING_ANSWERS))
		return PM_PASS_NOT_CONFIGURED;
	if (ethertype == pm_htons(PM_ETHERTYPE_IPV4))
		return set->flags & PM_SETTING_V4 ? pm_outgoing_as(host, 4) : PM_PASS_NO_SERVICE;
	if (ethertype == pm_htons(PM_ETHERTYPE_IPV6))
		return set->flags & PM_SETTING_V6 ? pm_outgoing_as(host, 6) : PM_PASS_NO_SERVICE;
	return PM_PASS_NOT_IP;
}
