/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet program under libFuzzer with sanitizers: bytes become rules and a sequence of frames.
 *
 * Every map and every frame is an allocation of exactly its size, so that a step outside is found.
 * After each frame the answer is checked against what the host may rely on; after the sequence the
 * counts of connections against the lines that are there.
 *
 * Input: eight bytes of rules (struct rules), then frames: a 16-bit little-endian head with the length
 * in its low 11 bits and enum step in the rest, then that many bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Few, so that destinations get each other's places. */
#define PM_LOCALITY_SETS 2
#include "../../bpf/pointsman.native.c"
#include "../../bpf/outgoing.h"

#define C0 2u /* ifindex of the clients' wire */
#define R0 3u
/* Where hosts put a frame: behind its headroom, so that the IP header is aligned. */
#define START (PM_HEADROOM + 2)
#define LOCAL 0x77u /* last byte of the director's own addresses */

struct rules {
	uint8_t settings; /* enum pm_setting, low byte; READY and V4 are added: see settings_of() */
	uint8_t modes;	  /* reuse_mode in bits 0-1, drop_rate 2-3, secure_tcp 4, no_pmtu_disc 5, sh flags 6, interest 7 */
	uint8_t schedulers; /* of even and of odd services */
	uint8_t reals[4]; /* real servers n, n + 4, ...: see add_real() */
	uint8_t limits;	  /* low half: upper threshold, high half: what the routes answer */
};

enum step {
	STEP_WIRE_R = 0x0800,	/* received on the other wire */
	STEP_CUT = 0x1000,	/* only the first part is in reach */
	STEP_TIME = 0x2000,	/* time goes by before */
	STEP_REAL = 0x4000,	/* a real server is removed or comes back before; with STEP_WIRE_R the host itself sends it */
	STEP_PARTIAL = 0x8000,	/* unfinished transport checksum */
};
#define STEP_LENGTH 0x07ff

enum { SERVICES = 8, BUCKETS = 4, REALS = 24, LINES = 16, TABLE = 256, MEMBERS = SERVICES * (4 + TABLE) };

/* What a host holds against the program; the message names it. */
#define insist(truth)                                                        \
	do {                                                                 \
		if (!(truth)) {                                              \
			fprintf(stderr, "%s:%d: not true: %s (verdict %u)\n", __FILE__, __LINE__, \
				#truth, verdict); \
			abort();                                             \
		}                                                            \
	} while (0)

static struct rules rules;
static uint32_t now, verdict;

static const uint8_t mac_c0[6] = { 2, 0, 0, 0, 1, 1 }, mac_r0[6] = { 2, 0, 0, 0, 2, 1 };
static const uint8_t source4[4] = { 10, 0, 2, 1 };
static const uint8_t vip4[4] = { 192, 0, 2, 100 };
static const uint8_t vip6[16] = { 0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 };

/* Family, protocol and port of the virtual services. */
static const struct { uint8_t family, protocol; uint16_t port; } offers[SERVICES] = {
	{ 4, 6, 80 }, { 4, 17, 53 }, { 4, 6, 0 }, { 6, 6, 80 }, { 6, 17, 53 }, { 6, 6, 0 },
	{ 4, 132, 36412 }, { 6, 132, 36412 },
};

/* Routes: mostly the right answer; some addresses get the others, as the rules say. */
static __u32 fuzz_fib(struct pm_fib *q)
{
	uint32_t last = q->family == 4 ? q->daddr[3] : q->daddr[15];

	if (last == LOCAL)
		return PM_FIB_LOCAL;
	switch ((rules.limits >> 4) + last) {
	case 0x10:
		return PM_FIB_NO_ROUTE;
	case 0x12:
		return PM_FIB_NO_NEIGHBOUR;
	case 0x14:
		return PM_FIB_FORWARDING_OFF;
	case 0x16:
		return PM_FIB_LOCAL;
	}
	q->ifindex = q->daddr[0] == 10 ? R0 : C0;
	memcpy(q->smac, q->ifindex == R0 ? mac_r0 : mac_c0, 6);
	memset(q->dmac, 0x22, 6);
	q->mtu = last & 4 ? 1500 : last & 1 ? 1400 : 300;
	return PM_FIB_OK;
}

static struct {
	void *base;
	size_t bytes;
} maps[PM_REGIONS];

static void make_maps(void)
{
	static const uint32_t entries[PM_REGIONS] = {
		[PM_REGION_settings] = 1,
		[PM_REGION_interfaces] = PM_INTERFACES,
		[PM_REGION_services] = SERVICES,
		[PM_REGION_full_nat] = 2 * PM_FULL_NATS,
		[PM_REGION_service_index] = BUCKETS,
		[PM_REGION_schedules] = 2 * SERVICES,
		[PM_REGION_members] = MEMBERS,
		[PM_REGION_reals] = REALS,
		[PM_REGION_live] = REALS,
		[PM_REGION_counters] = REALS,
		[PM_REGION_connections4] = LINES,
		[PM_REGION_connections6] = LINES,
		[PM_REGION_verdicts] = PM_VERDICT_MAX,
		[PM_REGION_locals] = PM_LOCALS,
		[PM_REGION_interest] = PM_INTEREST_WORDS,
		[PM_REGION_nat_index] = BUCKETS,
		[PM_REGION_cpus] = 1,
		[PM_REGION_hops] = REALS,
		[PM_REGION_controls4] = LINES / PM_WAYS,
		[PM_REGION_controls6] = LINES / PM_WAYS,
		[PM_REGION_fragments] = 2 * PM_NOTES,
		[PM_REGION_neighbours] = PM_NEIGHBOURS,
		[PM_REGION_localities] = PM_LOCALITY_SETS * PM_WAYS,
		[PM_REGION_call_ids] = LINES * PM_WAYS,
	};
#define PM_SIZE(name, record, size) [PM_REGION_##name] = sizeof(record),
	static const size_t sizes[PM_REGIONS] = { PM_MAPS(PM_SIZE) };

	for (int i = 0; i < PM_REGIONS; i++) {
		maps[i].bytes = entries[i] * sizes[i];
		maps[i].base = aligned_alloc(64, (maps[i].bytes + 63) & ~(size_t)63);
		insist(maps[i].base);
		/* The interest map alone is not emptied for each input: half of all addresses interest. */
		memset(maps[i].base, i == PM_REGION_interest ? 0x5a : 0, maps[i].bytes);
		pm_map_set(i, maps[i].base, entries[i]);
	}
	pm_limits = (struct pm_limits){
		.cpus = 1,
		.conn4_mask = LINES / PM_WAYS - 1,
		.conn6_mask = LINES / PM_WAYS - 1,
		.service_mask = BUCKETS - 1,
		.nat_mask = BUCKETS - 1,
	};
}

static void add_interface(uint32_t ifindex, const uint8_t *mac)
{
	struct pm_interface *nic = pm_interfaces(ifindex % PM_INTERFACES);

	nic->ifindex = ifindex;
	memcpy(nic->mac, mac, 6);
	nic->mtu = 1500;
}

/* An address of the director, where errors about its tunnel packets come to. */
static void add_local(const uint8_t *address)
{
	__be32 addr;

	memcpy(&addr, address, 4);
	pm_locals(((addr * 0x9E3779B1u) >> 16) % PM_LOCALS)->addr[0] = addr;
}

/*
 * Method in bits 0-1 (as enum pm_method; RULE_LOCAL: by NAT or direct routing to ourselves), weight 2-4, outer IPv6 or
 * full NAT 5, no port 6, no source 7.
 */
#define RULE_LOCAL 1
static void add_real(uint32_t index, uint32_t service, uint8_t how)
{
	struct pm_real *r = pm_reals(index);
	int tunnel = (how & 3) == PM_METHOD_TUN, local = (how & 3) == RULE_LOCAL;
	uint8_t last = local ? LOCAL : 0x11 + index % 4;
	int six = offers[service].family == 6;

	if (tunnel && (how & 0x20))
		six = !six;
	r->slot = PM_SLOT_LIVE;
	r->service = service;
	r->family = six ? 6 : 4;
	r->method = local ? (how & 0x20 ? PM_METHOD_NAT : PM_METHOD_DR) :
		    how & 3 ? how & 3 : how & 0x20 ? PM_METHOD_FULL_NAT : PM_METHOD_NAT;
	r->weight = how >> 2 & 7;
	r->port = how & 0x40 ? 0 : __builtin_bswap16(8000 + (index & 1));
	r->upper = rules.limits & 15;
	/* The weight's bits again: every kind of tunnel comes up. */
	r->tunnel = tunnel ? r->weight % 3 : PM_TUNNEL_IPIP;
	r->tunnel_flags = r->weight >> 1 & 1 ? PM_TUNNEL_CSUM : r->weight >> 2 ? PM_TUNNEL_REMCSUM : PM_TUNNEL_NOCSUM;
	r->tunnel_port = __builtin_bswap16(5555);
	r->flags = local ? PM_REAL_LOCAL : 0;
	if (six) {
		memcpy(r->addr, vip6, 16);
		r->addr[5] = 2;
		r->addr[14] = 0;
		r->addr[15] = last;
		r->addr[0] = 10; /* towards r0 */
	} else {
		memcpy(r->addr, (uint8_t[4]){ 10, 0, 2, last }, 4);
	}
	if (!(how & 0x80))
		memcpy(r->source, source4, 4);
}

static int put_entry(struct pm_service_bucket *bucket, uint32_t h, uint32_t slot)
{
	for (int i = 0; i < PM_BUCKET; i++) {
		if (bucket->entry[i])
			continue;
		bucket->entry[i] = (uint64_t)(h | 1) | (uint64_t)(slot + 1) << 32;
		return 1;
	}
	return 0;
}

static void publish(uint32_t slot)
{
	struct pm_service *s = pm_services(slot);
	uint32_t h = pm_service_hash(s->family, (const __be32 *)s->addr, s->port, s->protocol, 0);

	insist(put_entry(pm_service_index(h & (BUCKETS - 1)), h, slot));
}

/* Two ports of an address each, so that they are taken soon. */
static void add_full_nat(void)
{
	static const __be32 ours[4] = { 0x0a01a8c0 };

	for (uint32_t i = 0; i < 2; i++) {
		struct pm_full_nat *n = pm_full_nat(i * PM_FULL_NATS);

		n->first = 1024;
		n->ports = 2;
		memcpy(n->addr, ours, 16);
	}
	pm_settings(0)->full_nat = 1 | 1 << PM_FULL_NAT_SHIFT;
}

/* All real servers, while there is room, and whatever their method: the program must look at that itself. */
static void publish_reals(void)
{
	for (uint32_t i = 0; i < REALS; i++) {
		const struct pm_real *r = pm_reals(i);
		uint32_t h = pm_service_hash(r->family, (const __be32 *)r->addr, r->port,
					     pm_services(r->service)->protocol, 0);

		if (r->slot == PM_SLOT_FREE)
			continue;
		put_entry(pm_nat_index(i % 2 ? pm_second_bucket(h, BUCKETS - 1) : h & (BUCKETS - 1)), h, i);
	}
}

/* Bits of what is always set, or is said elsewhere too, stand for others. */
static uint32_t settings_of(uint8_t bits)
{
	return (bits & ~PM_SETTING_NO_PMTU_DISC) | PM_SETTING_READY | PM_SETTING_V4 | PM_SETTING_V6 |
	       (bits & PM_SETTING_READY ? PM_SETTING_NAT_ICMP_SEND : 0) |
	       (bits & PM_SETTING_V4 ? PM_SETTING_SCHEDULE_ICMP : 0) |
	       (bits & PM_SETTING_NO_PMTU_DISC ? PM_SETTING_ENGINES : 0);
}

static void add_service(uint32_t slot)
{
	struct pm_service *s = pm_services(slot);
	struct pm_schedule *schedule = pm_schedules(2 * slot);
	uint32_t first = slot * (4 + TABLE), highest = 0;

	s->slot = PM_SLOT_LIVE;
	s->family = offers[slot].family;
	s->protocol = offers[slot].protocol;
	s->port = __builtin_bswap16(offers[slot].port);
	memcpy(s->addr, s->family == 4 ? vip4 : vip6, s->family == 4 ? 4 : 16);
	s->schedule = (slot & 1 ? rules.schedulers >> 4 : rules.schedulers & 15) % PM_SCHEDULER_MAX;
	s->flags = rules.modes >> 3 & (PM_SERVICE_SCHED_1 | PM_SERVICE_SCHED_2);
	if (s->protocol == PM_PROTO_UDP && (settings_of(rules.settings) & PM_SETTING_ENGINES))
		s->pe = PM_ENGINE_SIP;
	if (rules.limits & (slot & 1 ? 0x10 : 0x20)) {
		s->flags |= PM_SERVICE_PERSISTENT | (rules.limits & 0x80 ? PM_SERVICE_ONE_PACKET : 0);
		s->timeout_s = rules.limits & 0x40 ? 1 : 300;
		s->netmask = s->family == 4 ? 0xffffffff << (rules.limits >> 4 & 14) : 100 + (rules.limits >> 4);
	}
	schedule->first = first;
	for (uint32_t n = 0; n < 4; n++) {
		uint32_t real = (slot * 3 + n) % REALS;
		struct pm_member *m = pm_members(first + n);

		if (pm_reals(real)->slot == PM_SLOT_FREE)
			add_real(real, slot, rules.reals[n]);
		if (pm_reals(real)->service != slot)
			continue;
		m = pm_members(first + schedule->count++);
		m->real = real;
		m->weight = pm_reals(real)->weight;
		if ((uint32_t)m->weight > highest)
			highest = m->weight;
	}
	schedule->weight_step = 1;
	schedule->weight_max = highest;
	if (schedule->count && (s->schedule == PM_SCHEDULER_DH || s->schedule == PM_SCHEDULER_SH ||
				s->schedule == PM_SCHEDULER_MH)) {
		schedule->table_first = first + 4;
		schedule->table_count = TABLE;
		for (uint32_t i = 0; i < TABLE; i++)
			*pm_members(first + 4 + i) = *pm_members(first + i % schedule->count);
	}
	publish(slot);
}

static void load_rules(void)
{
	struct pm_settings *set = pm_settings(0);

	for (int i = 0; i < PM_REGIONS; i++)
		if (i != PM_REGION_interest)
			memset(maps[i].base, 0, maps[i].bytes);
	now = 0xfffff000u; /* the clock wraps in the middle of longer inputs */
	set->layout = PM_LAYOUT_VERSION;
	set->flags = settings_of(rules.settings) |
		     (rules.modes & 0x10 ? PM_SETTING_SECURE_TCP : 0) |
		     (rules.limits & 0x40 ? PM_SETTING_EXPIRE_QUIESCENT : 0) |
		     (rules.modes & 0x20 ? PM_SETTING_NO_PMTU_DISC : 0) |
		     (rules.modes & 0x80 ? PM_SETTING_INTEREST : 0) |
		     (rules.limits & 0x08 ? 0 : PM_SETTING_ANSWERS) | (rules.limits & 0x04 ? PM_SETTING_SLOPPY_SCTP : 0);
	set->reuse_mode = rules.modes & 3;
	set->drop_rate = rules.modes >> 2 & 3;
	set->unprivileged_port = 1024;
	for (int i = 0; i < PM_TIMEOUTS; i++)
		set->timeouts[i] = 400 + 100 * i;
	set->timeouts[PM_TIMEOUT_LBLC] = set->timeouts[PM_TIMEOUT_LBLCR] = rules.modes & 4 ? 0 : 1000;
	add_interface(C0, mac_c0);
	add_interface(R0, mac_r0);
	add_local(source4);
	add_full_nat();
	for (uint32_t slot = 0; slot < SERVICES; slot++)
		if (offers[slot].port || (rules.settings & PM_SETTING_PORT0))
			add_service(slot);
	publish_reals();
}

static void check_answer(const struct pm_job *job, const uint8_t *sent, uint32_t length, uint32_t linear)
{
	verdict = job->verdict;
	insist(job->verdict > PM_CONTINUE && job->verdict < PM_VERDICT_MAX);
	insist(job->action == (uint32_t)pm_act(job->verdict));
	insist(job->moved >= -PM_HEADROOM && job->moved <= (int32_t)linear);
	insist(job->linear <= job->length);
	insist(job->length <= length + PM_HEADROOM);
	if (job->action == PM_ACTION_AGAIN)
		insist(linear < length);
	if (job->action == PM_ACTION_SEND) {
		insist(job->ifindex == C0 || job->ifindex == R0);
		insist(job->length >= 14 + 20);
	}
	/* What the stack gets is what came, but for a priority tag, its own connections, and what it forwards for us. */
	if (job->action == PM_ACTION_PASS && job->verdict != PM_PASS_LOCAL_NODE &&
	    job->verdict != PM_PASS_EGRESS && length > 14 &&
	    !(sent[12] == 0x81 || sent[12] == 0x88)) {
		insist(job->moved == 0 && job->linear == linear);
		insist(!memcmp(pm_frames + job->data, sent, linear));
	}
}

/* What the host sends leaves as it came, or by NAT with another source: nothing is added to it or taken off. */
static void check_own(const struct pm_job *job, const uint8_t *sent, uint32_t length, uint32_t linear)
{
	insist(verdict > PM_CONTINUE && verdict < PM_VERDICT_MAX);
	if (pm_act(verdict) == PM_ACTION_AGAIN)
		insist(verdict == PM_WANT_PAYLOAD && linear < length);
	else
		insist(pm_act(verdict) == PM_ACTION_PASS || pm_act(verdict) == PM_ACTION_DROP ||
		       verdict == PM_FORWARD_NAT_REPLY || verdict == PM_FORWARD_ICMP_REPLY);
	insist(job->moved == 0 && job->linear == linear && job->length == length);
	if (pm_act(verdict) == PM_ACTION_PASS)
		insist(!memcmp(pm_frames + job->data, sent, linear));
	else if (linear >= 12)
		insist(!memcmp(pm_frames + job->data, sent, 12));
}

static void run_own_frame(const uint8_t *bytes, uint32_t length, uint32_t step)
{
	uint32_t linear = step & STEP_CUT && length > 96 ? 96 : length;
	struct pm_job job = { .flags = step & STEP_PARTIAL ? PM_JOB_PARTIAL_CSUM : 0 };

	for (int round = 0; round < 2; round++) {
		uint8_t *memory = malloc(START + linear);
		uint16_t ethertype = 0;

		insist(memory);
		memcpy(memory + START, bytes, linear);
		pm_frames = memory;
		job = (struct pm_job){ .data = START, .length = length, .linear = linear, .ifindex = R0,
				       .flags = job.flags, .connection = job.connection };
		if (linear >= 14)
			memcpy(&ethertype, bytes + 12, 2);
		pm_set_now(now);
		verdict = pm_outgoing(&job, ethertype);
		check_own(&job, bytes, length, linear);
		free(memory);
		if (verdict != PM_WANT_PAYLOAD)
			return;
		linear = length;
	}
	insist(!"asked for more than the whole frame");
}

static void run_frame(const uint8_t *bytes, uint32_t length, uint32_t step)
{
	/* A frame that is cut keeps the lengths that hosts hand over: the headers, at least Ethernet's. */
	uint32_t linear = step & STEP_CUT && length > 96 ? 96 : length;
	struct pm_job job = { .length = length, .linear = linear, .ifindex = step & STEP_WIRE_R ? R0 : C0,
			      .flags = step & STEP_PARTIAL ? PM_JOB_PARTIAL_CSUM : 0 };

	for (int round = 0; round < 2; round++) {
		uint8_t *memory = malloc(START + job.linear);

		insist(memory);
		memcpy(memory + START, bytes, job.linear);
		linear = job.linear;
		pm_frames = memory;
		job.data = START;
		job.moved = 0;
		pm_set_now(now);
		pm_run_batch(&job, 1);
		check_answer(&job, bytes, length, linear);
		free(memory);
		if (job.action != PM_ACTION_AGAIN)
			return;
		job = (struct pm_job){ .length = length, .linear = length, .ifindex = step & STEP_WIRE_R ? R0 : C0,
				       .flags = job.flags, .connection = job.connection };
	}
	insist(!"asked for more than the whole frame");
}

/* Counted are the lines that are there: nothing leaks, nothing is counted twice. */
static void check_counts(void)
{
	uint32_t active[REALS] = { 0 }, inactive[REALS] = { 0 }, persistent[REALS] = { 0 };
	uint32_t controlled[2 * LINES] = { 0 }, templates = 0;

	for (uint32_t i = 0; i < 2 * LINES; i++) {
		const struct pm_conn *c = i < LINES ? &pm_connections4(i)->c : &pm_connections6(i - LINES)->c;
		uint32_t control = *(i < LINES ? pm_control(4, i) : pm_control(6, i - LINES));

		insist(pm_status(c->word) != PM_CONN_CLAIMED);
		if (!pm_is_live(c->word))
			continue;
		insist(!(c->word & PM_CONN_HELD));
		insist(c->real < REALS);
		insist(pm_state(c->word) < (c->protocol == PM_PROTO_SCTP ? PM_SCTP_STATE_MAX : PM_TCP_STATE_MAX));
		if (pm_kind_of(c->traits) == PM_CONN_TEMPLATE) {
			insist(control & PM_CONTROL_OPEN);
			insist(!c->neighbour || pm_services(pm_reals(c->real)->service)->pe == PM_ENGINE_SIP);
			templates += control & ~PM_CONTROL_OPEN;
			persistent[c->real]++;
			continue;
		}
		insist(c->peer == PM_NONE || c->peer < LINES);
		insist(!(pm_kind_of(c->traits) == PM_CONN_REPLY && c->traits & PM_CONN_CONTROLLED));
		if (pm_kind_of(c->traits) != PM_CONN_IN)
			continue;
		if (c->traits & PM_CONN_CONTROLLED) {
			insist(control < LINES);
			controlled[(i < LINES ? 0 : LINES) + control]++;
			templates--;
		}
		insist(!(c->word & PM_CONN_ACTIVE) == !pm_is_active(c->protocol, pm_state(c->word)));
		if (c->word & PM_CONN_ACTIVE)
			active[c->real]++;
		else
			inactive[c->real]++;
	}
	for (uint32_t i = 0; i < REALS; i++) {
		insist(pm_live(i)->active == active[i]);
		insist(pm_live(i)->inactive == inactive[i]);
		insist(pm_live(i)->persistent == persistent[i]);
	}
	/* As many are counted in all, and of each template its own. */
	insist(!templates);
	for (uint32_t i = 0; i < 2 * LINES; i++)
		if (controlled[i])
			insist(*(i < LINES ? pm_control(4, i) : pm_control(6, i - LINES)) ==
			       (PM_CONTROL_OPEN | controlled[i]));
}

/* Call-IDs as lists show them: whole, each for the line that it is found by. */
static void check_calls(void)
{
	for (uint32_t i = 0; i < LINES * PM_WAYS; i++) {
		const struct pm_call_id *r = pm_call_ids(i);

		insist(!(r->version & 1));
		if (!r->version)
			continue;
		insist((r->line & ~PM_CALL_ID_IPV6) == i / PM_WAYS);
		insist(r->length && r->length <= PM_CALL_ID_MAX);
		for (uint32_t at = 0; at < r->length; at++)
			insist(pm_is_word(((const uint8_t *)r->id)[at]) || ((const uint8_t *)r->id)[at] == '@');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!maps[0].base) {
		pm_fib_hook = fuzz_fib;
		make_maps();
	}
	if (size < sizeof(rules))
		return -1;
	memcpy(&rules, data, sizeof(rules));
	data += sizeof(rules);
	size -= sizeof(rules);
	load_rules();
	while (size >= 2) {
		uint32_t head = data[0] | data[1] << 8;
		uint32_t length = head & STEP_LENGTH;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		if (head & STEP_TIME)
			now += 150;
		if ((head & STEP_REAL) && !(head & STEP_WIRE_R)) {
			struct pm_real *r = pm_reals(length % REALS);

			if (r->slot != PM_SLOT_FREE)
				r->slot = r->slot == PM_SLOT_LIVE ? PM_SLOT_GONE : PM_SLOT_LIVE;
		}
		if ((head & STEP_REAL) && (head & STEP_WIRE_R))
			run_own_frame(data, length, head);
		else
			run_frame(data, length, head);
		data += length;
		size -= length;
	}
	check_counts();
	check_calls();
	return 0;
}
