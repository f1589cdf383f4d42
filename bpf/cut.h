/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fragments (RFC 791 §2.3, RFC 8200 §4.5) of packets of the kernel's stack that are larger than their path. A
 * program gets one packet and may send others only as copies of it: so it is put aside, becomes one fragment after
 * the other, and all but the last leave as copies.
 */
#pragma once

#include "host.h"

/* Frames that are cut: jumbo ones with the headers of a tunnel. */
#define PM_CUT_MAX 10240u
#define PM_CUT_MASK 16383u
/* Smaller links than Ethernet's make no more of any of them. */
#define PM_CUT_PIECES 64u
/* Ethernet, and IPv4 with options; IPv6 with a fragment header is shorter. */
#define PM_CUT_FRONT (PM_ETH_LEN + 60)
#define PM_CUT_FRONT_MASK 127u

/* A packet is one CPU's while the program runs. The verifier reckons with pieces as large as the mask allows, wherever they start. */
struct pm_cut_room {
	__u8 front[PM_CUT_FRONT_MASK + 1];
	__u8 frame[PM_CUT_MAX + PM_CUT_MASK + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pm_cut_room);
} cut_room SEC(".maps");

struct pm_cutting {
	struct __sk_buff *skb;
	__u32 family;
	__u32 ifindex;
	__u32 front;   /* bytes of each fragment's frame before its piece of the payload */
	__u32 from;    /* where the payload starts in the frame that was put aside */
	__u32 payload; /* bytes */
	__u32 piece;   /* of all fragments but the last */
	__u32 first;   /* IPv4: the packet's own offset, in units */
	__u32 more;    /* IPv4: MF of the packet itself */
	__u32 sent;    /* all pieces are on their way, but for the one that the packet has become */
};

pm_inline struct pm_cut_room *pm_cut_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cut_room, &zero);
}

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

/* What stands before a piece of the payload: the packet's own headers, or those and a fragment header. */
pm_inline void pm_cut_front(struct pm_cut_room *room, const struct pm_cutting *c, __u32 offset, __u32 bytes, __u32 more)
{
	if (c->family == 4) {
		struct pm_ipv4 *ip = (void *)(room->front + PM_ETH_LEN);
		__u16 *word = (__u16 *)ip;
		__u64 sum = 0;

		ip->length = pm_htons(c->front - PM_ETH_LEN + bytes);
		ip->fragment = pm_htons((c->first + offset / 8) | (more || c->more ? PM_IPV4_MF : 0));
		ip->check = 0;
		for (__u32 i = 0; i < 30; i++) {
			if (i * 2 >= c->front - PM_ETH_LEN)
				break;
			sum += word[i];
		}
		ip->check = ~pm_fold(sum);
	} else {
		struct pm_ipv6 *ip = (void *)(room->front + PM_ETH_LEN);
		struct pm_ipv6_fragment *part = (void *)(ip + 1);

		ip->payload = pm_htons(sizeof(*part) + bytes);
		part->offset = pm_htons(offset | !!more);
	}
}

static long pm_cut_piece(__u32 i, void *arg)
{
	struct pm_cutting *c = arg;
	struct pm_cut_room *room = pm_cut_room();
	__u32 offset = i * c->piece, bytes, from, front = c->front;
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
	bytes = ((bytes - 1) & PM_CUT_MASK) + 1;
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
pm_inline int pm_cut_read(struct pm_cut_room *room, struct pm_cutting *c, __u32 length, __u32 mtu)
{
	if ((room->frame[PM_ETH_LEN] >> 4) == 4) {
		struct pm_ipv4 *ip = (void *)(room->frame + PM_ETH_LEN);
		__u32 header = (ip->version_ihl & 15) * 4, word = pm_ntohs(ip->fragment);

		c->family = 4;
		c->front = c->from = PM_ETH_LEN + header;
		c->payload = pm_ntohs(ip->length) - header;
		c->first = word & PM_IPV4_OFFSET;
		c->more = word & PM_IPV4_MF;
		/* RFC 6864 §4.1: one that was not to be fragmented may have none. */
		if (!ip->id)
			ip->id = bpf_get_prandom_u32() | 1;
		__builtin_memcpy(room->front, room->frame, PM_CUT_FRONT);
	} else {
		struct pm_ipv6 *ip = (void *)(room->frame + PM_ETH_LEN);
		struct pm_ipv6_fragment *part;

		c->family = 6;
		c->from = PM_ETH_LEN + PM_IPV6_LEN;
		c->front = c->from + sizeof(*part);
		c->payload = pm_ntohs(ip->payload);
		__builtin_memcpy(room->front, room->frame, PM_ETH_LEN + PM_IPV6_LEN);
		ip = (void *)(room->front + PM_ETH_LEN);
		part = (void *)(ip + 1);
		part->next = ip->next;
		part->length = 0;
		part->id = bpf_get_prandom_u32();
		ip->next = PM_PROTO_FRAGMENT;
	}
	if (c->from + c->payload > length || mtu + PM_ETH_LEN < c->front + 8)
		return -1;
	/* All but the last are of whole units. */
	c->piece = (mtu + PM_ETH_LEN - c->front) & ~7u;
	return c->payload > c->piece * PM_CUT_PIECES;
}

/*
 * Sends all of the packet but its last fragment by an interface, which is what it is afterwards. Non-zero: not all
 * of it has left.
 */
PM_PART int pm_cut(struct __sk_buff *skb, __u32 ifindex, __u32 mtu)
{
	struct pm_cut_room *room = pm_cut_room();
	struct pm_cutting c = { .skb = skb, .ifindex = ifindex };
	__u32 length = skb->len;

	if (!room || length > PM_CUT_MAX || length < PM_ETH_LEN + PM_IPV6_LEN)
		return -1;
	if (bpf_skb_load_bytes(skb, 0, room->frame, length) || pm_cut_read(room, &c, length, mtu))
		return -1;
	bpf_loop(PM_CUT_PIECES, pm_cut_piece, &c, 0);
	return !c.sent;
}
