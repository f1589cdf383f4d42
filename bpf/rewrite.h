/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What changes in a packet that is sent on: MAC addresses, TTL, and with NAT one address and port. */
#pragma once

#include "answer.h"
#include "sctp-rewrite.h"

/*
 * Ethernet padding ends with us, but for what fills up the shortest frame (`least`, PM_ETH_MIN): not every
 * driver pads frames of XDP by itself. Nothing stays (0) where another header will be put in front, since it
 * would stand inside the outer packet.
 */
pm_inline void pm_cut_padding(struct pm_frame *f, const struct pm_packet *p, __u32 least)
{
	__u32 length = p->ip_length + PM_ETH_LEN;

	if (length < least)
		length = least;
	if (f->length > length)
		pm_frame_trim(f, length);
}

/* MAC addresses of the next hop; the frame leaves by its interface. */
pm_inline int pm_address_frame(struct pm_frame *f, const struct pm_next_hop *way, __u16 ethertype)
{
	struct pm_eth *eth = (void *)f->data;

	if (f->data + PM_ETH_LEN > f->end)
		return -1;
	/* Both addresses as words: they stand side by side here and there. */
#pragma unroll
	for (int i = 0; i < 3; i++)
		pm_store32((__u8 *)eth + 4 * i, ((const pm_u32 *)way)[i]);
	eth->type = pm_htons(ethertype);
	f->ifindex = way->ifindex;
	return 0;
}

/* RFC 1812 §5.3.1: one off the TTL, and the header checksum after it. */
pm_inline int pm_decrement_ttl(struct pm_frame *f, int family)
{
	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);
		__u32 check;

		if ((__u8 *)(ip + 1) > f->end)
			return -1;
		ip->ttl--;
		/* RFC 1624 with only one byte changed, by one. */
		check = ip->check + pm_htons(1 << 8);
		ip->check = check + (check >= 0xffff);
	} else {
		struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f->end)
			return -1;
		ip->hops--;
		pm_bytes_changed(f, (__u16)~pm_htons(1));
	}
	return 0;
}

/* One side of a packet that NAT puts in place of another. */
struct pm_nat {
	const __be32 *addr; /* new; the family's words */
	__be16 port;	    /* new */
	__u8 source;	    /* 1: source of a reply, 0: destination of a request */
	__u8 decrement;	    /* 1: takes one off the TTL */
};

/*
 * Puts one address and port in place of another and updates the checksums by the difference
 * (RFC 1624): a wrong checksum stays wrong. UDP without a checksum gets one, as IPVS does.
 */
pm_inline enum pm_verdict pm_translate(struct pm_frame *f, const struct pm_packet *p, int family,
				       const struct pm_nat *nat)
{
	__be16 old_port = nat->source ? p->key.sport : p->key.dport;
	const __be32 *old = nat->source ? p->key.saddr : p->key.daddr;
	__u64 addr_change = 0, change;
	const __be32 *addr = nat->addr;
	__be16 *check = PM_NULL;

	pm_find_partial(f);
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			addr_change += pm_change32(old[i], addr[i]);
	change = addr_change + pm_change16(old_port, nat->port);

	if (p->key.part == PM_PART_LATER) {
		/* Its transport header is in the first one. */
	} else if (p->key.protocol == PM_PROTO_TCP) {
		struct pm_tcp *tcp = pm_l4(f, p, PM_TCP_LEN);

		if (!tcp)
			return PM_DROP_MAP;
		if (nat->source)
			tcp->sport = nat->port;
		else
			tcp->dport = nat->port;
		check = &tcp->check;
		if (f->flags & PM_JOB_PARTIAL_CSUM)
			*check = pm_fold(*check + addr_change);
		else
			*check = pm_csum_change(*check, change);
	} else if (pm_unlikely(p->key.protocol == PM_PROTO_SCTP)) {
		enum pm_verdict v = pm_translate_sctp(f->host, p->l4, PM_ETH_LEN + p->ip_length,
						      nat->port | (nat->source ? PM_SCTP_SOURCE : 0) |
							      (p->key.part ? PM_SCTP_FIRST_PART : 0) |
							      (family == 6 ? PM_SCTP_V6 : 0),
						      pm_fold(addr_change));

		if (v != PM_CONTINUE)
			return v;
		pm_frame_load(f);
	} else {
		struct pm_udp *udp = pm_l4(f, p, PM_UDP_LEN);
		__u32 length = p->ip_length + PM_ETH_LEN - p->l4;

		if (!udp)
			return PM_DROP_MAP;
		/* What a first fragment carries is not all that the sum is over: without one it stays. */
		if (!udp->check && !p->key.part) {
			if (pm_reach(f) < PM_ETH_LEN + p->ip_length)
				return PM_WANT_PAYLOAD;
			if (p->l4 + length > PM_SUM_MAX)
				return PM_DROP_CHECKSUM_LIMIT;
		}
		if (nat->source)
			udp->sport = nat->port;
		else
			udp->dport = nat->port;
		if (f->flags & PM_JOB_PARTIAL_CSUM) {
			udp->check = pm_fold(udp->check + addr_change);
		} else if (udp->check) {
			/* RFC 768: a result of zero is sent as all ones. */
			udp->check = pm_csum_change(udp->check, change) ?: 0xffff;
		} else if (!p->key.part) {
			__u64 sum = pm_sum(f, p->l4, length);

			sum += nat->source ?
				       pm_sum_pseudo(addr, p->key.daddr, family == 6 ? 4 : 1, PM_PROTO_UDP,
						     length) :
				       pm_sum_pseudo(p->key.saddr, addr, family == 6 ? 4 : 1, PM_PROTO_UDP,
						     length);
			udp = pm_l4(f, p, PM_UDP_LEN);
			if (!udp)
				return PM_DROP_MAP;
			udp->check = (__be16)~pm_fold(sum) ?: 0xffff;
		}
	}

	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f->end)
			return PM_DROP_MAP;
		/* The header's sum is what it was, and so is the transport part's with the pseudo header. */
		pm_bytes_changed(f, (__u16)~pm_fold(addr_change));
		if (nat->decrement) {
			__be16 *word = (__be16 *)&ip->ttl, was = *word;

			ip->ttl--;
			addr_change += pm_change16(was, *word);
		}
		ip->check = pm_csum_change(ip->check, addr_change);
		if (nat->source)
			ip->saddr = addr[0];
		else
			ip->daddr = addr[0];
	} else {
		struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f->end)
			return PM_DROP_MAP;
		if (nat->decrement) {
			ip->hops--;
			pm_bytes_changed(f, (__u16)~pm_htons(1));
		}
#pragma unroll
		for (int i = 0; i < 4; i++) {
			if (nat->source)
				ip->saddr[i] = addr[i];
			else
				ip->daddr[i] = addr[i];
		}
	}
	return PM_CONTINUE;
}

/*
 * NAT where the next interface takes no frame from this host: the translated packet goes to the stack, which
 * forwards it there, and takes one off the TTL itself. The FIB has said that forwarding is on.
 */
pm_inline enum pm_verdict pm_hand_over(struct pm_frame *f, const struct pm_packet *p, int family,
				       struct pm_nat *nat)
{
	enum pm_verdict v;

	nat->decrement = 0;
	v = pm_translate(f, p, family, nat);
	return v == PM_CONTINUE ? PM_PASS_EGRESS : v;
}
