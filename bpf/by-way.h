/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Answers of DR and TUN real servers that come by this host: their clients are behind it, or are this host. The
 * stack forwards them, and takes them, by IPv6; by IPv4 it drops them for their source, which is its own.
 */
#pragma once

#include "send.h"

/*
 * The connection that an answer is of, as line and word, once it is counted with so many bytes, none: not again.
 * PM_NO_LINE if there is none. `lent`: the one whose client has the virtual address for its own, and has been lent
 * the address that is answered.
 */
pm_inline __u64 pm_note_answer(int family, const struct pm_key *k, __u32 ip_length, __u32 now, int lent)
{
	struct pm_settings *set = pm_settings(0);
	const struct pm_conn *fields;
	struct pm_key r = {};
	struct pm_place at;
	struct pm_real *real;
	struct pm_conn *c;
	__u32 index = 0, which;
	__u64 head, again;
	__u8 traits;

	if (!k || !set)
		return PM_NO_LINE;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6 || i == 0) {
			r.saddr[i] = lent ? k->saddr[i] : k->daddr[i];
			r.daddr[i] = k->saddr[i];
		}
	}
	r.sport = k->dport;
	r.dport = k->sport;
	r.protocol = k->protocol;
	at = pm_place(family, set, &r);
	pm_stored(at);
	pm_stored(r);
	c = pm_find(family, set, &at, &r, &index, &head);
	if (!c || pm_over(family, c, index, head, now))
		return PM_NO_LINE;
	fields = pm_after(c, head);
	traits = pm_glance(fields->traits);
	which = pm_glance(fields->real);
	again = pm_head(pm_after(c, traits | which));
	if (!pm_same_owner(again, head) || pm_kind_of(traits) != PM_CONN_IN || pm_translates(pm_method_of(traits)))
		return PM_NO_LINE;
	real = pm_reals(which);
	if (lent) {
		const __be32 *source;

		if (!real)
			return PM_NO_LINE;
		source = (const __be32 *)real->source;
		if (source[0] != k->daddr[0] || (family == 6 && (source[1] != k->daddr[1] || source[2] != k->daddr[2] ||
								 source[3] != k->daddr[3])))
			return PM_NO_LINE;
	}
	if (ip_length && real && real->slot == PM_SLOT_LIVE)
		pm_account(which, ip_length, 1);
	return (__u64)index << 32 | (__u32)again;
}

pm_inline __u64 pm_note_reply(int family, const struct pm_key *k, __u32 ip_length, __u32 now)
{
	return pm_note_answer(family, k, ip_length, now, 0);
}

PM_PART __u64 pm_note_reply6(const struct pm_key *k, __u32 ip_length, __u32 now)
{
	return pm_note_reply(6, k, ip_length, now);
}

PM_PART __u64 pm_note_lent4(const struct pm_key *k, __u32 ip_length, __u32 now)
{
	return pm_note_answer(4, k, ip_length, now, 1);
}

PM_PART __u64 pm_note_lent6(const struct pm_key *k, __u32 ip_length, __u32 now)
{
	return pm_note_answer(6, k, ip_length, now, 1);
}

PM_PART __u64 pm_note_reply4(const struct pm_key *k, __u32 ip_length, __u32 now)
{
	return pm_note_reply(4, k, ip_length, now);
}

/* To this host's own sockets, by the pair of links that is theirs: interface in the high half, verdict. */
pm_inline __u64 pm_bring_home(struct pm_frame *f, int family)
{
	struct pm_next_hop hop = {};
	struct pm_found found;

	if (!pm_read_neighbour(PM_NEIGHBOUR_OWN, &hop, &found) || !hop.ifindex)
		return PM_PASS_REPLY;
	if (pm_address_frame(f, &hop, family == 4 ? PM_ETHERTYPE_IPV4 : PM_ETHERTYPE_IPV6))
		return PM_DROP_MAP;
	return (__u64)f->ifindex << 32 | PM_FORWARD_REPLY;
}

/* An answer to an address that was lent: back to the virtual one, for the socket that has it. */
pm_inline __u64 pm_take_back(PM_HOST *host, int family, const struct pm_packet *p)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_nat nat = {};
	enum pm_verdict v;

	if (!p)
		return PM_DROP_MAP;
	nat.addr = p->key.saddr;
	nat.port = p->key.dport;
	v = pm_translate(&f, p, family, &nat);
	return v == PM_CONTINUE ? pm_bring_home(&f, family) : v;
}

PM_PART __u64 pm_take_back4(PM_HOST *host, const struct pm_packet *p)
{
	return pm_take_back(host, 4, p);
}

PM_PART __u64 pm_take_back6(PM_HOST *host, const struct pm_packet *p)
{
	return pm_take_back(host, 6, p);
}

/* An answer as the stack would forward it by IPv4, if its source were not our own; or take it. */
PM_PART __u64 pm_pass_on4(PM_HOST *host, const struct pm_packet *p)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_next_hop hop = {};
	struct pm_fib q = {};

	if (!p)
		return PM_DROP_MAP;
	if (pm_is_local4(p->key.daddr[0]))
		return pm_bring_home(&f, 4);
	if (p->ttl <= 1)
		return PM_PASS_REPLY_TTL;
	pm_fib_addresses(&q, 4, p->key.saddr, p->key.daddr);
	q.protocol = p->key.protocol;
	q.ifindex = f.ifindex;
	switch (pm_host_fib(host, &q)) {
	case PM_FIB_OK:
		break;
	case PM_FIB_NO_NEIGHBOUR:
		if (pm_host_resolves(&f, &hop))
			break;
		return PM_DROP_NEXT_HOP_UNRESOLVED;
	default:
		return PM_PASS_REPLY;
	}
	if (!hop.ifindex) {
		pm_copy_mac(hop.smac, q.smac);
		pm_copy_mac(hop.dmac, q.dmac);
		hop.mtu = q.mtu;
		hop.ifindex = q.ifindex;
	}
	if (pm_wire_length(&f, p) > hop.mtu)
		return pm_unfragmentable(&f, 4) ? PM_PASS_REPLY_MTU : PM_DROP_FRAGMENTATION;
	if (pm_decrement_ttl(&f, 4) || pm_address_frame(&f, &hop, PM_ETHERTYPE_IPV4))
		return PM_DROP_MAP;
	return (__u64)f.ifindex << 32 | PM_FORWARD_REPLY;
}

/* The line of the connection that an answer is of; in `lent`, whether it is to an address that was lent. */
pm_inline __u64 pm_connection_answered(int family, const struct pm_flow *flow, __u32 counted, int *lent)
{
	const struct pm_packet *p = &flow->p;
	__u64 line = PM_NO_LINE;

	if (p->ttl > 1)
		line = family == 4 ? pm_note_reply4(&p->key, counted, flow->now) :
				     pm_note_reply6(&p->key, counted, flow->now);
	*lent = line == PM_NO_LINE;
	if (line == PM_NO_LINE && (flow->set->flags & PM_SETTING_OWN))
		line = family == 4 ? pm_note_lent4(&p->key, counted, flow->now) :
				     pm_note_lent6(&p->key, counted, flow->now);
	return line;
}

/* A packet that no virtual service is for: an answer, or not ours. */
pm_inline enum pm_verdict pm_answer_by_way(struct pm_frame *f, int family, struct pm_flow *flow)
{
	const struct pm_packet *p = &flow->p;
	__u32 slot = 0, again = pm_is_resumed(f), deed = PM_DEED(PM_DIR_OUT, p->tcp_flags);
	__u64 line, result;
	int lent;

	if (!pm_find_service(family, p->key.saddr, p->key.sport, p->key.protocol, &slot))
		return PM_PASS_NO_SERVICE;
	line = pm_connection_answered(family, flow, again ? 0 : p->ip_length, &lent);
	if (line == PM_NO_LINE)
		return PM_PASS_NO_SERVICE;
	/* From now on its states follow both sides. */
	if (!again && family == 4)
		pm_change_state4(line >> 32, line, deed, PM_NULL, flow->now);
	else if (!again)
		pm_change_state6(line >> 32, line, deed, PM_NULL, flow->now);
	pm_frame_counted(f);
	if (lent)
		result = family == 4 ? pm_take_back4(f->host, p) : pm_take_back6(f->host, p);
	else
		result = family == 4 ? pm_pass_on4(f->host, p) : PM_PASS_REPLY;
	pm_frame_load(f);
	if (result >> 32)
		f->ifindex = result >> 32;
	return (__u32)result;
}
