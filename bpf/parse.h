/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Bytes to a packet: Ethernet, VLAN 0, IPv4 and IPv6, TCP, UDP and SCTP. Everything strange passes. */
#pragma once

#include "csum.h"
#include "sctp.h"

/* RFC 8200 §4.1 names six extension headers that may come in front of a transport header. */
#define PM_IPV6_EXTENSIONS 6

/* What a connection is found by, as in the packet. IPv4 uses the first word of an address. */
struct pm_key {
	__be32 saddr[4];
	__be32 daddr[4];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	/* Of the packet, and no part of the key: they stand here because there is room. */
	__u8 part; /* enum pm_part */
	union {
		__u8 turn;  /* enum pm_turn */
		__u16 tag; /* a template's, and part of its key: pm_conn.neighbour */
	};
};

enum pm_part {
	PM_PART_WHOLE = 0,
	PM_PART_FIRST = 1, /* a first fragment: it has the transport header, and not all of the payload */
	PM_PART_LATER = 2, /* ports, protocol and connection are those of the first one */
};

/*
 * What pm_process is told of a frame, and pm_parse takes for the ports of a fragment: the part in bits 0-1, the
 * packet's turn in 2-3 (choose.h), protocol in 8-15, the note in 16-31, ports in the high half. Of the note that is
 * its index and, from bit 13, three bits of its owner; four more are in 4-7 (fragment.h). Without a part no
 * fragments are taken.
 */
#define PM_PIECE_PART 3u
#define PM_PIECE_TURN_SHIFT 2
#define PM_PIECE_TURN 3u
#define PM_PIECE_PROTOCOL_SHIFT 8
#define PM_PIECE_NOTE_SHIFT 16
#define PM_PIECE_SPORT_SHIFT 32
#define PM_PIECE_DPORT_SHIFT 48

struct pm_packet {
	struct pm_key key;
	__u32 ip_length; /* bytes of the IP packet */
	__u16 l4;	 /* offset of the transport header in the frame */
	__u8 tcp_flags;	 /* SCTP: what it is (sctp.h); UDP: none */
	__u8 ttl;	 /* or hop limit */
};

#define PM_L4_MAX 1023u /* the verifier wants a bound; six extension headers of ours stay below */

/* The transport header at an offset, or NULL. `size` is a constant. */
pm_inline void *pm_l4_at(struct pm_frame *f, __u32 off, __u32 size)
{
	__u8 *h;

	if (off > PM_L4_MAX)
		return PM_NULL;
	/* The verifier of Linux 6.1 forgets the test when the number was kept on the stack: mask it once more. */
	pm_opaque(off);
	h = f->data + (off & PM_L4_MAX);
	return h + size <= f->end ? h : PM_NULL;
}

pm_inline void *pm_l4(struct pm_frame *f, const struct pm_packet *p, __u32 size)
{
	return pm_l4_at(f, p->l4, size);
}

/* A transport header that is cut short: of a first fragment the rest may follow, so its ports are read if there. */
pm_inline enum pm_verdict pm_parse_short(struct pm_frame *f, struct pm_packet *p, __u32 left)
{
	__be16 *port;

	if (p->key.part != PM_PART_FIRST || left < 4)
		return PM_PASS_MALFORMED;
	port = pm_l4(f, p, 4);
	if (!port)
		return pm_short(f, PM_PASS_MALFORMED);
	p->key.sport = port[0];
	p->key.dport = port[1];
	return PM_DROP_FRAGMENT_SHORT;
}

pm_inline enum pm_verdict pm_parse_l4(struct pm_frame *f, struct pm_packet *p)
{
	__u32 left = p->ip_length - (p->l4 - PM_ETH_LEN);

	if (p->key.protocol == PM_PROTO_TCP) {
		struct pm_tcp *tcp;

		/* IPVS wants 20 bytes and does not look at the data offset. */
		if (left < PM_TCP_LEN)
			return pm_parse_short(f, p, left);
		tcp = pm_l4(f, p, PM_TCP_LEN);
		if (!tcp)
			return pm_short(f, PM_PASS_MALFORMED);
		p->key.sport = tcp->sport;
		p->key.dport = tcp->dport;
		p->tcp_flags = tcp->flags;
		pm_frame_transport(f, p);
		return PM_CONTINUE;
	}
	if (p->key.protocol == PM_PROTO_UDP) {
		struct pm_udp *udp;

		if (left < PM_UDP_LEN)
			return pm_parse_short(f, p, left);
		udp = pm_l4(f, p, PM_UDP_LEN);
		if (!udp)
			return pm_short(f, PM_PASS_MALFORMED);
		p->key.sport = udp->sport;
		p->key.dport = udp->dport;
		p->tcp_flags = 0;
		pm_frame_transport(f, p);
		return PM_CONTINUE;
	}
	if (p->key.protocol == PM_PROTO_SCTP) {
		struct pm_sctp *sctp;
		__u32 flags;

		if (left < PM_SCTP_LEN)
			return pm_parse_short(f, p, left);
		sctp = pm_l4(f, p, PM_SCTP_LEN);
		if (!sctp)
			return pm_short(f, PM_PASS_MALFORMED);
		p->key.sport = sctp->sport;
		p->key.dport = sctp->dport;
		flags = pm_sctp_chunks(f->host, p->l4 + PM_SCTP_LEN, PM_ETH_LEN + p->ip_length);
		if (flags == PM_SCTP_UNREACHED)
			return PM_WANT_PAYLOAD;
		p->tcp_flags = flags;
		pm_frame_transport(f, p);
		return PM_CONTINUE;
	}
	if (p->key.protocol == PM_PROTO_ICMP || p->key.protocol == PM_PROTO_ICMPV6)
		return PM_PASS_ICMP;
	return PM_PASS_PROTOCOL;
}

/* What the packet is of its datagram; a later fragment has no transport header of its own, and these ports. */
pm_inline void pm_take_piece(struct pm_packet *p, __u64 piece)
{
	p->key.part = piece & PM_PIECE_PART;
	p->key.turn = piece >> PM_PIECE_TURN_SHIFT & PM_PIECE_TURN;
	p->key.protocol = piece >> PM_PIECE_PROTOCOL_SHIFT;
	p->key.sport = piece >> PM_PIECE_SPORT_SHIFT;
	p->key.dport = piece >> PM_PIECE_DPORT_SHIFT;
	p->tcp_flags = 0;
}

/* `p` comes zeroed, or with a piece taken: without one fragments are not read. */
pm_inline enum pm_verdict pm_parse_ipv4(struct pm_frame *f, struct pm_packet *p)
{
	struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);
	__u32 header;
	__u64 sum;

	if ((__u8 *)(ip + 1) > f->end)
		return PM_PASS_MALFORMED;
	/* RFC 791 §3.1: version 4; IHL counts 32-bit words and is never below 5. */
	header = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || header < PM_IPV4_LEN)
		return PM_PASS_MALFORMED;
	p->ip_length = pm_ntohs(ip->length);
	if (p->ip_length < header || p->ip_length + PM_ETH_LEN > f->length)
		return PM_PASS_MALFORMED;
	/*
	 * A router drops what fails the header checksum (RFC 1812 §5.2.2). We would repair it by an
	 * incremental update of a wrong value, which stays wrong, so look first.
	 */
	sum = pm_sum_ipv4(ip);
	p->l4 = PM_ETH_LEN + header;
	if (pm_unlikely(header > PM_IPV4_LEN)) {
		if (f->data + PM_ETH_LEN + 60 > f->end &&
		    f->data + PM_ETH_LEN + header > f->end)
			return pm_short(f, PM_PASS_MALFORMED);
		sum += pm_sum_plain(f, PM_ETH_LEN + PM_IPV4_LEN, header - PM_IPV4_LEN);
	}
	if (pm_fold(sum) != 0xffff)
		return PM_PASS_MALFORMED;
	if (!p->key.part && (ip->fragment & pm_htons(PM_IPV4_FRAGMENT)))
		return PM_PASS_FRAGMENT;
	p->key.saddr[0] = pm_load32((const __u8 *)ip + __builtin_offsetof(struct pm_ipv4, saddr));
	p->key.daddr[0] = pm_load32((const __u8 *)ip + __builtin_offsetof(struct pm_ipv4, daddr));
	p->key.protocol = ip->protocol;
	p->ttl = ip->ttl;
	if (p->key.part == PM_PART_LATER)
		return PM_CONTINUE;
	return pm_parse_l4(f, p);
}

pm_inline enum pm_verdict pm_parse_ipv6(struct pm_frame *f, struct pm_packet *p)
{
	struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);
	__u32 off = PM_ETH_LEN + PM_IPV6_LEN;
	__u8 next;

	if ((__u8 *)(ip + 1) > f->end)
		return PM_PASS_MALFORMED;
	if ((pm_ntohl(ip->flow) >> 28) != 6)
		return PM_PASS_MALFORMED;
	p->ip_length = PM_IPV6_LEN + pm_ntohs(ip->payload);
	if (p->ip_length + PM_ETH_LEN > f->length)
		return PM_PASS_MALFORMED;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		p->key.saddr[i] = ip->saddr[i];
		p->key.daddr[i] = ip->daddr[i];
	}
	p->ttl = ip->hops;
	next = ip->next;
	for (int i = 0; i < PM_IPV6_EXTENSIONS; i++) {
		struct pm_ipv6_ext *ext;

		if (next != PM_PROTO_HOPOPT && next != PM_PROTO_ROUTING && next != PM_PROTO_DSTOPTS &&
		    (next != PM_PROTO_FRAGMENT || !p->key.part))
			break;
		if (off > 512)
			return PM_PASS_PROTOCOL;
		ext = (void *)(f->data + off);
		if ((__u8 *)(ext + 1) > f->end)
			return pm_short(f, PM_PASS_MALFORMED);
		if (next == PM_PROTO_FRAGMENT) {
			off += sizeof(struct pm_ipv6_fragment);
			next = p->key.part == PM_PART_LATER ? PM_PROTO_NONE : ext->next;
		} else {
			off += (ext->length + 1) * 8;
			next = ext->next;
		}
		if (off - PM_ETH_LEN > p->ip_length)
			return PM_PASS_MALFORMED;
	}
	if (next == PM_PROTO_FRAGMENT)
		return PM_PASS_FRAGMENT;
	p->l4 = off;
	if (p->key.part == PM_PART_LATER)
		return PM_CONTINUE;
	p->key.protocol = next;
	return pm_parse_l4(f, p);
}

#ifndef PM_SKB
/*
 * IEEE 802.1Q: a tag with VLAN id 0 carries only a priority and is as good as none. Takes such tags
 * off, so that the IP header always starts at PM_ETH_LEN.
 */
pm_inline enum pm_verdict pm_parse_vlan(struct pm_frame *f)
{
	for (int i = 0; i < 2; i++) {
		struct pm_eth *eth = (void *)f->data;
		__u8 mac[12];

		if (f->data + PM_ETH_LEN + PM_VLAN_LEN > f->end)
			return PM_PASS_MALFORMED;
		if (eth->type != pm_htons(PM_ETHERTYPE_VLAN) && eth->type != pm_htons(PM_ETHERTYPE_QINQ))
			break;
		if (*(__be16 *)(f->data + PM_ETH_LEN) & pm_htons(PM_VLAN_ID))
			return PM_PASS_VLAN;
		__builtin_memcpy(mac, f->data, 12);
		if (pm_frame_move(f, PM_VLAN_LEN) || f->data + PM_ETH_LEN > f->end)
			return PM_PASS_VLAN;
		__builtin_memcpy(f->data, mac, 12);
	}
	return PM_CONTINUE;
}
#endif
