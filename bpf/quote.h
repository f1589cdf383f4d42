/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet that an ICMP error quotes: read as far as its ports, at whatever offset it stands. */
#pragma once

#include "tunnel.h"

#define PM_OFFSET_MAX 2047u

/* `size` bytes of the frame at an offset, or NULL. */
pm_inline void *pm_at_offset(struct pm_frame *f, __u32 off, __u32 size)
{
	__u8 *p;

	if (off > PM_OFFSET_MAX)
		return PM_NULL;
	/* The verifier forgets the test when the number was kept on the stack: mask it once more. */
	pm_opaque(off);
	p = f->data + (off & PM_OFFSET_MAX);
	return p + size <= f->end ? p : PM_NULL;
}

/* RFC 8200 §4.1 names six; a quote may have been cut and put together by anybody. */
#define PM_QUOTED_HEADERS 8

/*
 * The quoted packet at `quote`, in a frame whose packet ends at `end`: its key as it was sent, and the offset of
 * its ports; 0 if they are not there. A later fragment has none.
 */
pm_inline __u32 pm_read_quote(PM_HOST *host, int family, __u32 quote, __u32 end, struct pm_key *k)
{
	struct pm_frame f = pm_frame_open(host);
	__u32 ports;
	__be16 *port;

	if (!k)
		return 0;
	if (family == 4) {
		struct pm_ipv4 *ip = pm_at_offset(&f, quote, PM_IPV4_LEN);

		if (!ip || ip->version_ihl >> 4 != 4 || (ip->version_ihl & 15) < 5 ||
		    (ip->fragment & pm_htons(PM_IPV4_OFFSET)))
			return 0;
		k->saddr[0] = ip->saddr;
		k->daddr[0] = ip->daddr;
		k->protocol = ip->protocol;
		ports = quote + (ip->version_ihl & 15) * 4;
	} else {
		struct pm_ipv6 *ip = pm_at_offset(&f, quote, PM_IPV6_LEN);
		__u8 next;

		if (!ip || pm_ntohl(ip->flow) >> 28 != 6)
			return 0;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			k->saddr[i] = ip->saddr[i];
			k->daddr[i] = ip->daddr[i];
		}
		next = ip->next;
		ports = quote + PM_IPV6_LEN;
		for (int i = 0; i < PM_QUOTED_HEADERS; i++) {
			struct pm_ipv6_fragment *ext;

			if (next != PM_PROTO_HOPOPT && next != PM_PROTO_ROUTING && next != PM_PROTO_DSTOPTS &&
			    next != PM_PROTO_FRAGMENT && next != PM_PROTO_AH)
				break;
			ext = pm_at_offset(&f, ports, sizeof(*ext));
			if (!ext || ports + sizeof(*ext) > end)
				return 0;
			if (next == PM_PROTO_FRAGMENT) {
				if (ext->offset & pm_htons(PM_IPV6_OFFSET))
					return 0;
				ports += sizeof(*ext);
			} else if (next == PM_PROTO_AH) {
				ports += (ext->length + 2) * 4; /* RFC 4302 §2.2 */
			} else {
				ports += (ext->length + 1) * 8;
			}
			next = ext->next;
		}
		k->protocol = next;
	}
	if ((k->protocol != PM_PROTO_TCP && k->protocol != PM_PROTO_UDP && k->protocol != PM_PROTO_SCTP) ||
	    ports + 4 > end)
		return 0;
	port = pm_at_offset(&f, ports, 4);
	if (!port)
		return 0;
	k->sport = port[0];
	k->dport = port[1];
	return ports;
}

PM_PART __u32 pm_read_quote4(PM_HOST *host, __u32 quote, __u32 end, struct pm_key *k)
{
	return pm_read_quote(host, 4, quote, end, k);
}

PM_PART __u32 pm_read_quote6(PM_HOST *host, __u32 quote, __u32 end, struct pm_key *k)
{
	return pm_read_quote(host, 6, quote, end, k);
}

/* The key of packets that go the other way. */
pm_inline void pm_reverse_key(struct pm_key *k)
{
	__be16 port = k->sport;

	k->sport = k->dport;
	k->dport = port;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__be32 word = k->saddr[i];

		k->saddr[i] = k->daddr[i];
		k->daddr[i] = word;
	}
}

/* RFC 792, RFC 4443 §2.3: whether the sum over the message (IPv6: and the pseudo header) is right. */
pm_inline int pm_icmp_intact(struct pm_frame *f, int family, __u32 icmp, __u32 end)
{
	__u64 sum = 0;

	if (family == 6) {
		const struct pm_ipv6 *ip = (void *)(f->data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f->end)
			return 0;
		sum = pm_sum_pseudo(ip->saddr, ip->daddr, 4, PM_PROTO_ICMPV6, end - icmp);
	}
	return pm_fold(sum + pm_sum(f, icmp, end - icmp)) == 0xffff;
}
