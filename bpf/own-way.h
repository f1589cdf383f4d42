/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What this host's own sockets send to its own addresses, on its way to `lo`: packets for virtual services are led to
 * the program, and so are the answers of real servers on this host to them. Everything else goes on as ever. Exact,
 * since whatever is led there and passed by the program comes to the stack by another interface than `lo`.
 */
#pragma once

#include "process.h"

#define PM_LOOPBACK_NET 0x7f000000

/* Addresses of this host that mean nothing elsewhere. */
pm_inline int pm_stays(int family, const struct pm_key *k)
{
	if (family == 4)
		return ((k->saddr[0] & pm_htonl(0xff000000)) == pm_htonl(PM_LOOPBACK_NET)) ||
		       ((k->daddr[0] & pm_htonl(0xff000000)) == pm_htonl(PM_LOOPBACK_NET));
	/* ::1, and link-local ones */
	return (!k->saddr[0] && !k->saddr[1] && !k->saddr[2]) ||
	       (k->saddr[0] & pm_htonl(0xffc00000)) == pm_htonl(0xfe800000);
}

/* Whether a live line has this key, or the one of what goes the other way. */
pm_inline int pm_is_known(int family, struct pm_settings *set, const struct pm_key *k)
{
	struct pm_place at = pm_place(family, set, k);
	__u32 index = 0;
	__u64 head;

	return pm_find(family, set, &at, k, &index, &head) != PM_NULL;
}

PM_PART int pm_is_known4(const struct pm_key *k)
{
	struct pm_settings *set = pm_settings(0);

	return set && k ? pm_is_known(4, set, k) : 0;
}

PM_PART int pm_is_known6(const struct pm_key *k)
{
	struct pm_settings *set = pm_settings(0);

	return set && k ? pm_is_known(6, set, k) : 0;
}

pm_inline void pm_turn_round(int family, const struct pm_key *k, struct pm_key *r)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (family == 6 || i == 0) {
			r->saddr[i] = k->daddr[i];
			r->daddr[i] = k->saddr[i];
		}
	}
	r->sport = k->dport;
	r->dport = k->sport;
	r->protocol = k->protocol;
}

pm_inline int pm_leads_to_service(PM_HOST *host, int family)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_frame f = pm_frame_open(host);
	struct pm_service *service;
	struct pm_packet p = {};
	struct pm_key turned = {};
	__u32 slot = 0;

	if (!set || f.data + PM_ETH_LEN > f.end)
		return 0;
	if ((family == 4 ? pm_parse_ipv4(&f, &p) : pm_parse_ipv6(&f, &p)) != PM_CONTINUE || pm_stays(family, &p.key))
		return 0;
	if ((set->flags & PM_SETTING_INTEREST) && !pm_interests(family, p.key.daddr, p.key.dport) &&
	    !((set->flags & PM_SETTING_ANSWERS) && pm_interests(family, p.key.saddr, p.key.sport)))
		return 0;
	if (family == 4 ? pm_is_known4(&p.key) : pm_is_known6(&p.key))
		return 1;
	service = pm_service_of(family, set, &p.key, f.ifindex, &slot);
	if (!service)
		return 0;
	if (service->port)
		return 1;
	/* A service of all ports is for the client's, too: what a real server on this host answers is no request. */
	pm_turn_round(family, &p.key, &turned);
	return family == 4 ? !pm_is_known4(&turned) : !pm_is_known6(&turned);
}

/* Where packets of sockets go. */
enum pm_own_way {
	PM_OWN_ON,     /* on, as ever */
	PM_OWN_SERVED, /* to the program */
	PM_OWN_BACK,   /* on, as the answer that it is too big by now */
	PM_OWN_LOST,   /* nowhere: too big, and nobody may be told */
};

/* The packet becomes the answer to it: a function of its own, or the compiler keeps half a pointer for later. */
PM_PART int pm_too_big4(PM_HOST *host, __u32 ip_length, __u32 mtu)
{
	struct pm_frame f = pm_frame_open(host);

	return pm_answer(&f, 4, ip_length, PM_ANSWER_TOO_BIG, mtu, 0) == PM_ANSWER_TOO_BIG ? PM_OWN_BACK :
											       PM_OWN_LOST;
}

PM_PART int pm_too_big6(PM_HOST *host, __u32 ip_length)
{
	struct pm_frame f = pm_frame_open(host);

	/* pm_own_limit */
	return pm_answer(&f, 6, ip_length, PM_ANSWER_TOO_BIG, PM_ICMPV6_MAX, 0) == PM_ANSWER_TOO_BIG ? PM_OWN_BACK :
													  PM_OWN_LOST;
}

/* The pair is narrower than `lo`, by whose MTU the sockets go. */
pm_inline enum pm_own_way pm_fit(PM_HOST *host, int family, __u32 mtu)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_packet p = {};

	if ((family == 4 ? pm_parse_ipv4(&f, &p) : pm_parse_ipv6(&f, &p)) != PM_CONTINUE)
		return PM_OWN_LOST;
	if (pm_likely(pm_wire_length(&f, &p) <= mtu))
		return PM_OWN_SERVED;
	if (!pm_unfragmentable(&f, family) || pm_skb_reach(host, host->len))
		return PM_OWN_LOST;
	return family == 4 ? pm_too_big4(host, p.ip_length, mtu) : pm_too_big6(host, p.ip_length);
}

PM_PART int pm_own_way4(PM_HOST *host, __u32 mtu)
{
	return pm_leads_to_service(host, 4) ? pm_fit(host, 4, mtu) : PM_OWN_ON;
}

PM_PART int pm_own_way6(PM_HOST *host, __u32 mtu)
{
	return pm_leads_to_service(host, 6) ? pm_fit(host, 6, mtu) : PM_OWN_ON;
}

pm_inline enum pm_own_way pm_own_way(PM_HOST *host, __u16 ethertype, __u32 mtu)
{
	const struct pm_settings *set = pm_settings(0);

	if (!set || !(set->flags & PM_SETTING_OWN))
		return PM_OWN_ON;
	if (ethertype == pm_htons(PM_ETHERTYPE_IPV4))
		return set->flags & PM_SETTING_V4 ? pm_own_way4(host, mtu) : PM_OWN_ON;
	if (ethertype == pm_htons(PM_ETHERTYPE_IPV6))
		return set->flags & PM_SETTING_V6 ? pm_own_way6(host, mtu) : PM_OWN_ON;
	return PM_OWN_ON;
}
