/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Life of a connection: followed through its states, ended. The daemon's sweeper
 * (control/connections/sweep.ts) plays by the same rules.
 */
#pragma once

#include "bracket.h"
#include "control.h"
#include "state.h"

pm_inline int pm_past(__u32 now, __u32 then)
{
	return (__s32)(now - then) > 0;
}

/* Ticks without a sign of the daemon, ten of its beats: then what it keeps up to date may be old. */
#define PM_DAEMON_PATIENCE 1192u

pm_inline int pm_daemon_is_there(const struct pm_settings *set, __u32 now)
{
	return (__s32)(now - pm_read(set->swept)) <= (__s32)PM_DAEMON_PATIENCE;
}

/* The line of the other direction and its head, if it still belongs to this one. */
pm_inline struct pm_conn *pm_peer(int family, __u32 index, __u32 peer_index, __u64 *head)
{
	struct pm_conn *peer;

	if (peer_index == PM_NONE)
		return PM_NULL;
	peer = pm_line(family, peer_index);
	if (!peer)
		return PM_NULL;
	*head = pm_head(peer);
	if (!pm_is_live(*head) || pm_glance(pm_after(peer, *head)->peer) != index)
		return PM_NULL;
	return peer;
}

/*
 * The same for who does not own this line, and may have looked at an earlier owner's: two lines can have been
 * each other's before, the other way round, and what is done to one is right for its kind only.
 */
pm_inline struct pm_conn *pm_peer_as(int family, __u32 index, __u32 peer_index, enum pm_conn_kind kind, __u64 *head)
{
	struct pm_conn *peer = pm_peer(family, index, peer_index, head);

	return peer && pm_kind_of(pm_glance(pm_after(peer, *head)->traits)) == kind ? peer : PM_NULL;
}

/* The key that a REPLY line's connection has on the client's side: 0 if that is being moved, or has ended. */
pm_inline int pm_look_peer(int family, __u32 index, struct pm_seen *seen)
{
	const struct pm_conn *in;
	const pm_u32 *from;
	__u64 head, again;
	__u32 any = 0;

	if (!seen)
		return 0;
	in = pm_peer_as(family, index, seen->c.peer, PM_CONN_IN, &head);
	if (!in)
		return 0;
	in = pm_after(in, head);
	from = family == 4 ? (const pm_u32 *)&((const struct pm_conn4 *)in)->daddr :
			     (const pm_u32 *)((const struct pm_conn6 *)in)->daddr;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			any |= seen->addr[i] = pm_glance(from[i]);
	any |= seen->port = pm_glance(in->dport);
	again = pm_head(pm_after(in, any));
	return pm_same_owner(again, head);
}

PM_PART int pm_look_peer4(__u32 index, struct pm_seen *seen)
{
	return pm_look_peer(4, index, seen);
}

PM_PART int pm_look_peer6(__u32 index, struct pm_seen *seen)
{
	return pm_look_peer(6, index, seen);
}

/*
 * What a REPLY line's packets leave as: the virtual address and port. Of a real server in service that is its
 * service's, if that has one address and port: what is deleted stays readable until every packet is through.
 * Else it is what the client sends to. 0: as above.
 */
pm_inline int pm_look_virtual(int family, __u32 index, struct pm_seen *seen)
{
	const struct pm_real *real = pm_reals(seen->c.real);
	const struct pm_service *service;
	const __be32 *addr;

	if (pm_unlikely(!real || pm_read(real->slot) != PM_SLOT_LIVE || (seen->c.traits & PM_CONN_OTHER_PORT)))
		return family == 4 ? pm_look_peer4(index, seen) : pm_look_peer6(index, seen);
	service = pm_services(pm_read(real->service));
	if (pm_unlikely(!service || !service->port || service->fwmark))
		return family == 4 ? pm_look_peer4(index, seen) : pm_look_peer6(index, seen);
	addr = (const __be32 *)service->addr;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			seen->addr[i] = addr[i];
	seen->port = service->port;
	return 1;
}

/*
 * Whether a live line's time is over. The later of both directions' counts; a line for replies whose
 * connection has ended, ended with it.
 */
pm_inline int pm_over(int family, const struct pm_conn *c, __u32 index, __u64 head, __u32 now)
{
	__u64 other;

	if (pm_likely(!pm_past(now, pm_until(head))))
		return 0;
	return !pm_peer(family, index, pm_glance(pm_after(c, head)->peer), &other) || pm_past(now, pm_until(other));
}

/* Where packets of this key and these traits arrive at a real server: its port, or their own. */
pm_inline __be16 pm_real_port(const struct pm_real *real, const struct pm_key *k, __u32 traits)
{
	__be16 port = traits & PM_CONN_OTHER_PORT ? 0 : pm_read(real->port);

	return port ? port : k->dport;
}

/* Adds to a number in a row of the per-CPU maps. */
pm_inline void pm_count(__u32 row, __u64 *n, __u64 by)
{
	if (pm_unlikely(pm_is_shared(row)))
		pm_add(n, by);
	else
		*n += by;
}

/* Counts in this CPU's row of the verdicts. */
pm_inline void pm_tally(enum pm_verdict v)
{
	__u32 row = pm_cpu();
	__u64 *n = pm_verdicts(row * PM_VERDICT_MAX + (v & (PM_VERDICT_MAX - 1)));

	if (n)
		pm_count(row, n, 1);
}

/*
 * dataplane.md §10.1: the overload flag changes when the count of connections reaches the upper
 * threshold, and when it falls below the lower one (three quarters of the upper if none is set). To be
 * called after the count has changed. Flag and count are two words: whoever writes the one looks at the
 * other again, so that the last of several CPUs leaves them in accord. Whether it has been written.
 */
PM_PART int pm_weigh(__u32 index)
{
	struct pm_real *real = pm_reals(index);
	struct pm_live *live = pm_live(index);
	__u32 upper, lower;
	int written = 0;

	if (!real || !live)
		return 0;
	upper = pm_read(real->upper);
	if (!upper)
		return 0;
	lower = pm_read(real->lower);
	if (!lower)
		lower = upper - upper / 4;
	for (int n = 0; n < PM_TRIES; n++) {
		/* With its result wanted, a full barrier in BPF too. */
		__u32 total = __sync_fetch_and_add(&live->inactive, 0) + pm_read(live->active);
		__u32 was = pm_read(live->overloaded), is = was;

		if (total >= upper)
			is = 1;
		else if (total < lower)
			is = 0;
		if (is == was)
			break;
		pm_publish(&live->overloaded, is);
		written = 1;
	}
	return written;
}

/*
 * A kept next hop is good for 2^12 ticks (34 s) at most, also when no daemon is there to say that
 * routes or neighbours have changed.
 */
#define PM_EPOCH_SHIFT 12

pm_inline __u32 pm_epoch(const struct pm_settings *set, __u32 now)
{
	return pm_read(set->next_hop_epoch) + (now >> PM_EPOCH_SHIFT);
}

/* Ticks since the last packet that moved the line's timer. */
pm_inline __u32 pm_age(const struct pm_settings *set, __u8 protocol, __u64 head, __u32 now)
{
	__s32 age = now - (pm_until(head) - pm_timeout_of(set, protocol, pm_state(head)));

	return age < 0 ? 0 : age; /* a timeout has been shortened meanwhile */
}

/*
 * A line has a part of an epoch only, which begins anew after 32 of them. The daemon begins no more than eight
 * at once, then one a second (control/apply/next-hop-epoch.ts): so many ticks are 20 of them at most.
 */
#define PM_EPOCH_MEMORY 1192u /* 10 s */
/* A line whose timer is moved by the other direction's packet is to look up its next hop again after this. */
#define PM_EPOCH_UNUSED (PM_EPOCH_MEMORY / 4)
#define PM_EPOCH_HALF_WAY 16u

/*
 * The word of a line whose timer another line's packet moves: who looks at the timer must not think that its next
 * hop was good lately. Who is writing that just now knows.
 */
pm_inline __u32 pm_moved_by_other(const struct pm_settings *set, __u8 protocol, __u64 head, __u32 word, __u32 now)
{
	__u32 epoch = pm_epoch(set, now) + PM_EPOCH_HALF_WAY;

	if (pm_age(set, protocol, head, now) <= PM_EPOCH_UNUSED || (word & PM_CONN_HELD))
		return word;
	return (word & ~PM_CONN_EPOCHS) | (epoch << PM_CONN_EPOCH_SHIFT & PM_CONN_EPOCHS);
}

/* Moves the counts of a real server by what was swapped out of a line's word, and in. */
pm_inline void pm_settle(__u32 real_index, __u32 from, __u32 to)
{
	struct pm_live *live = pm_live(real_index);
	struct pm_real *real;
	int weighed = 0;

	if (!live)
		return;
	if (pm_is_live(from) != pm_is_live(to)) {
		pm_add(pm_is_live(to) ? (to & PM_CONN_ACTIVE ? &live->active : &live->inactive) :
					(from & PM_CONN_ACTIVE ? &live->active : &live->inactive),
		       pm_is_live(to) ? 1 : -1);
		real = pm_reals(real_index);
		if (pm_unlikely(real && real->upper))
			weighed = pm_weigh(real_index);
	} else if ((from ^ to) & PM_CONN_ACTIVE) {
		pm_add(to & PM_CONN_ACTIVE ? &live->active : &live->inactive, 1);
		pm_add(to & PM_CONN_ACTIVE ? &live->inactive : &live->active, -1);
	} else {
		return;
	}
	if (pm_unlikely((__s32)live->seat > 0 || weighed))
		(void)pm_challenge(real_index);
}

/* How many ticks a live template stays after a new connection of its. */
pm_inline __u32 pm_template_stays(const struct pm_conn *fields, __u64 head)
{
	return pm_state(head) & PM_TEMPLATE_PROLONGED ? PM_TEMPLATE_AGAIN :
							pm_glance(fields->peer) & ~PM_TEMPLATE_STAYS;
}

/*
 * Takes a template out of the table, if its head is still this one and it controls nothing. One that does is
 * prolonged when its time is over, and 0 the answer.
 */
pm_inline int pm_end_template(int family, __u32 index, __u64 head)
{
	struct pm_conn *c = pm_line(family, index);
	__u32 *word = pm_control(family, index), now = pm_now(), real;
	__u64 claimed = pm_claimed(head, now), next = head;
	struct pm_live *live;

	if (!c || !word)
		return 0;
	if (pm_past(now, pm_until(head)))
		next = pm_head_of((__u32)head | PM_TEMPLATE_PROLONGED << PM_CONN_STATE_SHIFT,
				  now + PM_TEMPLATE_AGAIN);
	if (pm_controls_any(family, index)) {
		if (next != head)
			(void)pm_swap_head(c, head, next);
		return 0;
	}
	real = pm_glance(pm_after(c, head)->real);
	if (!pm_swap_head(c, head, claimed))
		return 0;
	if (!pm_swap(word, PM_CONTROL_OPEN, 0)) {
		/* It has got a connection just now, and goes on as its own next owner. */
		(void)pm_swap_head(c, claimed,
				   pm_head_of(pm_live_word(claimed, pm_state(next), PM_CONN_NEW, 0), pm_until(next)));
		return 0;
	}
	live = pm_live(real);
	if (live)
		pm_add(&live->persistent, -1);
	pm_free(c, claimed);
	return 1;
}

/* Fewer than PM_TRIES: a line for replies that is left behind ends by itself. */
#define PM_END_TRIES 2

/*
 * Takes a connection, both lines, out of the table, if the line's head is still this one. 1 if so: then
 * its counts are settled and the lines are free.
 */
pm_inline int pm_end_line(int family, __u32 index, __u64 head)
{
	struct pm_conn *c = pm_line(family, index), *fields, *peer;
	__u32 now = pm_now(), real, peer_index;
	__u64 claimed = pm_claimed(head, now), other;
	__u32 template = PM_NONE;
	const __u32 *control;
	enum pm_conn_kind kind;

	if (!c || !pm_is_live(head) || ((__u32)head & PM_CONN_HELD))
		return 0;
	fields = pm_after(c, head);
	real = pm_glance(fields->real);
	kind = pm_kind_of(pm_glance(fields->traits));
	peer_index = pm_glance(fields->peer);
	if (kind == PM_CONN_TEMPLATE)
		return pm_end_template(family, index, head);
	if (kind == PM_CONN_IN && (pm_glance(fields->traits) & PM_CONN_CONTROLLED)) {
		control = pm_control(family, index);
		template = control ? pm_glance(*control) : PM_NONE;
	}
	if (!pm_swap_head(c, head, claimed))
		return 0;
	if (kind == PM_CONN_IN)
		pm_settle(real, head, claimed);
	if (template != PM_NONE)
		pm_uncontrol(family, template);
	for (int n = 0; n < PM_END_TRIES; n++) {
		__u64 taken;

		peer = pm_peer(family, index, peer_index, &other);
		/* A line whose next hop is being written is left: without its connection it is over. */
		if (!peer || kind != PM_CONN_IN || ((__u32)other & PM_CONN_HELD))
			break;
		taken = pm_claimed(other, now);
		if (pm_swap_head(peer, other, taken)) {
			pm_free(peer, taken);
			break;
		}
	}
	pm_free(c, claimed);
	return 1;
}

PM_PART int pm_end4(__u32 index, __u64 head)
{
	return pm_end_line(4, index, head);
}

PM_PART int pm_end6(__u32 index, __u64 head)
{
	return pm_end_line(6, index, head);
}

pm_inline int pm_end(int family, __u32 index, __u64 head)
{
	return family == 4 ? pm_end4(index, head) : pm_end6(index, head);
}

pm_inline int pm_forget_line(int family, __u32 index, __u32 word)
{
	struct pm_conn *c = pm_line(family, index);

	if (!c)
		return 1;
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 head = pm_head(c);

		if (!pm_same_owner(head, word) || pm_end(family, index, head))
			return 1;
	}
	return 0;
}

PM_PART int pm_forget4(__u32 index, __u32 word)
{
	return pm_forget_line(4, index, word);
}

PM_PART int pm_forget6(__u32 index, __u32 word)
{
	return pm_forget_line(6, index, word);
}

/* The same, whatever its state and time have become, while the owner is that of `word`; 0: it is still there. */
pm_inline int pm_forget(int family, __u32 index, __u32 word)
{
	return family == 4 ? pm_forget4(index, word) : pm_forget6(index, word);
}

/*
 * Ends a live line whose time is over, and the connection it belongs to. 0: it could not be, or somebody
 * was quicker.
 */
pm_inline int pm_end_over(int family, struct pm_conn *c, __u32 index, __u64 head)
{
	struct pm_conn *fields = pm_after(c, head);
	__u32 in = pm_glance(fields->peer);
	__u64 other;

	if (pm_kind_of(pm_glance(fields->traits)) == PM_CONN_REPLY && pm_peer_as(family, index, in, PM_CONN_IN, &other))
		return pm_end(family, in, other);
	return pm_end(family, index, head);
}

/*
 * What a packet makes of a connection's head. An answer of the real server is one; where answers go
 * another way, the client's coming back a second time, later than the first, stands for it: a flood of
 * forged packets comes in one go.
 */
pm_inline __u64 pm_next_head(const struct pm_settings *set, __u8 protocol, __u64 head, enum pm_direction dir,
			     __u8 tcp_flags, __u32 now)
{
	__u32 bits = (__u32)head & (PM_CONN_INPUT_ONLY | PM_CONN_HELD), class = pm_class(head);
	__u8 state = pm_state(head), next;

	if (dir == PM_DIR_OUT) {
		class = PM_CONN_ANSWERED;
		bits &= ~PM_CONN_INPUT_ONLY;
	} else if (!(tcp_flags & PM_TCP_SYN)) {
		if (class == PM_CONN_NEW)
			class = PM_CONN_RETURNED;
		else if (class == PM_CONN_RETURNED && (bits & PM_CONN_INPUT_ONLY) &&
			 pm_age(set, protocol, head, now))
			class = PM_CONN_ANSWERED;
	}
	next = pm_next_state(set, protocol, dir == PM_DIR_IN && (bits & PM_CONN_INPUT_ONLY) ? PM_DIR_IN_ONLY : dir,
			     tcp_flags, state);
	if (pm_is_active(protocol, next))
		bits |= PM_CONN_ACTIVE;
	return pm_head_of(pm_live_word(head, next, class, bits),
			  now + pm_timeout_of(set, protocol, next));
}

/* A template can rely on its client: a connection of its is established, or has been answered (UDP). */
pm_inline void pm_assure(int family, __u32 template)
{
	struct pm_conn *c = pm_line(family, template);

	for (int n = 0; c && n < PM_TRIES; n++) {
		__u64 head = pm_head(c);

		if (!pm_is_live(head) || pm_kind_of(pm_glance(pm_after(c, head)->traits)) != PM_CONN_TEMPLATE ||
		    (pm_state(head) & PM_TEMPLATE_ASSURED) ||
		    pm_swap_head(c, head, head | PM_TEMPLATE_ASSURED << PM_CONN_STATE_SHIFT))
			return;
	}
}

PM_PART int pm_assure4(__u32 template)
{
	pm_assure(4, template);
	return 0;
}

PM_PART int pm_assure6(__u32 template)
{
	pm_assure(6, template);
	return 0;
}

/* The template that is assured by this change of an IN line's head, PM_NONE if there is none. */
pm_inline __u32 pm_assured_by(int family, const struct pm_conn *fields, __u32 index, __u64 head, __u64 next,
			      __u32 dir)
{
	const __u32 *control;
	__u8 protocol;

	if (pm_likely(!(pm_glance(fields->traits) & PM_CONN_CONTROLLED)))
		return PM_NONE;
	protocol = pm_glance(fields->protocol);
	if (protocol == PM_PROTO_UDP ? dir != PM_DIR_OUT :
				       !pm_is_established(protocol, pm_state(next)) ||
					       pm_is_established(protocol, pm_state(head)))
		return PM_NONE;
	control = pm_control(family, index);
	return control ? pm_glance(*control) : PM_NONE;
}

/* No indices: another CPU was quicker; the line has another owner, or none: it may have been moved (move.h). */
#define PM_LOST 0xfffffffeu
#define PM_GONE 0xfffffffdu

/*
 * The slow way of pm_follow, one attempt. A NAT connection's state stands in both lines; that of the IN line
 * is the connection's, the other one is a copy. The index of the other line, which is to follow, or PM_NONE.
 */
pm_inline __u32 pm_change_once(int family, __u32 index, __u32 word, __u32 dir, __u32 tcp_flags, __u32 now)
{
	struct pm_conn *c = pm_line(family, index), *fields;
	struct pm_settings *set = pm_settings(0);
	__u32 peer, real, in = index, template;
	__u8 protocol;
	__u64 head, next;

	if (!c || !set)
		return PM_NONE;
	head = pm_head(c);
	if (!pm_same_owner(head, word))
		return PM_GONE;
	fields = pm_after(c, head);
	protocol = pm_glance(fields->protocol);
	peer = pm_glance(fields->peer);
	if (pm_kind_of(pm_glance(fields->traits)) == PM_CONN_REPLY) {
		struct pm_conn *own = c;
		__u64 was = head;

		c = pm_peer_as(family, index, peer, PM_CONN_IN, &head);
		/* One of both may just be on its way to another line (move.h). */
		if (!c)
			return ((__u32)was & PM_CONN_HELD) || pm_head(own) != was ? PM_LOST : PM_NONE;
		in = peer;
	}
	real = pm_glance(pm_after(c, head)->real);
	next = pm_next_head(set, protocol, head, dir, tcp_flags, now);
	if (dir == PM_DIR_OUT)
		next = pm_head_of(pm_moved_by_other(set, protocol, head, next, now), pm_until(next));
	template = pm_assured_by(family, pm_after(c, head), in, head, next, dir);
	if (!pm_swap_head(c, head, next))
		return PM_LOST;
	pm_settle(real, head, next);
	if (pm_unlikely(template != PM_NONE))
		(void)(family == 4 ? pm_assure4(template) : pm_assure6(template));
	return peer;
}

PM_PART __u32 pm_change_once4(__u32 index, __u32 word, __u32 dir, __u32 tcp_flags, __u32 now)
{
	return pm_change_once(4, index, word, dir, tcp_flags, now);
}

PM_PART __u32 pm_change_once6(__u32 index, __u32 word, __u32 dir, __u32 tcp_flags, __u32 now)
{
	return pm_change_once(6, index, word, dir, tcp_flags, now);
}

/* The two lines are not, or no longer, one connection's: one may have been moved. */
#define PM_ASTRAY 2

/*
 * Brings the copy of a NAT connection's state in its REPLY line up to date, one attempt; 0 when they agree, 1 when
 * they may not, PM_ASTRAY. `one` is the packet's own line.
 */
pm_inline int pm_copy_once(int family, __u32 one, __u32 other)
{
	struct pm_conn *in = pm_line(family, one), *out;
	__u32 in_index = one, out_index = other, word;
	struct pm_settings *set = pm_settings(0);
	__u64 head, copy;

	if (!in || !set)
		return 0;
	head = pm_head(in);
	if (pm_kind_of(pm_glance(pm_after(in, head)->traits)) == PM_CONN_REPLY) {
		in_index = other;
		out_index = one;
		in = pm_line(family, in_index);
		if (!in)
			return 0;
		head = pm_head(in);
	}
	if (!pm_is_live(head) || pm_glance(pm_after(in, head)->peer) != out_index)
		return PM_ASTRAY;
	out = pm_peer_as(family, in_index, out_index, PM_CONN_REPLY, &copy);
	if (!out)
		return PM_ASTRAY;
	word = pm_live_word(copy, pm_state(head), pm_class(head), (__u32)copy & PM_CONN_HELD);
	/* Not by a packet of its own, which has just seen to its next hop. */
	if (out_index == other)
		word = pm_moved_by_other(set, pm_glance(pm_after(in, head)->protocol), copy, word, pm_now());
	if (!pm_swap_head(out, copy, pm_head_of(word, pm_until(head))))
		return 1;
	/* Of packets on two CPUs, the one that writes the copy last has seen the last state. */
	copy = pm_head(in);
	return pm_same_owner(copy, head) && pm_state(copy) != pm_state(head);
}

PM_PART int pm_copy_once4(__u32 one, __u32 other)
{
	return pm_copy_once(4, one, other);
}

PM_PART int pm_copy_once6(__u32 one, __u32 other)
{
	return pm_copy_once(6, one, other);
}

/* The line of a packet whose own has gone while it was looked at: index in the high half, word in the low; PM_NO_LINE. */
pm_inline __u64 pm_seek(int family, const struct pm_key *k)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_place at;

	if (!set || !k)
		return PM_NO_LINE;
	at = pm_place(family, set, k);
	return family == 4 ? pm_search4(&at, k) : pm_search6(&at, k);
}

PM_PART __u64 pm_seek4(const struct pm_key *k)
{
	return pm_seek(4, k);
}

PM_PART __u64 pm_seek6(const struct pm_key *k)
{
	return pm_seek(6, k);
}

/* What a packet does to its connection: its direction, and flags of TCP. */
#define PM_DEED(dir, tcp_flags) ((__u32)(dir) << 8 | (tcp_flags))
#define PM_DEED_FLAGS 0xff

/* Attempts to find a connection's lines again that others move. */
#define PM_SEEKS 2

/* `k` is the packet's: by that the line is found again, if another packet moves it just now. */
pm_inline void pm_change_state(int family, __u32 index, __u32 word, __u32 deed, const struct pm_key *k, __u32 now)
{
	__u32 peer = PM_LOST, dir = deed >> 8, flags = deed & PM_DEED_FLAGS;

	for (int n = 0; n < PM_TRIES && (peer == PM_LOST || peer == PM_GONE); n++) {
		if (pm_unlikely(peer == PM_GONE)) {
			__u64 line = family == 4 ? pm_seek4(k) : pm_seek6(k);

			if (line == PM_NO_LINE)
				return;
			index = line >> 32;
			word = line;
		}
		peer = family == 4 ? pm_change_once4(index, word, dir, flags, now) :
				     pm_change_once6(index, word, dir, flags, now);
	}
	if (peer >= PM_GONE)
		return;
	for (int n = 0, seeks = 0; n < PM_TRIES; n++) {
		int left = family == 4 ? pm_copy_once4(index, peer) : pm_copy_once6(index, peer);

		if (pm_likely(!left))
			return;
		if (left == PM_ASTRAY) {
			__u64 line = seeks++ < PM_SEEKS ? (family == 4 ? pm_seek4(k) : pm_seek6(k)) : PM_NO_LINE;
			struct pm_conn *c = pm_line(family, line >> 32);

			if (!c)
				return;
			index = line >> 32;
			peer = pm_glance(pm_after(c, line)->peer);
		}
	}
}

PM_PART int pm_change_state4(__u32 index, __u32 word, __u32 deed, const struct pm_key *k, __u32 now)
{
	pm_change_state(4, index, word, deed, k, now);
	return 0;
}

PM_PART int pm_change_state6(__u32 index, __u32 word, __u32 deed, const struct pm_key *k, __u32 now)
{
	pm_change_state(6, index, word, deed, k, now);
	return 0;
}

/*
 * A timer is restarted when it moves by more than this, or by a sixty-fourth of itself: not every packet
 * writes to a line that others read.
 */
#define PM_RESTART_TICKS 32u
#define PM_RESTART_SHIFT 6

/*
 * Follows a packet in the line that was seen: new state, restarted timer. The later of a NAT connection's
 * timers counts, so that nearly every packet (an ACK of an established connection, a datagram) touches only
 * the line of its own direction.
 */
pm_inline void pm_follow(int family, const struct pm_settings *set, struct pm_conn *c, __u32 index,
			 const struct pm_conn *seen, enum pm_direction dir, const struct pm_packet *p, __u32 now)
{
	__u8 tcp_flags = p->tcp_flags;
	__u32 timeout, grain, until, word = seen->word, class = pm_class(word);
	__u64 head = pm_head_of(word, seen->expires);
	int settled;

	if (dir == PM_DIR_OUT)
		settled = class == PM_CONN_ANSWERED && !(word & PM_CONN_INPUT_ONLY);
	else
		settled = class == PM_CONN_ANSWERED ||
			  (class == PM_CONN_RETURNED && !(word & PM_CONN_INPUT_ONLY));
	if (pm_likely(settled && pm_is_quiet(seen->protocol, tcp_flags, pm_state(word)))) {
		timeout = pm_timeout_of(set, seen->protocol, pm_state(word));
		grain = timeout >> PM_RESTART_SHIFT;
		if (grain > PM_RESTART_TICKS)
			grain = PM_RESTART_TICKS;
		until = now + timeout;
		if (pm_likely(until - seen->expires <= grain) || pm_swap_head(c, head, pm_head_of(word, until)))
			return;
	}
	if (family == 4)
		pm_change_state4(index, word, PM_DEED(dir, tcp_flags), &p->key, now);
	else
		pm_change_state6(index, word, PM_DEED(dir, tcp_flags), &p->key, now);
}

/* Counts packets on their real server, in this CPU's record; how many there are now in that direction. */
pm_inline __u32 pm_account_some(__u32 real, __u32 packets, __u32 bytes, int reply)
{
	__u32 row = pm_cpu();
	struct pm_counters *n = pm_counters(real * pm_limits.cpus + row);

	if (!n)
		return 0;
	if (reply) {
		pm_count(row, &n->out_packets, packets);
		pm_count(row, &n->out_bytes, bytes);
		return n->out_packets;
	}
	pm_count(row, &n->in_packets, packets);
	pm_count(row, &n->in_bytes, bytes);
	return n->in_packets;
}

pm_inline __u32 pm_account(__u32 real, __u32 bytes, int reply)
{
	return pm_account_some(real, 1, bytes, reply);
}

/*
 * The same for whatever came. IPVS counts a datagram that came in fragments once, with the bytes of the whole: its
 * header is the first fragment's, a later one adds what it carries, and fragment headers are nobody's.
 */
pm_inline void pm_account_packet(int family, const struct pm_packet *p, __u32 real, int reply)
{
	__u32 bytes = p->ip_length;

	if (pm_unlikely(p->key.part)) {
		if (p->key.part == PM_PART_LATER)
			bytes -= p->l4 - PM_ETH_LEN;
		else if (family == 6)
			bytes -= sizeof(struct pm_ipv6_fragment);
	}
	pm_account_some(real, p->key.part != PM_PART_LATER, bytes, reply);
}
