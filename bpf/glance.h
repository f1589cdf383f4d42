/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What this host's own stack sends is hardly ever of a service. A look at one end of a packet, where nearly all have
 * it, is enough to let the others go on, for a part of what finding out about them takes.
 */
#pragma once

#include "lookup.h"

pm_inline int pm_has_ports(__u8 protocol)
{
	return protocol == PM_PROTO_TCP || protocol == PM_PROTO_UDP || protocol == PM_PROTO_SCTP;
}

/* 0: no rule and no connection is about the packet's source, or destination; nothing else is certain. */
pm_inline int pm_glance_at(struct __sk_buff *skb, int family, int source)
{
	__u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end, *addr, *ports;
	__be32 words[4] = {};

	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(data + PM_ETH_LEN);

		ports = (__u8 *)(ip + 1);
		if (ports + 4 > end || ip->version_ihl != (4 << 4 | PM_IPV4_LEN / 4) ||
		    (ip->fragment & pm_htons(PM_IPV4_FRAGMENT)) || !pm_has_ports(ip->protocol))
			return 1;
		addr = source ? (__u8 *)&ip->saddr : (__u8 *)&ip->daddr;
	} else {
		struct pm_ipv6 *ip = (void *)(data + PM_ETH_LEN);

		ports = (__u8 *)(ip + 1);
		if (ports + 4 > end || !pm_has_ports(ip->next))
			return 1;
		addr = source ? (__u8 *)ip->saddr : (__u8 *)ip->daddr;
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			words[i] = pm_load32(addr + 4 * i);
	return pm_interests(family, words, *(__be16 *)(ports + (source ? 0 : 2)));
}

/* Whether the packet may be one that asks a service for something, or that answers. */
pm_inline int pm_concerns(struct __sk_buff *skb, const struct pm_settings *set, int asks, int answers)
{
	if (!(set->flags & PM_SETTING_INTEREST))
		return 1;
	if (skb->protocol == pm_htons(PM_ETHERTYPE_IPV4))
		return (asks && pm_glance_at(skb, 4, 0)) || (answers && pm_glance_at(skb, 4, 1));
	if (skb->protocol == pm_htons(PM_ETHERTYPE_IPV6))
		return (asks && pm_glance_at(skb, 6, 0)) || (answers && pm_glance_at(skb, 6, 1));
	return 0;
}
