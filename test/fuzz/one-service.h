/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A director with one virtual service and one real server in native memory, and packets for it. Who includes
 * this may have said before what happens between any two looks at shared memory (PM_STEP).
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bpf/pointsman.native.c"

#define VIP 0xc0000264u
#define REAL 0x0a00020au
#define OTHER_REAL (REAL + 1) /* of index 1, in no schedule */
#define CLIENT 0x0b000001u
#define OURS 0x0a000205u /* full NAT's */
/* Who includes this may have more of them: real servers without a record, until it gives them one. */
#ifndef REALS
#define REALS 2
#define MEMBERS 16
#endif
enum { LINES = 256, BUCKETS = 4, CLIENTS_WIRE = 2, SERVERS_WIRE = 3, NOW = 5000 };

static uint8_t frame[512];
static uint32_t frame_at = 128; /* where the next one is made: another CPU has its own */
static uint8_t ttl = 64;
static uint32_t now = NOW;

static __u32 fib(struct pm_fib *q)
{
	q->ifindex = SERVERS_WIRE;
	memset(q->dmac, 0x22, 6);
	memset(q->smac, 0x21, 6);
	q->mtu = 1500;
	return PM_FIB_OK;
}

/* The live line from here to there, PM_NONE; how many there are goes to *count. */
static inline uint32_t line_of(uint32_t saddr, uint32_t daddr, uint32_t *count)
{
	uint32_t found = PM_NONE;

	*count = 0;
	for (uint32_t i = 0; i < LINES; i++) {
		const struct pm_conn4 *c = (void *)pm_line(4, i);

		if (!pm_is_live(c->c.word) || c->saddr != pm_htonl(saddr) || c->daddr != pm_htonl(daddr))
			continue;
		found = i;
		++*count;
	}
	return found;
}

/* Empty tables, a service of this protocol on port 80, its real server. */
static void begin_as(uint8_t protocol, uint8_t method, uint32_t seed)
{
	static const size_t sizes[] = {
#define PM_SIZE(name, record, size) sizeof(record),
		PM_MAPS(PM_SIZE)
	};
	uint32_t entries[PM_REGIONS] = {
		[PM_REGION_settings] = 1,     [PM_REGION_interfaces] = PM_INTERFACES,
		[PM_REGION_services] = 1,     [PM_REGION_service_index] = BUCKETS,
		[PM_REGION_schedules] = 2,    [PM_REGION_members] = MEMBERS,
		[PM_REGION_reals] = REALS,    [PM_REGION_live] = REALS,
		[PM_REGION_counters] = REALS,     [PM_REGION_connections4] = LINES,
		[PM_REGION_connections6] = PM_WAYS, [PM_REGION_verdicts] = PM_VERDICT_MAX,
		[PM_REGION_locals] = PM_LOCALS, [PM_REGION_interest] = PM_INTEREST_WORDS,
		[PM_REGION_nat_index] = BUCKETS, [PM_REGION_cpus] = 1,
		[PM_REGION_hops] = REALS, [PM_REGION_neighbours] = PM_NEIGHBOURS,
		[PM_REGION_full_nat] = 2 * PM_FULL_NATS,
		[PM_REGION_controls4] = LINES / PM_WAYS, [PM_REGION_fragments] = PM_FRAGMENTS,
		[PM_REGION_gates] = 1, [PM_REGION_sources] = PM_SOURCES,
	};
	static void *base[PM_REGIONS];
	struct pm_service *s;
	struct pm_real *r;
	uint32_t h;

	for (int i = 0; i < PM_REGIONS; i++) {
		size_t bytes = (entries[i] * sizes[i] + 63) & ~(size_t)63;

		free(base[i]);
		base[i] = aligned_alloc(64, bytes);
		memset(base[i], 0, bytes);
		pm_map_set(i, base[i], entries[i]);
	}
	pm_limits = (struct pm_limits){ .cpus = 1, .conn4_mask = LINES / PM_WAYS - 1, .service_mask = BUCKETS - 1,
					.nat_mask = BUCKETS - 1 };
	pm_fib_hook = fib;
	pm_frames = frame;
	pm_settings(0)->flags = PM_SETTING_READY | PM_SETTING_V4;
	pm_settings(0)->hash_seed = seed;
	pm_settings(0)->swept = NOW;
	for (int i = 0; i < PM_TIMEOUTS; i++)
		pm_settings(0)->timeouts[i] = 10000;
	for (uint32_t ifindex = CLIENTS_WIRE; ifindex <= SERVERS_WIRE; ifindex++) {
		pm_interfaces(ifindex)->ifindex = ifindex;
		memset(pm_interfaces(ifindex)->mac, 2, 6);
	}
	s = pm_services(0);
	*s = (struct pm_service){ .slot = PM_SLOT_LIVE, .family = 4, .protocol = protocol, .port = pm_htons(80),
				  .schedule = PM_SCHEDULER_RR };
	*(__be32 *)s->addr = pm_htonl(VIP);
	pm_schedules(0)->count = 1;
	r = pm_reals(0);
	*r = (struct pm_real){ .slot = PM_SLOT_LIVE, .family = 4, .method = method, .weight = 1, .port = pm_htons(80) };
	*(__be32 *)r->addr = pm_htonl(REAL);
	*pm_reals(1) = *r;
	*(__be32 *)pm_reals(1)->addr = pm_htonl(OTHER_REAL);
	*pm_members(0) = (struct pm_member){ .weight = 1 };
	h = pm_service_hash(4, (const __be32 *)s->addr, s->port, s->protocol, 0);
	pm_service_index(h & (BUCKETS - 1))->entry[0] = (h | 1) | 1ull << 32;
}

static inline void begin(uint8_t method, uint32_t seed)
{
	begin_as(PM_PROTO_TCP, method, seed);
}

/* Full NAT has one address, and so many ports of it. */
static inline void have_port(uint16_t first, uint16_t ports)
{
	struct pm_full_nat *n = pm_full_nat(0);

	n->addr[0] = pm_htonl(OURS);
	n->first = first;
	n->ports = ports;
	pm_settings(0)->full_nat = 1;
}

/* A line of somebody's who has just been here, or whose connection has ended; nobody moves it. */
static inline void occupy(uint32_t index, uint8_t state)
{
	struct pm_conn *c = pm_line(4, index);

	c->protocol = PM_PROTO_TCP;
	c->traits = pm_traits(PM_CONN_IN, PM_METHOD_DR, PM_CONN_CHECK);
	c->real = c->peer = PM_NONE;
	*(pm_u64 *)c = pm_head_of(pm_live_word(c->word, state, PM_CONN_ANSWERED, 0), NOW + 10000);
}

/* A frame with so many bytes behind its headers, which are all that is in reach at first. */
static struct pm_job make_frame(uint32_t saddr, uint16_t sport, uint32_t daddr, uint16_t dport, uint8_t flags,
				uint32_t more)
{
	uint8_t *f = frame + frame_at;
	uint32_t headers = PM_ETH_LEN + PM_IPV4_LEN + PM_TCP_LEN;
	struct pm_ipv4 *ip = (void *)(f + PM_ETH_LEN);
	struct pm_tcp *tcp = (void *)(ip + 1);
	struct pm_job job = { .data = f - pm_frames, .linear = headers, .length = headers + more,
			      .ifindex = saddr == REAL ? SERVERS_WIRE : CLIENTS_WIRE };

	memset(f, 0, headers + more);
	memset(f, 2, 6);
	f[12] = 8;
	ip->version_ihl = 0x45;
	ip->length = pm_htons(headers + more - PM_ETH_LEN);
	ip->ttl = ttl;
	ip->protocol = PM_PROTO_TCP;
	ip->saddr = pm_htonl(saddr);
	ip->daddr = pm_htonl(daddr);
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	tcp->sport = pm_htons(sport);
	tcp->dport = pm_htons(dport);
	tcp->flags = flags;
	pm_set_now(now);
	return job;
}

static inline uint32_t send_frame(uint32_t saddr, uint16_t sport, uint32_t daddr, uint16_t dport, uint8_t flags)
{
	struct pm_job job = make_frame(saddr, sport, daddr, dport, flags, 0);

	pm_run_batch(&job, 1);
	return job.verdict;
}

