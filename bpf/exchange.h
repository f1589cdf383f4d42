/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets of full NAT on their way out: both of their ends are replaced (ends.h). */
#pragma once

#include "quote.h"

/*
 * Puts one end of a packet of the line in place of what it came with; PM_CONTINUE. One at a time, and each by a part of
 * its own: both are more than the stack has room for beside the checksum of SCTP, and which of them is to be a constant,
 * or Linux 6.1 does not know where in the packet it is written.
 */
pm_inline enum pm_verdict pm_exchange(PM_HOST *host, int family, const struct pm_packet *p, __u32 index, __u32 word,
				      __u32 source)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_nat nat = { .source = source };
	struct pm_end end = {};

	if (!p)
		return PM_DROP_MAP;
	if (!(family == 4 ? pm_look_end4(index, word, source, &end) : pm_look_end6(index, word, source, &end)))
		return PM_DROP_CONNECTION_BUSY;
	nat.addr = end.addr;
	nat.port = end.port;
	return pm_translate(&f, p, family, &nat);
}

PM_PART __u32 pm_exchange_source4(PM_HOST *host, const struct pm_packet *p, __u32 index, __u32 word)
{
	return pm_exchange(host, 4, p, index, word, PM_SOURCE);
}

PM_PART __u32 pm_exchange_source6(PM_HOST *host, const struct pm_packet *p, __u32 index, __u32 word)
{
	return pm_exchange(host, 6, p, index, word, PM_SOURCE);
}

PM_PART __u32 pm_exchange_destination4(PM_HOST *host, const struct pm_packet *p, __u32 index, __u32 word)
{
	return pm_exchange(host, 4, p, index, word, 0);
}

PM_PART __u32 pm_exchange_destination6(PM_HOST *host, const struct pm_packet *p, __u32 index, __u32 word)
{
	return pm_exchange(host, 6, p, index, word, 0);
}

pm_inline enum pm_verdict pm_exchange_by(PM_HOST *host, int family, const struct pm_packet *p, __u64 line,
					 __u32 source)
{
	if (source)
		return family == 4 ? pm_exchange_source4(host, p, line >> 32, line) :
				     pm_exchange_source6(host, p, line >> 32, line);
	return family == 4 ? pm_exchange_destination4(host, p, line >> 32, line) :
			     pm_exchange_destination6(host, p, line >> 32, line);
}

/*
 * The same; the line may have been moved since it was looked at, and is at `line` then. Or its connection has ended,
 * and another one is under way: not to this real server with the port that is that one's at another.
 */
pm_inline enum pm_verdict pm_exchange_end(struct pm_frame *f, int family, const struct pm_packet *p, __u64 *line,
					  __u32 real, __u32 source)
{
	enum pm_verdict v = pm_exchange_by(f->host, family, p, *line, source);
	const struct pm_conn *c;

	if (pm_likely(v != PM_DROP_CONNECTION_BUSY))
		return v;
	*line = family == 4 ? pm_seek4(&p->key) : pm_seek6(&p->key);
	c = pm_line(family, *line >> 32);
	if (!c || pm_read(c->real) != real)
		return v;
	return pm_exchange_by(f->host, family, p, *line, source);
}

/* Both, and one off the TTL, unless a stack will do that. */
pm_inline enum pm_verdict pm_exchange_ends(struct pm_frame *f, int family, const struct pm_packet *p, __u32 index,
					   const struct pm_conn *c, int decrement)
{
	__u64 line = (__u64)index << 32 | c->word;
	enum pm_verdict v = pm_exchange_end(f, family, p, &line, c->real, 0);

	if (v == PM_CONTINUE)
		v = pm_exchange_end(f, family, p, &line, c->real, PM_SOURCE);
	pm_frame_load(f);
	if (v == PM_CONTINUE && decrement && pm_decrement_ttl(f, family))
		return PM_DROP_MAP;
	return v;
}

/*
 * No frame's verdict: the stack is not to say what it would of an answer, since with full NAT that is for itself. The
 * verdict that names the reason stands above; in the high half what pm_refuse_answer has to know. It is looked at
 * from outside, as ICMP is.
 */
#define PM_REFUSE_ANSWER 31u
#define PM_REFUSED_SHIFT 8

/* `pass` for the stack, or that. */
pm_inline __u32 pm_leave_answer(struct pm_frame *f, const struct pm_packet *p, const struct pm_conn *c,
				enum pm_verdict pass, enum pm_verdict why, __u32 mtu)
{
	if (pm_likely(pm_method_of(c->traits) != PM_METHOD_FULL_NAT))
		return pass;
	if (p->key.part)
		return PM_DROP_FRAGMENT_ALONE;
	f->ifindex = mtu << 16 | p->ip_length;
	return PM_REFUSE_ANSWER | why << PM_REFUSED_SHIFT;
}

/* The real server is told in the stack's place. `what`: of pm_leave_answer. */
pm_inline __u64 pm_refuse_answer(PM_HOST *host, int family, __u64 what)
{
	__u32 now = pm_now();
	struct pm_frame f = pm_frame_open(host);
	enum pm_verdict v = pm_answer(&f, family, what >> 32 & 0xffff, (__u32)what >> PM_REFUSED_SHIFT, what >> 48, now);

	return (__u64)f.ifindex << 32 | v;
}

PM_PART __u64 pm_refuse_answer4(PM_HOST *host, __u64 what)
{
	return pm_refuse_answer(host, 4, what);
}

PM_PART __u64 pm_refuse_answer6(PM_HOST *host, __u64 what)
{
	return pm_refuse_answer(host, 6, what);
}
