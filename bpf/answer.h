/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP errors that the director sends: the received frame becomes the answer. To a client the source is
 * the virtual address it spoke to (RFC 1122 §3.2.2, as the kernel does for packets to itself); to a NAT
 * real server, which spoke to a client, it is the director's own address.
 */
#pragma once

#include "answer-limit.h"
#include "next-hop.h"

#define PM_ICMP_UNREACHABLE 3
#define PM_ICMP_UNREACHABLE_HOST 1
#define PM_ICMP_UNREACHABLE_PORT 3
#define PM_ICMP_FRAG_NEEDED 4
#define PM_ICMP_TIME_EXCEEDED 11
#define PM_ICMPV6_UNREACHABLE 1
#define PM_ICMPV6_UNREACHABLE_ADDRESS 3
#define PM_ICMPV6_UNREACHABLE_PORT 4
#define PM_ICMPV6_TOO_BIG 2
#define PM_ICMPV6_TIME_EXCEEDED 3

/* RFC 1812 §4.3.2.3: at most 576 bytes; RFC 4443 §2.4(c): at most the minimum MTU, 1280. */
#define PM_ICMP_MAX 576
#define PM_ICMPV6_MAX 1280
#define PM_ICMP_TOS 0xc0 /* precedence internetwork control (RFC 1812 §4.3.2.5) */
#define PM_ANSWER_TTL 64

/* A CPU takes its share of the budget in pieces of this part of it. */
#define PM_BUDGET_PIECES 64

/*
 * RFC 1812 §4.3.2.8: the rate of errors is limited; 0 leaves it open. Path MTU discovery is not: without
 * "too big" connections hang (Linux exempts it too). Each CPU takes pieces of the budget, and once it is
 * used up only reads. What one destination may not have takes nothing of it from the others: that is who sent
 * the packet whose IP header is at `at`.
 */
PM_PART int pm_answer_allowed(PM_HOST *host, __u32 family, __u32 at, __u32 why, __u32 now)
{
	__u32 row = pm_cpu();
	struct pm_cpu_state *mine = pm_cpus(row);
	struct pm_settings *set = pm_settings(0);
	__u32 budget, second = now >> 7; /* 1.07 s */

	if (!set)
		return 0;
	budget = set->icmp_per_second;
	if (why == PM_ANSWER_TOO_BIG)
		return 1;
	if (!pm_may_tell(host, family, at, now))
		return 0;
	if (!budget)
		return 1;
	if (!mine)
		return 0;
	/* A share that several CPUs took from could be taken twice. */
	if (!pm_is_shared(row) && mine->icmp_second == second && mine->icmp_left) {
		mine->icmp_left--;
		return 1;
	}
	for (int n = 0; n < PM_TRIES; n++) {
		__u64 was = pm_read(set->icmp_budget);
		__u32 given = was, piece = pm_is_shared(row) ? 1 : budget / PM_BUDGET_PIECES + 1;

		/* A CPU whose clock is a tick behind takes of the second that others have begun. */
		if ((__s32)(second - (__u32)(was >> 32)) > 0)
			given = 0;
		else
			second = was >> 32;
		if (given >= budget)
			return 0;
		if (piece > budget - given)
			piece = budget - given;
		if (!pm_swap(&set->icmp_budget, was, (__u64)second << 32 | (given + piece)))
			continue;
		if (pm_is_shared(row))
			return 1;
		mine->icmp_second = second;
		mine->icmp_left = piece - 1;
		return 1;
	}
	return 0;
}

/*
 * Addresses the frame for its way back to the sender: where the FIB says, else to where it came from. The
 * source will be that of the record `to` in reals, or with PM_NONE the address that the packet was for.
 * Returns the interface it leaves by, 0 if the frame is too short.
 */
pm_inline __u32 pm_turn(PM_HOST *host, int family, __u32 to)
{
	const struct pm_real *real = pm_reals(to);
	struct pm_frame f = pm_frame_open(host);
	struct pm_fib q = {};
	struct pm_eth *eth = (void *)f.data;

	if (f.data + PM_ETH_LEN + PM_IPV6_LEN > f.end &&
	    (family == 6 || f.data + PM_ETH_LEN + PM_IPV4_LEN > f.end))
		return 0;
	pm_copy_mac(q.dmac, eth->src);
	pm_copy_mac(q.smac, eth->dst);
	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f.data + PM_ETH_LEN);

		*(__be32 *)q.saddr = real ? *(const __be32 *)real->source : ip->daddr;
		*(__be32 *)q.daddr = ip->saddr;
		q.protocol = PM_PROTO_ICMP;
	} else {
		struct pm_ipv6 *ip = (void *)(f.data + PM_ETH_LEN);

		pm_fib_addresses(&q, 6, real ? (const __be32 *)real->source : ip->daddr, ip->saddr);
		q.protocol = PM_PROTO_ICMPV6;
	}
	q.family = family;
	q.ifindex = f.ifindex;
	if (pm_host_fib(host, &q) != PM_FIB_OK)
		q.ifindex = f.ifindex;
	pm_copy_mac(eth->dst, q.dmac);
	pm_copy_mac(eth->src, q.smac);
	return q.ifindex;
}

PM_PART __u32 pm_turn4(PM_HOST *host, __u32 to)
{
	return pm_turn(host, 4, to);
}

PM_PART __u32 pm_turn6(PM_HOST *host, __u32 to)
{
	return pm_turn(host, 6, to);
}

/* Makes room in front of the quote, and takes the MAC addresses along. Non-zero when there is none. */
pm_inline int pm_make_room(struct pm_frame *f, __u32 quote, int room)
{
	__u16 mac[PM_ETH_LEN / 2];

	if (f->data + PM_ETH_LEN > f->end || pm_reach(f) < PM_ETH_LEN + quote)
		return -1;
#pragma unroll
	for (int i = 0; i < PM_ETH_LEN / 2; i++)
		mac[i] = ((const __u16 *)f->data)[i];
	if (pm_frame_trim(f, PM_ETH_LEN + quote) || pm_frame_move(f, -room) ||
	    f->data + PM_ETH_LEN > f->end)
		return -1;
#pragma unroll
	for (int i = 0; i < PM_ETH_LEN / 2; i++)
		((__u16 *)f->data)[i] = mac[i];
	return 0;
}

/*
 * Turns the frame into the error `what` (type in bits 8-15, code below). The packet must still be as it
 * came, apart from a TTL that was taken down; `to` as in pm_turn. Non-zero if it could not be built.
 */
PM_PART int pm_answer4(PM_HOST *host, __u32 ip_length, __u32 what, __u32 mtu, __u32 to)
{
	const int room = PM_IPV4_LEN + PM_ICMP_LEN;
	__u32 quote = ip_length < PM_ICMP_MAX - room ? ip_length : PM_ICMP_MAX - room;
	const struct pm_real *real = pm_reals(to);
	struct pm_frame f = pm_frame_open(host);
	struct pm_ipv4 *ip, *quoted;
	__u32 now = pm_now();
	struct pm_icmp *icmp;
	__u64 sum;

	if (pm_make_room(&f, quote, room) || f.data + PM_ETH_LEN + room + PM_IPV4_LEN > f.end)
		return -1;
	ip = (void *)(f.data + PM_ETH_LEN);
	icmp = (void *)(ip + 1);
	quoted = (void *)(icmp + 1);
	ip->version_ihl = 0x45;
	ip->tos = PM_ICMP_TOS;
	ip->length = pm_htons(room + quote);
	ip->id = (now * 0x9E37u) ^ (now >> 9) ^ quoted->saddr; /* RFC 6864: the packet may be fragmented */
	ip->fragment = 0;
	ip->ttl = PM_ANSWER_TTL;
	ip->protocol = PM_PROTO_ICMP;
	ip->check = 0;
	ip->saddr = real ? *(const __be32 *)real->source : quoted->daddr;
	ip->daddr = quoted->saddr;
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	icmp->type = what >> 8;
	icmp->code = what;
	icmp->check = 0;
	icmp->unused = 0;
	icmp->mtu = pm_htons(mtu);
	sum = pm_sum(&f, PM_ETH_LEN + PM_IPV4_LEN, PM_ICMP_LEN + quote);
	if (f.data + PM_ETH_LEN + room > f.end)
		return -1;
	icmp = (void *)(f.data + PM_ETH_LEN + PM_IPV4_LEN);
	icmp->check = ~pm_fold(sum);
	return 0;
}

PM_PART int pm_answer6(PM_HOST *host, __u32 ip_length, __u32 what, __u32 mtu, __u32 to)
{
	const int room = PM_IPV6_LEN + PM_ICMP_LEN;
	__u32 quote = ip_length < PM_ICMPV6_MAX - room ? ip_length : PM_ICMPV6_MAX - room;
	const struct pm_real *real = pm_reals(to);
	struct pm_frame f = pm_frame_open(host);
	struct pm_ipv6 *ip, *quoted;
	struct pm_icmp *icmp;
	__u64 sum;

	if (pm_make_room(&f, quote, room) || f.data + PM_ETH_LEN + room + PM_IPV6_LEN > f.end)
		return -1;
	ip = (void *)(f.data + PM_ETH_LEN);
	icmp = (void *)(ip + 1);
	quoted = (void *)(icmp + 1);
	ip->flow = pm_htonl(0x60000000);
	ip->payload = pm_htons(PM_ICMP_LEN + quote);
	ip->next = PM_PROTO_ICMPV6;
	ip->hops = PM_ANSWER_TTL;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		ip->saddr[i] = real ? ((const __be32 *)real->source)[i] : quoted->daddr[i];
		ip->daddr[i] = quoted->saddr[i];
	}
	icmp->type = what >> 8;
	icmp->code = what;
	icmp->check = 0;
	icmp->unused = 0;
	icmp->mtu = pm_htons(mtu);
	/* RFC 4443 §2.3: the checksum covers the pseudo header too. */
	sum = pm_sum_pseudo(ip->saddr, ip->daddr, 4, PM_PROTO_ICMPV6, PM_ICMP_LEN + quote);
	sum += pm_sum(&f, PM_ETH_LEN + PM_IPV6_LEN, PM_ICMP_LEN + quote);
	if (f.data + PM_ETH_LEN + room > f.end)
		return -1;
	icmp = (void *)(f.data + PM_ETH_LEN + PM_IPV6_LEN);
	icmp->check = ~pm_fold(sum);
	return 0;
}

/* What a failed packet is answered with; the verdict names the reason. `to` as in pm_turn. */
pm_inline enum pm_verdict pm_answer_as(struct pm_frame *f, int family, __u32 ip_length, enum pm_verdict why, __u16 mtu, __u32 now, __u32 to)
{
	__u32 what, ifindex;

	/* The whole quote must be in reach to be summed. */
	if (pm_reach(f) < f->length)
		return PM_WANT_PAYLOAD;
	if (!pm_answer_allowed(f->host, family, PM_ETH_LEN, why, now))
		return PM_DROP_ANSWER_LIMIT;
	switch (why) {
	case PM_ANSWER_TIME_EXCEEDED:
		what = family == 4 ? PM_ICMP_TIME_EXCEEDED << 8 : PM_ICMPV6_TIME_EXCEEDED << 8;
		break;
	case PM_ANSWER_TOO_BIG:
		what = family == 4 ? PM_ICMP_UNREACHABLE << 8 | PM_ICMP_FRAG_NEEDED : PM_ICMPV6_TOO_BIG << 8;
		break;
	case PM_ANSWER_HOST_UNREACHABLE:
		what = family == 4 ? PM_ICMP_UNREACHABLE << 8 | PM_ICMP_UNREACHABLE_HOST :
				     PM_ICMPV6_UNREACHABLE << 8 | PM_ICMPV6_UNREACHABLE_ADDRESS;
		break;
	default:
		what = family == 4 ? PM_ICMP_UNREACHABLE << 8 | PM_ICMP_UNREACHABLE_PORT :
				     PM_ICMPV6_UNREACHABLE << 8 | PM_ICMPV6_UNREACHABLE_PORT;
		break;
	}
	ifindex = family == 4 ? pm_turn4(f->host, to) : pm_turn6(f->host, to);
	if (!ifindex || (family == 4 ? pm_answer4(f->host, ip_length, what, mtu, to) :
				       pm_answer6(f->host, ip_length, what, mtu, to)))
		return PM_DROP_ANSWER_FAILED;
	pm_frame_load(f);
	f->ifindex = ifindex;
	return why;
}

/* The same to a client: from the address that its packet was for. */
pm_inline enum pm_verdict pm_answer(struct pm_frame *f, int family, __u32 ip_length, enum pm_verdict why, __u16 mtu, __u32 now)
{
	return pm_answer_as(f, family, ip_length, why, mtu, now, PM_NONE);
}
