/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Persistence (dataplane.md §5): a client's connections go to the real server that its template names. A
 * template is a line of the connection table; its key is the client under the service's mask, what the
 * service is known by, and with a persistence engine the call. It never moves, since its connections know it by
 * where it stands (control.h).
 */
#pragma once

#include "schedule.h"
#include "connect.h"
#include "service.h"
#include "filter.h"
#include "sip.h"

pm_inline __be32 pm_prefix_mask(__u32 prefix, int word)
{
	__s32 bits = (__s32)prefix - 32 * word;

	if (bits <= 0)
		return 0;
	return bits >= 32 ? 0xffffffffu : pm_htonl(0xffffffffu << (32 - bits));
}

/*
 * The key of the template that packets with key `k` to this service are under. Port 0 stands for all ports: of a
 * service that has it, and of FTP, whose data connections are to follow their control connection. What it has
 * for a call is there already (pm_call_into).
 */
pm_inline void pm_template_key(int family, const struct pm_service *s, const struct pm_key *k, struct pm_key *t)
{
	__u32 mark = s->fwmark, mask = pm_read(s->netmask);

	t->dport = s->port == pm_htons(PM_FTP_PORT) ? 0 : s->port;
	t->protocol = mark ? 0 : k->protocol;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6) {
			t->saddr[i] = k->saddr[i] & pm_prefix_mask(mask, i);
			t->daddr[i] = mark ? 0 : k->daddr[i];
		} else {
			t->saddr[i] = i ? 0 : k->saddr[0] & pm_htonl(mask);
			t->daddr[i] = i || mark ? 0 : k->daddr[0];
		}
	}
	if (mark)
		t->daddr[0] = pm_htonl(mark);
}

/* How many connections each source may have at a time to the service in this slot; 0: any number. */
pm_inline __u32 pm_most_connections(const struct pm_settings *set, __u32 slot)
{
	const struct pm_gate *gate;

	if (pm_likely(!(set->flags & PM_SETTING_LIMITS)))
		return 0;
	gate = pm_gate_of(slot);
	return gate ? pm_read(gate->connections) : 0;
}

/*
 * The key of what counts the connections of a client with key `k`: its template, where the service is persistent; else
 * the line of its source, which has a prefix length for a port, as no template has.
 */
pm_inline void pm_counting_key(int family, const struct pm_service *s, __u32 slot, const struct pm_key *k,
			       struct pm_key *t)
{
	const struct pm_gate *gate;
	__u32 length;

	pm_template_key(family, s, k, t);
	if (s->flags & PM_SERVICE_PERSISTENT)
		return;
	gate = pm_gates(slot);
	length = gate ? pm_read(gate->length) : 0;
	t->sport = pm_htons(length);
#pragma unroll
	for (int i = 0; i < 4; i++)
		t->saddr[i] = pm_prefix_word(k->saddr[i], i, length);
}

/*
 * The template of this key in one level of the table, that in line `except` aside: index in the high half, word in
 * the low; PM_NO_LINE.
 */
pm_inline __u64 pm_template_at(int family, const struct pm_place *at, const struct pm_key *t, __u32 level,
			       __u32 except)
{
	if (!at || !t)
		return PM_NO_LINE;
	for (__u32 n = 0; n < PM_LINES; n++) {
		__u32 i = pm_nth(family, at, level, n);
		struct pm_conn *c = pm_line(family, i), *fields;
		__u64 head;

		if (!c)
			return PM_NO_LINE;
		head = pm_head(c);
		fields = pm_after(c, head);
		if (i != except && pm_is_live(head) && pm_kind_of(pm_glance(fields->traits)) == PM_CONN_TEMPLATE &&
		    !(pm_state(head) & PM_TEMPLATE_LAPSED) && pm_glance(fields->neighbour) == t->tag &&
		    pm_same_ends(family, fields, t))
			return (__u64)i << 32 | (__u32)head;
	}
	return PM_NO_LINE;
}

PM_PART __u64 pm_template_at4(const struct pm_place *at, const struct pm_key *t, __u32 level, __u32 except)
{
	return pm_template_at(4, at, t, level, except);
}

PM_PART __u64 pm_template_at6(const struct pm_place *at, const struct pm_key *t, __u32 level, __u32 except)
{
	return pm_template_at(6, at, t, level, except);
}

/* The same in all levels that are in use: first where new lines are placed. */
pm_inline __u64 pm_other_template(int family, struct pm_settings *set, const struct pm_place *at,
				  const struct pm_key *t, __u32 except)
{
	__u32 levels = pm_levels_in_use(pm_read(*pm_levels(family, set))) & ~(1u << (at->level & PM_LEVEL));
	__u64 found = family == 4 ? pm_template_at4(at, t, at->level, except) :
				    pm_template_at6(at, t, at->level, except);

	if (pm_likely(found != PM_NO_LINE || !levels))
		return found;
	for (__u32 level = 0; level < PM_LEVELS && found == PM_NO_LINE; level++)
		if (levels >> level & 1)
			found = family == 4 ? pm_template_at4(at, t, level, except) :
					      pm_template_at6(at, t, level, except);
	return found;
}

pm_inline __u64 pm_find_template(int family, struct pm_settings *set, const struct pm_place *at,
				 const struct pm_key *t)
{
	return pm_other_template(family, set, at, t, PM_NONE);
}

/* Whether a template may still lead to this real server. */
pm_inline int pm_template_holds(const struct pm_settings *set, const struct pm_real *real)
{
	return real && real->slot == PM_SLOT_LIVE &&
	       (!(set->flags & PM_SETTING_EXPIRE_QUIESCENT) || pm_read(real->weight) > 0);
}

/* The template that was found leads nowhere any more. */
pm_inline void pm_lapse(int family, __u64 found)
{
	struct pm_conn *c = pm_line(family, found >> 32);
	__u64 head = c ? pm_head(c) : 0;

	if (c && pm_same_owner(head, found))
		(void)pm_swap_head(c, head, head | PM_TEMPLATE_LAPSED << PM_CONN_STATE_SHIFT);
}

#define PM_AGAIN (~3ull)    /* another packet was quicker */
#define PM_AT_LIMIT (~4ull) /* its source has as many connections as it may have */

/*
 * The real server of this client's template, as an index in the low half, for a connection that is about to be
 * made: the template's timer begins anew, and in the high half is its line, which counts that connection
 * (PM_NONE: it does not). PM_NO_LINE: there is no template that leads anywhere; PM_AT_LIMIT. One attempt. Of a service
 * that is not persistent the template is the line of the source, and the real server PM_NONE.
 */
pm_inline __u64 pm_use_template(int family, __u32 slot, const struct pm_key *k, __u32 now, __u32 call)
{
	struct pm_service *service;
	struct pm_settings *set;
	struct pm_conn *c, *fields;
	struct pm_key t = {};
	enum pm_taken taken;
	struct pm_place at;
	__u32 index, real, until;
	__u64 found, head;

	pm_call_into(&t, call);
	service = pm_services(slot);
	set = pm_settings(0);
	if (!service || !set || !k)
		return PM_NO_LINE;
	pm_counting_key(family, service, slot, k, &t);
	at = pm_template_place(family, set, &t);
	found = pm_find_template(family, set, &at, &t);
	index = found >> 32;
	c = pm_line(family, index);
	if (!c)
		return PM_NO_LINE;
	head = pm_head(c);
	if (!pm_same_owner(head, found))
		return PM_AGAIN;
	if (pm_past(now, pm_until(head)))
		return pm_end(family, index, head) ? PM_NO_LINE : PM_AGAIN; /* it may have been prolonged */
	fields = pm_after(c, head);
	real = pm_glance(fields->real);
	until = now + pm_template_stays(fields, head);
	if (!(pm_state(head) & PM_TEMPLATE_SOURCE) && !pm_template_holds(set, pm_reals(real))) {
		(void)pm_swap_head(c, head, head | PM_TEMPLATE_LAPSED << PM_CONN_STATE_SHIFT);
		return PM_AGAIN;
	}
	if (until != pm_until(head) && !pm_swap_head(c, head, pm_head_of(head, until)))
		return PM_AGAIN;
	taken = pm_take_control(family, index, head,
				service->flags & PM_SERVICE_ONE_PACKET ? 0 : pm_most_connections(set, slot));
	if (taken == PM_TAKEN)
		return (__u64)index << 32 | real;
	if (pm_unlikely(taken == PM_TAKEN_ALL))
		return PM_AT_LIMIT;
	if (real == PM_NONE)
		return PM_AGAIN;
	/* Nobody counts on it: what was read may be another's by now. */
	return pm_same_owner(pm_head(pm_after(c, real)), head) ? (__u64)PM_NONE << 32 | real : PM_AGAIN;
}

PM_PART __u64 pm_use_template4(__u32 slot, const struct pm_key *k, __u32 now, __u32 call)
{
	return pm_use_template(4, slot, k, now, call);
}

PM_PART __u64 pm_use_template6(__u32 slot, const struct pm_key *k, __u32 now, __u32 call)
{
	return pm_use_template(6, slot, k, now, call);
}

/* Fills the claimed line of a template. */
pm_inline int pm_fill_template(int family, const struct pm_key *t, const struct pm_service *service, __u32 index,
			       __u32 real_index)
{
	struct pm_conn *c = pm_line(family, index);
	__u32 *word = pm_control(family, index);
	struct pm_real *real = pm_reals(real_index);

	if (!c || !word)
		return 0;
	pm_fill(family, c, t, pm_traits(PM_CONN_TEMPLATE, real ? pm_read(real->method) : PM_METHOD_NAT, 0));
	c->neighbour = t->tag;
	c->real = real_index;
	c->peer = PM_TEMPLATE_STAYS |
		  (real ? (__u64)pm_read(service->timeout_s) * 1000000000 >> PM_TICK_SHIFT : PM_TEMPLATE_AGAIN);
	pm_write(*word, PM_CONTROL_OPEN);
	return 1;
}

/*
 * Whether a template that has just gone live has to end, since there is another one. Of two that are made at once the
 * one that is found first stays, unless the other has got a connection already: its maker was through before.
 */
pm_inline int pm_is_superfluous(int family, struct pm_settings *set, const struct pm_place *at,
				const struct pm_key *t, __u32 index)
{
	__u64 found = pm_find_template(family, set, at, t), head;
	struct pm_conn *c;

	if (found >> 32 != index)
		return 1;
	found = pm_other_template(family, set, at, t, index);
	c = pm_line(family, found >> 32);
	if (pm_likely(!c))
		return 0;
	head = pm_head(c);
	return pm_same_owner(head, found) && !pm_end(family, found >> 32, head) && pm_same_owner(pm_head(c), found);
}

/* The real server that the scheduler chooses for this client, PM_NONE. */
PM_PART __u32 pm_pick_for(__u32 slot, const struct pm_key *k, __u32 now)
{
	struct pm_service *service = pm_services(slot);

	return service && k ? pm_pick(service, slot, k, now) : PM_NONE;
}

/*
 * A new template for this client, which leads to real server `to`, or a line that counts the connections of its source.
 * `instead`: whatever template it has leads nowhere any more.
 */
pm_inline enum pm_verdict pm_make_template(int family, __u32 slot, const struct pm_key *k, __u32 now, __u32 to,
					   __u32 instead)
{
	struct pm_service *service = pm_services(slot);
	struct pm_settings *set = pm_settings(0);
	struct pm_key t = {};
	struct pm_place at;
	__u32 real = PM_NONE, word, state = PM_TEMPLATE_SOURCE;
	struct pm_live *live = PM_NULL;
	struct pm_conn *c;
	__u64 line, head;

	if (!service || !set || !k)
		return PM_DROP_MAP;
	if (service->flags & PM_SERVICE_PERSISTENT) {
		state = 0;
		real = to;
		live = pm_live(real);
		if (!live)
			return PM_ANSWER_PORT_UNREACHABLE;
	}
	pm_call_into(&t, pm_call_of(service));
	pm_counting_key(family, service, slot, k, &t);
	at = pm_template_place(family, set, &t);
	if (instead)
		pm_lapse(family, pm_find_template(family, set, &at, &t));
	line = pm_claim(family, &at, now, 1);
	c = pm_line(family, line >> 32);
	if (!c)
		return PM_DROP_TABLE_FULL;
	word = line;
	if (!pm_fill_template(family, &t, service, line >> 32, real)) {
		pm_free(c, pm_head_of(word, now));
		return PM_DROP_MAP;
	}
	if (pm_unlikely(pm_is_by_call(service)))
		(void)pm_note_call(line >> 32 | (family == 6 ? PM_CALL_ID_IPV6 : 0), word);
	if (live)
		pm_add(&live->persistent, 1);
	head = pm_head_of(pm_live_word(word, state, PM_CONN_NEW, 0), now + (c->peer & ~PM_TEMPLATE_STAYS));
	if (!pm_go_live(c, word, now, head)) {
		if (live)
			pm_add(&live->persistent, -1);
		return PM_DROP_TABLE_FULL;
	}
	if (pm_is_superfluous(family, set, &at, &t, line >> 32))
		(void)pm_end(family, line >> 32, head);
	return PM_CONTINUE;
}

PM_PART __u32 pm_make_template4(__u32 slot, const struct pm_key *k, __u32 now, __u32 to, __u32 instead)
{
	return pm_make_template(4, slot, k, now, to, instead);
}

PM_PART __u32 pm_make_template6(__u32 slot, const struct pm_key *k, __u32 now, __u32 to, __u32 instead)
{
	return pm_make_template(6, slot, k, now, to, instead);
}

/* The same of a client that is new to the service: its template leads to where the scheduler says. */
pm_inline enum pm_verdict pm_introduce_to(int family, __u32 slot, const struct pm_key *k)
{
	const struct pm_service *service = pm_services(slot);
	__u32 now = pm_now(), to = PM_NONE;

	if (!service)
		return PM_DROP_MAP;
	if (service->flags & PM_SERVICE_PERSISTENT) {
		to = pm_pick_for(slot, k, now);
		if (to == PM_NONE)
			return PM_ANSWER_PORT_UNREACHABLE;
	}
	return family == 4 ? pm_make_template4(slot, k, now, to, 0) : pm_make_template6(slot, k, now, to, 0);
}
