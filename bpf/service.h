/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which virtual service a packet is for (dataplane.md §3.2). */
#pragma once

#include "gate.h"
#include "mark.h"

#define PM_FTP_PORT 21

/* Services that are not at the very port: slot, PM_NONE. */
pm_inline __u32 pm_find_wider(int family, const struct pm_key *k)
{
	struct pm_settings *set = pm_settings(0);
	__u32 slot = PM_NONE, port;

	if (!set || !k)
		return PM_NONE;
	port = pm_ntohs(k->dport);
	if ((set->flags & PM_SETTING_FTP) && k->protocol == PM_PROTO_TCP &&
	    (port == PM_FTP_DATA_PORT || port >= set->unprivileged_port) &&
	    pm_find_service(family, k->daddr, pm_htons(PM_FTP_PORT), k->protocol, &slot))
		return slot;
	if (set->flags & PM_SETTING_PORT0)
		(void)pm_find_service(family, k->daddr, 0, k->protocol, &slot);
	return slot;
}

PM_PART __u32 pm_find_wider4(const struct pm_key *k)
{
	return pm_find_wider(4, k);
}

PM_PART __u32 pm_find_wider6(const struct pm_key *k)
{
	return pm_find_wider(6, k);
}

/* The service at the address that this key is for, or NULL; its slot goes to *slot. */
pm_inline struct pm_service *pm_service_at(int family, const struct pm_settings *set, const struct pm_key *k,
					   __u32 *slot)
{
	struct pm_service *service = pm_find_service(family, k->daddr, k->dport, k->protocol, slot);

	if (service || !(set->flags & (PM_SETTING_PORT0 | PM_SETTING_FTP)))
		return service;
	*slot = family == 4 ? pm_find_wider4(k) : pm_find_wider6(k);
	return pm_services(*slot);
}

/* The same of a packet that was received there and may have a firewall mark. */
pm_inline struct pm_service *pm_service_of(int family, const struct pm_settings *set, const struct pm_key *k,
					   __u32 ifindex, __u32 *slot)
{
	struct pm_service *service = PM_NULL;

	if (pm_unlikely(set->flags & PM_SETTING_MARKS)) {
		*slot = family == 4 ? pm_marked4(k, ifindex) : pm_marked6(k, ifindex);
		service = pm_services(*slot);
	}
	return service ? service : pm_service_at(family, set, k, slot);
}
