/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What may start a connection, apart from there being a virtual service. */
#pragma once

#include "parse.h"
#include "lookup.h"

/*
 * Sources that no client can have (RFC 1812 §5.3.7), and the loopback address as destination (RFC 4291 §2.5.3): the
 * stack drops these packets.
 */
pm_inline int pm_martian(int family, const struct pm_key *k)
{
	__be32 a = k->saddr[0];

	if (family == 6) {
		/* multicast, and the loopback address */
		if ((a & pm_htonl(0xff000000)) == pm_htonl(0xff000000))
			return 1;
		if (!k->daddr[0] && !k->daddr[1] && !k->daddr[2] && k->daddr[3] == pm_htonl(1))
			return 1;
		return !a && !k->saddr[1] && !k->saddr[2] && k->saddr[3] == pm_htonl(1);
	}
	if (!a || a == 0xffffffffu || (a & pm_htonl(0xf0000000)) == pm_htonl(0xe0000000) ||
	    (a & pm_htonl(0xff000000)) == pm_htonl(0x7f000000))
		return 1;
	return pm_is_local4(a);
}

/* dataplane.md §3.1: may this packet start a connection? */
pm_inline int pm_may_start(const struct pm_settings *set, const struct pm_packet *p)
{
	if (p->key.protocol == PM_PROTO_UDP)
		return 1;
	if (p->tcp_flags & PM_TCP_RST)
		return 0;
	return (p->tcp_flags & PM_TCP_SYN) ||
	       (set->flags & (p->key.protocol == PM_PROTO_SCTP ? PM_SETTING_SLOPPY_SCTP : PM_SETTING_SLOPPY_TCP));
}

/* drop_packet: the first new connection, then every n-th. */
pm_inline int pm_defend(struct pm_settings *set)
{
	__u32 rate = set->drop_rate;

	if (pm_likely(!rate))
		return 0;
	return __sync_fetch_and_add(&set->drop_count, 1) % rate == 0;
}

#define PM_FTP_DATA_PORT 20

/* What this program has no code for yet: such a service is left to the stack, and named. */
pm_inline int pm_unsupported(const struct pm_service *service)
{
	return service->pe > PM_ENGINE_SIP;
}
