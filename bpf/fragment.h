/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fragments. IPVS puts datagrams together, forwards them, and cuts them anew. So do the userspace plane, which can
 * keep fragments (PM_JOB_WAITS), and traffic control (gather.h), to which XDP leaves them. Where nobody can, and of
 * datagrams that are too large to be one packet, each fragment goes its way by itself: the first decides, since it
 * alone has ports, and leaves a note (struct pm_fragment) by which later ones are packets of the same connection. What
 * the real server's stack makes of them is the same datagram.
 */
#pragma once

#include "lookup.h"

/* Linux: net.ipv4.ipfrag_time. */
#define PM_FRAGMENT_TICKS 3577u /* 30 s */
/* A note whose writer has died (a worker that was killed) is free after this: longer than anybody stalls. */
#define PM_NOTE_CLAIM_TICKS 7152u /* 60 s */

/* Of a packet with a fragment header or offset: what it is of its datagram. */
struct pm_extent {
	__be32 id;
	__u32 first; /* offset in the datagram's payload */
	__u32 bytes;
	__u32 more;
	__u32 protocol; /* IPv6: the header that comes first in the datagram's payload */
};

/* The offset of the fragment header, 0 if there is none; `says` is that of the byte that names it. */
pm_inline __u32 pm_fragment_header(struct pm_frame *f, __u32 *says)
{
	struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);
	__u32 off = PM_ETH_LEN + PM_IPV6_LEN;
	__u8 next;

	if ((__u8 *)(ip + 1) > f->end)
		return 0;
	next = ip->next;
	*says = PM_ETH_LEN + __builtin_offsetof(struct pm_ipv6, next);
	for (int i = 0; i < PM_IPV6_EXTENSIONS; i++) {
		struct pm_ipv6_ext *ext;

		if (next == PM_PROTO_FRAGMENT)
			return off;
		if (next != PM_PROTO_HOPOPT && next != PM_PROTO_ROUTING && next != PM_PROTO_DSTOPTS)
			return 0;
		if (off > 512)
			return 0;
		ext = (void *)(f->data + off);
		if ((__u8 *)(ext + 1) > f->end)
			return 0;
		next = ext->next;
		*says = off;
		off += (ext->length + 1) * 8;
	}
	return next == PM_PROTO_FRAGMENT ? off : 0;
}

/* Reads the extent; non-zero if the headers are not in reach. */
pm_inline int pm_extent_of(struct pm_frame *f, int family, struct pm_extent *x)
{
	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);
		__u32 word;

		if ((__u8 *)(ip + 1) > f->end)
			return -1;
		word = pm_ntohs(ip->fragment);
		x->id = ip->id;
		x->first = (word & PM_IPV4_OFFSET) * 8;
		x->more = word & PM_IPV4_MF;
		x->bytes = pm_ntohs(ip->length) - (ip->version_ihl & 15) * 4;
		x->protocol = ip->protocol;
	} else {
		__u32 says, off = pm_fragment_header(f, &says), word;
		struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);
		struct pm_ipv6_fragment *part;

		if (!off || off > 1024 || (__u8 *)(ip + 1) > f->end)
			return -1;
		part = (void *)(f->data + off);
		if ((__u8 *)(part + 1) > f->end)
			return -1;
		word = pm_ntohs(part->offset);
		x->id = part->id;
		x->first = word & PM_IPV6_OFFSET;
		x->more = word & 1;
		x->protocol = part->next;
		x->bytes = PM_ETH_LEN + PM_IPV6_LEN + pm_ntohs(ip->payload) - off - sizeof(*part);
	}
	return 0;
}

/* What a note says, read while it had one owner. */
struct pm_noted {
	__u32 fate; /* as it stands there */
	__u16 first_end;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 pad;
};

#define PM_FATE_MASK 7u
#define PM_FATE_OWNER_SHIFT 3
#define PM_PROGRESS_BYTES 0x1ffffull
#define PM_PROGRESS_TOTAL_SHIFT 17
#define PM_PROGRESS_OWNER_SHIFT 34

pm_inline enum pm_fate pm_fate_of(__u32 word)
{
	return word & PM_FATE_MASK;
}

/* The owner of a note with this version or head, whatever it is written beside. */
pm_inline __u32 pm_note_owner(__u32 version)
{
	return version >> 1;
}

/* Its owner in the fate that stands in a note, as far as that has room for it. */
pm_inline __u32 pm_fate_word(__u32 version, enum pm_fate fate)
{
	return pm_note_owner(version) << PM_FATE_OWNER_SHIFT | fate;
}

/* A note's head: version, odd while it is written, and the time it is good until. */
pm_inline __u64 pm_note_head(const struct pm_fragment *n)
{
	return pm_glance(*(const pm_u64 *)n);
}

/*
 * Reads the note that `head` was read of: 1 if it is this datagram's, and was while it was read. RFC 8200 §4.5
 * leaves the protocol out, RFC 791 §2.3 does not.
 */
pm_inline int pm_look_note(const struct pm_fragment *n, __u64 head, int family, const struct pm_key *k, __be32 id,
			   struct pm_noted *seen)
{
	__u32 differs, any;

	if (head & 1)
		return 0;
	n = pm_after(n, head);
	differs = (pm_glance(n->saddr[0]) ^ k->saddr[0]) | (pm_glance(n->daddr[0]) ^ k->daddr[0]) |
		  (pm_glance(n->id) ^ id) | (pm_glance(n->family) ^ family);
	if (family == 6)
		differs |= (pm_glance(n->saddr[1]) ^ k->saddr[1]) | (pm_glance(n->saddr[2]) ^ k->saddr[2]) |
			   (pm_glance(n->saddr[3]) ^ k->saddr[3]) | (pm_glance(n->daddr[1]) ^ k->daddr[1]) |
			   (pm_glance(n->daddr[2]) ^ k->daddr[2]) | (pm_glance(n->daddr[3]) ^ k->daddr[3]);
	any = differs;
	any |= seen->protocol = pm_glance(n->protocol);
	any |= seen->first_end = pm_glance(n->first_end);
	any |= seen->sport = pm_glance(n->sport);
	any |= seen->dport = pm_glance(n->dport);
	any |= seen->fate = pm_glance(n->fate);
	if (differs || (family == 4 && seen->protocol != k->protocol))
		return 0;
	return pm_note_head(pm_after(n, any)) == head &&
	       pm_fate_word(head, pm_fate_of(seen->fate)) == seen->fate;
}

/* Another fate, if the note still has the one that was seen, and by that its owner. */
pm_inline int pm_change_fate(struct pm_fragment *n, __u32 seen, enum pm_fate fate)
{
	return pm_swap(&n->fate, seen, (seen & ~PM_FATE_MASK) | fate);
}

/* The first of the notes that a datagram may have. */
pm_inline __u32 pm_note_home(int family, const struct pm_settings *set, const struct pm_key *k, __be32 id)
{
	__u32 h = pm_mix(set->hash_seed, k->saddr[0]);

	h = pm_mix(h, k->daddr[0]);
	if (family == 6) {
		h = pm_mix(h, k->saddr[2]);
		h = pm_mix(h, k->saddr[3]);
		h = pm_mix(h, k->daddr[2]);
		h = pm_mix(h, k->daddr[3]);
	}
	h = pm_mix(h, id) * 0xC2B2AE35u;
	return (h ^ h >> 16) % (PM_FRAGMENTS / PM_NOTES) * PM_NOTES;
}

/* How well a note can be done without: 0 not at all. */
pm_inline __u32 pm_note_spare(const struct pm_fragment *n, __u64 head, __u32 now)
{
	__s32 left = (__u32)(head >> 32) - now;

	if (head & 1)
		return left < -(__s32)PM_NOTE_CLAIM_TICKS ? 0xffffffffu : 0;
	if (!head || left < 0)
		return 0xffffffffu;
	if (pm_fate_of(pm_read(n->fate)) == PM_FATE_DONE)
		return 0xfffffffeu;
	return left > (__s32)PM_FRAGMENT_TICKS ? 1 : PM_FRAGMENT_TICKS - left + 1;
}

/* Whether some rule or connection is about this address, at whatever port; hash as in pm_interests. */
pm_inline int pm_interests_anywhere(int family, const __be32 *addr)
{
	__u32 h = pm_mix(0x9E3779B9u, addr[0]), first;
	__u64 any = 0;

	if (family == 6) {
		h = pm_mix(h, addr[1]);
		h = pm_mix(h, addr[2]);
		h = pm_mix(h, addr[3]);
	}
	first = h % (PM_INTEREST_BITS / PM_INTEREST_LINE) * (PM_INTEREST_LINE / 64);
#pragma unroll
	for (__u32 i = 0; i < PM_INTEREST_LINE / 64; i++) {
		const __u64 *word = pm_interest(first + i);

		any |= word ? *word : 1;
	}
	return any != 0;
}

/* Ends of a packet that some rule or connection is about. */
#define PM_OUR_SOURCE 1u
#define PM_OUR_DESTINATION 2u

pm_inline __u32 pm_our_ends(int family, const struct pm_settings *set, const struct pm_key *k)
{
	if (!(set->flags & PM_SETTING_INTEREST))
		return PM_OUR_SOURCE | PM_OUR_DESTINATION;
	return (pm_interests_anywhere(family, k->saddr) ? PM_OUR_SOURCE : 0) |
	       (pm_interests_anywhere(family, k->daddr) ? PM_OUR_DESTINATION : 0);
}

/* Whether a first fragment that comes again is what its note says; what went nowhere is decided on anew. */
pm_inline int pm_note_stands(const struct pm_noted *seen)
{
	enum pm_fate fate = pm_fate_of(seen->fate);

	return fate == PM_FATE_FOLLOW || fate == PM_FATE_SPOILED;
}

/* Bits of a note's owner in a piece: what was decided of a packet is not to be written to another's note. */
#define PM_PIECE_INDEX 0x1fffu
#define PM_PIECE_OWNER_SHIFT 29
#define PM_PIECE_OWNER 7u
#define PM_PIECE_OWNER_LOW_SHIFT 4
#define PM_PIECE_OWNER_LOW 15u
#define PM_PIECE_OWNER_LOW_BITS 4

/* What pm_process needs to know of a fragment, and of the note with this head. */
pm_inline __u64 pm_piece(enum pm_part part, __u32 index, __u32 head, __u8 protocol, __be16 sport, __be16 dport)
{
	__u32 owner = pm_note_owner(head);

	return part | (owner & PM_PIECE_OWNER_LOW) << PM_PIECE_OWNER_LOW_SHIFT |
	       (__u32)protocol << PM_PIECE_PROTOCOL_SHIFT | index << PM_PIECE_NOTE_SHIFT |
	       (owner >> PM_PIECE_OWNER_LOW_BITS & PM_PIECE_OWNER) << PM_PIECE_OWNER_SHIFT |
	       (__u64)sport << PM_PIECE_SPORT_SHIFT | (__u64)dport << PM_PIECE_DPORT_SHIFT;
}

/* Whether a piece is of the datagram that a note with this fate is about, as far as it knows. */
pm_inline int pm_piece_is_of(__u64 piece, __u32 fate)
{
	__u32 owner = fate >> PM_FATE_OWNER_SHIFT;

	return !(((__u32)piece >> PM_PIECE_OWNER_LOW_SHIFT ^ owner) & PM_PIECE_OWNER_LOW) &&
	       !(((__u32)piece >> PM_PIECE_OWNER_SHIFT ^ owner >> PM_PIECE_OWNER_LOW_BITS) & PM_PIECE_OWNER);
}

/* What has come of a datagram, as one word. */
pm_inline pm_u64 *pm_note_progress(struct pm_fragment *n)
{
	return (pm_u64 *)&n->got;
}

/*
 * Another fragment of a datagram has come, of so many bytes: with its last gap filled it is done, and its
 * identification free. `fate` and `head` are those that were seen; `end`: of the last fragment, where the datagram
 * ends, else 0. A part: each of the notes that a datagram may have would be gone through with all of its attempts.
 */
PM_PART int pm_note_piece(__u32 index, __u32 fate, __u32 head, __u32 bytes, __u32 end)
{
	const __u64 owner = (__u64)pm_note_owner(head) << PM_PROGRESS_OWNER_SHIFT;
	struct pm_fragment *n = pm_fragments(index);

	if (!n)
		return 0;
	for (int i = 0; i < PM_TRIES; i++) {
		__u64 was = pm_read(*pm_note_progress(n)), got = (was & PM_PROGRESS_BYTES) + bytes;
		__u64 total = end ? end : was >> PM_PROGRESS_TOTAL_SHIFT & PM_PROGRESS_BYTES;

		if (was >> PM_PROGRESS_OWNER_SHIFT != owner >> PM_PROGRESS_OWNER_SHIFT)
			return 0;
		if (got > PM_PROGRESS_BYTES)
			got = PM_PROGRESS_BYTES;
		if (!pm_swap(pm_note_progress(n), was, owner | total << PM_PROGRESS_TOTAL_SHIFT | got))
			continue;
		if (total && got >= total && pm_fate_of(fate) == PM_FATE_FOLLOW)
			(void)pm_change_fate(n, fate, PM_FATE_DONE);
		break;
	}
	return 0;
}

/* A later fragment's verdict in bits 8-15, or a piece. One that comes again as a whole has been counted. */
pm_inline __u64 pm_follow_note(const struct pm_frame *f, __u32 index, __u32 head, const struct pm_noted *seen,
			       const struct pm_extent *x)
{
	struct pm_fragment *n = pm_fragments(index);

	if (!n)
		return PM_DROP_MAP << 8;
	switch (pm_fate_of(seen->fate)) {
	case PM_FATE_FOLLOW:
	case PM_FATE_DONE:
		break;
	case PM_FATE_PASS:
		return PM_PASS_FRAGMENT << 8;
	case PM_FATE_SPOILED:
		return PM_DROP_FRAGMENT_OVERLAP << 8;
	default:
		return PM_DROP_FRAGMENT_REFUSED << 8;
	}
	/* RFC 5722, and since 2018 Linux with IPv4 too: of a datagram whose fragments overlap nothing is taken. */
	if (x->first < seen->first_end) {
		(void)pm_change_fate(n, seen->fate, PM_FATE_SPOILED);
		return PM_DROP_FRAGMENT_OVERLAP << 8;
	}
	if (!(f->flags & PM_JOB_RESUMED))
		(void)pm_note_piece(index, seen->fate, head, x->bytes, x->more ? 0 : x->first + x->bytes);
	return pm_piece(PM_PART_LATER, index, head, seen->protocol, seen->sport, seen->dport);
}

/* A first fragment writes its datagram's note: its version, 0 if it could not. */
pm_inline __u32 pm_write_note(struct pm_fragment *n, __u64 head, int family, const struct pm_key *k,
			    const struct pm_extent *x, __u32 now)
{
	__u64 claimed = (head & 0xffffffff) | 1, until = (__u64)(now + PM_FRAGMENT_TICKS) << 32;
	__u32 version;

	if (head & 1)
		claimed = (__u32)(head + 2); /* left behind by a writer that has died */
	claimed |= (__u64)now << 32;
	if (!pm_swap((pm_u64 *)n, head, claimed))
		return 0;
	version = (__u32)claimed + 1;
	if (!version)
		version = 2;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		n->saddr[i] = family == 6 || !i ? k->saddr[i] : 0;
		n->daddr[i] = family == 6 || !i ? k->daddr[i] : 0;
	}
	n->id = x->id;
	n->sport = k->sport;
	n->dport = k->dport;
	n->protocol = k->protocol;
	n->family = family;
	n->first_end = x->bytes;
	pm_write(n->fate, pm_fate_word(version, PM_FATE_FOLLOW));
	pm_write(*pm_note_progress(n), (__u64)pm_note_owner(version) << PM_PROGRESS_OWNER_SHIFT | x->bytes);
	/* Who was held up for so long that the note was taken for abandoned has none. */
	return pm_swap((pm_u64 *)n, claimed, version | until) ? version : 0;
}

/*
 * Goes by the note of its datagram, or writes one: what pm_fragment answers. `ours`: which of its ends are about us.
 * A part, since it is the same whatever headers the packet has.
 */
pm_inline __u64 pm_by_note(PM_HOST *host, int family, const struct pm_key *k, const struct pm_extent *x, __u32 ours)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	__u32 now = pm_now(), home, spare = 0, spared = PM_NONE;
	struct pm_noted seen = {};
	struct pm_fragment *n;
	__u64 head;

	if (!set || !k || !x)
		return PM_DROP_MAP << 8;
	home = pm_note_home(family, set, k, x->id);
	for (__u32 i = 0; i < PM_NOTES; i++) {
		__u32 could;
		int same;

		n = pm_fragments(home + i);
		if (!n)
			return PM_DROP_MAP << 8;
		head = pm_note_head(n);
		could = pm_note_spare(n, head, now);
		same = could != 0xffffffffu && pm_look_note(n, head, family, k, x->id, &seen);
		if (same && x->first)
			return pm_follow_note(&f, home + i, head, &seen, x);
		if (same && pm_note_stands(&seen)) {
			/* The same once more, or another of the same extent, which is no news; or one that contradicts. */
			if (seen.first_end == x->bytes && seen.sport == k->sport && seen.dport == k->dport)
				return pm_piece(PM_PART_FIRST, home + i, head, k->protocol, k->sport,
						k->dport);
			if (seen.first_end != x->bytes)
				(void)pm_change_fate(n, seen.fate, PM_FATE_SPOILED);
			return PM_DROP_FRAGMENT_OVERLAP << 8;
		}
		if (could > spare || same) {
			spare = same ? 0xffffffffu : could;
			spared = home + i;
		}
	}
	/* A real server's answer must not leave untranslated; everything else may be the stack's. */
	if (x->first)
		return (ours == PM_OUR_SOURCE ? PM_DROP_FRAGMENT_EARLY : PM_PASS_FRAGMENT) << 8;
	n = pm_fragments(spared);
	if (!n)
		return PM_DROP_FRAGMENT_TABLE << 8;
	head = pm_note_head(n);
	home = pm_note_spare(n, head, now) ? pm_write_note(n, head, family, k, x, now) : 0;
	if (!home)
		return PM_DROP_FRAGMENT_TABLE << 8;
	return pm_piece(PM_PART_FIRST, spared, home, k->protocol, k->sport, k->dport);
}

PM_PART __u64 pm_by_note4(PM_HOST *host, const struct pm_key *k, const struct pm_extent *x, __u32 ours)
{
	return pm_by_note(host, 4, k, x, ours);
}

PM_PART __u64 pm_by_note6(PM_HOST *host, const struct pm_key *k, const struct pm_extent *x, __u32 ours)
{
	return pm_by_note(host, 6, k, x, ours);
}

/* Whether a datagram that starts with this header can be one of a virtual service's. */
pm_inline int pm_may_have_ports(__u32 protocol)
{
	return protocol == PM_PROTO_TCP || protocol == PM_PROTO_UDP || protocol == PM_PROTO_SCTP ||
	       protocol == PM_PROTO_DSTOPTS || protocol == PM_PROTO_ROUTING;
}

/*
 * Looks at a fragment: its verdict in bits 8-15 and no part, or what pm_process is to take it for. Of a first
 * fragment this is decided before it is sent on, so that a later one that another CPU has in hand finds it.
 */
pm_inline __u64 pm_fragment(PM_HOST *host, int family)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_settings *set = pm_settings(0);
	struct pm_packet p = {};
	struct pm_extent x = {};
	enum pm_verdict v;
	__u32 ours, waits;

	if (!set || pm_extent_of(&f, family, &x))
		return pm_short(&f, PM_PASS_FRAGMENT) << 8;
	waits = pm_can_wait(&f, set);
	/* A host that keeps fragments wants to know whose they are, and nothing of transport headers yet. */
	pm_take_piece(&p, x.first || (x.more && waits) ? PM_PART_LATER : PM_PART_FIRST);
	v = family == 4 ? pm_parse_ipv4(&f, &p) : pm_parse_ipv6(&f, &p);
	if (v == PM_WANT_PAYLOAD)
		return v << 8;
	/* RFC 791 §3.2, RFC 8200 §4.5: all but the last are of whole units, and no datagram is longer than its length says. */
	if ((x.more && (x.bytes & 7)) || !x.bytes || x.first + x.bytes > 65535)
		return PM_PASS_MALFORMED << 8;
	if (v == PM_DROP_FRAGMENT_SHORT) {
		/* Ports without flags and checksum: nobody sends that (RFC 1858 §3.1), and it cannot be translated. */
		if (!(set->flags & PM_SETTING_INTEREST) || pm_interests(family, p.key.daddr, p.key.dport) ||
		    pm_interests(family, p.key.saddr, p.key.sport))
			return PM_DROP_FRAGMENT_SHORT << 8;
		return PM_PASS_FRAGMENT << 8;
	}
	if (v != PM_CONTINUE)
		return (v == PM_PASS_MALFORMED ? v : PM_PASS_FRAGMENT) << 8;
	/* Datagrams that only pass by take no notes from others. */
	ours = pm_our_ends(family, set, &p.key);
	if (!ours)
		return PM_PASS_FRAGMENT << 8;
	/* RFC 6946: an atomic fragment is a whole packet. */
	if (!x.first && !x.more)
		return pm_piece(PM_PART_FIRST, PM_FRAGMENTS, 0, p.key.protocol, p.key.sport, p.key.dport);
	if (waits)
		return PM_WANT_DATAGRAM << 8;
	/* The first of such a datagram has passed, and left no note. */
	if (x.first && !pm_may_have_ports(x.protocol))
		return PM_PASS_FRAGMENT << 8;
	return family == 4 ? pm_by_note4(host, &p.key, &x, ours) : pm_by_note6(host, &p.key, &x, ours);
}

PM_PART __u64 pm_fragment4(PM_HOST *host)
{
	return pm_fragment(host, 4);
}

PM_PART __u64 pm_fragment6(PM_HOST *host)
{
	return pm_fragment(host, 6);
}

/* What became of a first fragment becomes of the others; those that follow one to the stack are translated, too. */
PM_PART int pm_note_fate(__u64 piece, __u32 verdict)
{
	struct pm_fragment *n = pm_fragments((__u32)piece >> PM_PIECE_NOTE_SHIFT & PM_PIECE_INDEX);

	if ((piece & PM_PIECE_PART) != PM_PART_FIRST || !n || verdict == PM_WANT_PAYLOAD || verdict == PM_WANT_CUT ||
	    verdict == PM_PASS_EGRESS || verdict == PM_PASS_LOCAL_NODE || (verdict >= PM_FORWARD_NAT && verdict < PM_ANSWER_PORT_UNREACHABLE))
		return 0;
	for (int i = 0; i < PM_TRIES; i++) {
		__u32 was = pm_glance(n->fate);

		if (!pm_piece_is_of(piece, was) ||
		    pm_change_fate(n, was, verdict < PM_FORWARD_NAT ? PM_FATE_PASS : PM_FATE_REFUSED))
			break;
	}
	return 0;
}
