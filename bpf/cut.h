/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fragments (RFC 791 §2.3, RFC 8200 §4.5) of packets of the kernel's stack that are larger than their path. A
 * program gets one packet and may send others only as copies of it: so it is put aside, becomes one fragment after
 * the other, and all but the last leave as copies.
 */
#pragma once

#include "host.h"

/* Frames that are cut: all that a program can make. */
#define PM_CUT_MAX 16384u
/* Bytes of a piece; one more than a mask, which Linux 6.1 wants to see. */
#define PM_CUT_PIECE_MAX 8192u
/* Smaller links than Ethernet's make no more of any of them. */
#define PM_CUT_PIECES 64u
/* Ethernet, and IPv4 with options; IPv6 with a fragment header is shorter. */
#define PM_CUT_FRONT (PM_ETH_LEN + 60)
#define PM_CUT_FRONT_MASK 127u

/* How, beside to what size: DF stays; bytes of the frame that all fragments have, and which of them names what is next. */
#define PM_CUT_KEEPS_DF 1u
#define PM_CUT_FRONT_SHIFT 8
#define PM_CUT_SAYS_SHIFT 16

/* The verifier reckons with the largest pieces, wherever they start. */
struct pm_cut_room {
	__u8 front[PM_CUT_FRONT_MASK + 1];
	__u8 frame[PM_CUT_MAX + PM_CUT_PIECE_MAX];
	/* Of a datagram that came in fragments (gather.h): where it is kept, and its bytes as a frame. */
	__u32 slot;
	__u32 whole;
};

PM_DEFINE_ROOM(cut_room, struct pm_cut_room)

struct pm_cutting {
	struct __sk_buff *skb;
	__u32 family;
	__u32 ifindex;
	__u32 front;   /* bytes of each fragment's frame before its piece of the payload */
	__u32 from;    /* where the payload starts in the frame that was put aside */
	__u32 payload; /* bytes */
	__u32 piece;   /* of all fragments but the last */
	__u32 first;   /* IPv4: the packet's own offset, in units */
	__u32 more;    /* IPv4: MF of the packet itself, and DF if that stays */
	__u32 sent;    /* all pieces are on their way, but for the one that the packet has become */
};

/* RFC 791 §3.1: options without the copied flag are the first fragment's only; others get "no operation". */
PM_PART int pm_cut_options(__u32 header)
{
	struct pm_cut_room *room = pm_cut_room();
	__u32 skip = 0, cleared = 0;

	if (!room)
		return 0;
	for (__u32 i = PM_ETH_LEN + PM_IPV4_LEN; i < PM_CUT_FRONT; i++) {
		__u8 kind = room->front[i];

		if (i >= PM_ETH_LEN + header)
			break;
		if (!skip) {
			if (!kind)
				break;
			skip = kind == 1 ? 1 : room->front[i + 1];
			cleared = !(kind & 0x80);
			/* What is malformed stays as it came, with all behind it (ip_options_fragment). */
			if (skip < (kind == 1 ? 1 : 2) || i + skip > PM_ETH_LEN + header)
				break;
		}
		if (cleared)
			room->front[i] = 1;
		skip--;
	}
	return 0;
}

/* The sum over the IPv4 header that stands there, of a frame with so many bytes before its payload. */
pm_inline __u64 pm_cut_header_sum(const struct pm_cut_room *room, __u32 front)
{
	const __u16 *word = (const __u16 *)(room->front + PM_ETH_LEN);
	__u64 sum = 0;

	for (__u32 i = 0; i < 30; i++) {
		if (i * 2 >= front - PM_ETH_LEN)
			break;
		sum += word[i];
	}
	return sum;
}

/* Offset and M (RFC 8200 §4.5) of the fragment header at `at`. */
pm_inline void pm_cut_offset(struct pm_cut_room *room, __u32 at, __u32 word)
{
	struct pm_ipv6_fragment *part;

	pm_opaque(at);
	part = (void *)(room->front + (at & PM_CUT_FRONT_MASK));
	part->offset = pm_htons(word);
}

/* What stands before a piece of the payload: the packet's own headers, or those and a fragment header. */
pm_inline void pm_cut_front(struct pm_cut_room *room, const struct pm_cutting *c, __u32 offset, __u32 bytes, __u32 more)
{
	if (c->family == 4) {
		struct pm_ipv4 *ip = (void *)(room->front + PM_ETH_LEN);

		ip->length = pm_htons(c->front - PM_ETH_LEN + bytes);
		ip->fragment = pm_htons((c->first + offset / 8) | c->more | (more ? PM_IPV4_MF : 0));
		ip->check = 0;
		ip->check = ~pm_fold(pm_cut_header_sum(room, c->front));
	} else {
		struct pm_ipv6 *ip = (void *)(room->front + PM_ETH_LEN);

		ip->payload = pm_htons(c->front - PM_ETH_LEN - PM_IPV6_LEN + bytes);
		pm_cut_offset(room, c->from, offset | !!more);
	}
}

static long pm_cut_piece(__u32 i, void *arg)
{
	struct pm_cutting *c = arg;
	struct pm_cut_room *room = pm_cut_room();
	__u32 offset = i * c->piece;
	__u64 bytes, from, front = c->front;
	int last;

	if (!room || offset >= c->payload)
		return 1;
	bytes = c->payload - offset;
	last = bytes <= c->piece;
	if (!last)
		bytes = c->piece;
	from = c->from + offset;
	pm_cut_front(room, c, offset, bytes, !last);
	if (bpf_skb_change_tail(c->skb, front + bytes, 0))
		return 1;
	pm_opaque(front);
	pm_opaque(bytes);
	pm_opaque(from);
	if (from > PM_CUT_MAX)
		return 1;
	/* As they are; and never none, as Linux 6.1 wants to see it. */
	front = ((front - 1) & PM_CUT_FRONT_MASK) + 1;
	bytes = ((bytes - 1) & (PM_CUT_PIECE_MAX - 1)) + 1;
	if (bpf_skb_store_bytes(c->skb, 0, room->front, front, BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(c->skb, front, room->frame + from, bytes, BPF_F_RECOMPUTE_CSUM))
		return 1;
	if (last) {
		c->sent = 1;
		return 1;
	}
	if (bpf_clone_redirect(c->skb, c->ifindex, 0))
		return 1;
	if (!i && c->family == 4)
		pm_cut_options(c->front - PM_ETH_LEN);
	return 0;
}

/* Reads the headers of the packet that is to be cut. Non-zero: it cannot be. */
pm_inline int pm_cut_read(struct pm_cut_room *room, struct pm_cutting *c, __u32 length, __u32 mtu, __u32 how)
{
	if ((room->frame[PM_ETH_LEN] >> 4) == 4) {
		struct pm_ipv4 *ip = (void *)(room->frame + PM_ETH_LEN);
		__u32 header = (ip->version_ihl & 15) * 4, word = pm_ntohs(ip->fragment);

		c->family = 4;
		c->front = c->from = PM_ETH_LEN + header;
		c->payload = pm_ntohs(ip->length) - header;
		c->first = word & PM_IPV4_OFFSET;
		c->more = word & (how & PM_CUT_KEEPS_DF ? PM_IPV4_MF | PM_IPV4_DF : PM_IPV4_MF);
		/* RFC 6864 §4.1: one that was not to be fragmented may have none. */
		if (!ip->id)
			ip->id = bpf_get_prandom_u32() | 1;
		__builtin_memcpy(room->front, room->frame, PM_CUT_FRONT);
	} else {
		struct pm_ipv6 *ip = (void *)(room->frame + PM_ETH_LEN);
		struct pm_ipv6_fragment *part;
		__u32 at = how >> PM_CUT_FRONT_SHIFT & 0xff, says = how >> PM_CUT_SAYS_SHIFT & PM_CUT_FRONT_MASK;

		if (!at) {
			at = PM_ETH_LEN + PM_IPV6_LEN;
			says = PM_ETH_LEN + __builtin_offsetof(struct pm_ipv6, next);
		}
		c->family = 6;
		c->from = at;
		c->front = at + sizeof(*part);
		c->payload = PM_ETH_LEN + PM_IPV6_LEN + pm_ntohs(ip->payload) - at;
		__builtin_memcpy(room->front, room->frame, PM_CUT_FRONT_MASK + 1);
		if (at > PM_CUT_FRONT_MASK + 1 - sizeof(*part))
			return -1;
		pm_opaque(at);
		part = (void *)(room->front + (at & PM_CUT_FRONT_MASK));
		part->next = room->front[says];
		part->length = 0;
		part->id = bpf_get_prandom_u32();
		room->front[says] = PM_PROTO_FRAGMENT;
	}
	if (c->from + c->payload > length || mtu + PM_ETH_LEN < c->front + 8)
		return -1;
	/* All but the last are of whole units. */
	c->piece = (mtu + PM_ETH_LEN - c->front) & ~7u;
	if (c->piece > PM_CUT_PIECE_MAX)
		c->piece = PM_CUT_PIECE_MAX;
	return c->payload > c->piece * PM_CUT_PIECES;
}

/*
 * Sends all of the packet but its last fragment by an interface, which is what it is afterwards. Non-zero: not all
 * of it has left.
 */
PM_PART int pm_cut(struct __sk_buff *skb, __u32 ifindex, __u32 mtu, __u32 how)
{
	struct pm_cut_room *room = pm_cut_room();
	struct pm_cutting c = { .skb = skb, .ifindex = ifindex };
	__u64 length = skb->len;

	if (!room || length > PM_CUT_MAX || length < PM_ETH_LEN + PM_IPV6_LEN)
		return -1;
	if (bpf_skb_load_bytes(skb, 0, room->frame, length) || pm_cut_read(room, &c, length, mtu, how))
		return -1;
	bpf_loop(PM_CUT_PIECES, pm_cut_piece, &c, 0);
	return !c.sent;
}
