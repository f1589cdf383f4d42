/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Whom a full connection table serves: minutes of traffic in seconds of work, through the native program and
 * a table of the size a director has by default. Each scenario prints what became of it; 1 if somebody who
 * must not suffer did.
 *
 *     capacity SCENARIO [SECONDS]; capacity load LINES
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../bpf/pointsman.native.c"

#define TICKS(seconds) ((uint32_t)((seconds) * 1e9 / (1u << PM_TICK_SHIFT)))
#define VIP 0xc0000264u
#define REAL 0x0a00020au
#define HONEST 0x0b000000u
enum { REALS = 8, SERVICES = 2, BUCKETS = 4, MEMBERS = 32, WEB = 80, DNS = 53 };

static uint32_t lines = 1 << 20;
static uint32_t start = 1000;
static double clock_s;
static uint8_t frame[256];
static int bad;

static uint32_t rnd(void)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 16;
}

static __u32 fib(struct pm_fib *q)
{
	q->ifindex = 3;
	memset(q->dmac, 0x22, 6);
	memset(q->smac, 0x21, 6);
	q->mtu = 1500;
	return PM_FIB_OK;
}

static void at(double seconds)
{
	clock_s = seconds;
}

static void add_service(uint32_t slot, uint8_t protocol, uint16_t port, uint8_t method, uint32_t upper)
{
	struct pm_schedule *schedule = pm_schedules(2 * slot);
	struct pm_service *s = pm_services(slot);
	uint32_t h;

	s->slot = PM_SLOT_LIVE;
	s->family = 4;
	s->protocol = protocol;
	s->port = pm_htons(port);
	*(__be32 *)s->addr = pm_htonl(VIP);
	s->schedule = PM_SCHEDULER_RR;
	schedule->first = slot * 16;
	schedule->count = 4;
	for (uint32_t n = 0; n < 4; n++) {
		struct pm_real *r = pm_reals(4 * slot + n);

		r->slot = PM_SLOT_LIVE;
		r->service = slot;
		r->family = 4;
		r->method = method;
		r->weight = 1;
		r->upper = upper;
		r->port = s->port;
		*(__be32 *)r->addr = pm_htonl(REAL + 4 * slot + n);
		*pm_members(schedule->first + n) = (struct pm_member){ .real = 4 * slot + n, .weight = 1 };
	}
	h = pm_service_hash(4, (const __be32 *)s->addr, s->port, s->protocol, 0);
	for (int i = 0; i < PM_BUCKET; i++) {
		__u64 *entry = &pm_service_index(h & (BUCKETS - 1))->entry[i];

		if (!*entry) {
			*entry = (uint64_t)(h | 1) | (uint64_t)(slot + 1) << 32;
			return;
		}
	}
}

/* Empty tables, a web service and a DNS service. */
static void begin(uint8_t method, uint32_t upper)
{
	static const size_t sizes[] = {
#define PM_SIZE(name, record, size) sizeof(record),
		PM_MAPS(PM_SIZE)
	};
	/* Seconds, as a director has them by default: by TCP state, UDP last. */
	static const uint16_t timeouts[] = { 2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300 };
	uint32_t entries[PM_REGIONS] = {
		[PM_REGION_settings] = 1,	    [PM_REGION_interfaces] = PM_INTERFACES,
		[PM_REGION_services] = SERVICES,    [PM_REGION_service_index] = BUCKETS,
		[PM_REGION_schedules] = 2 * SERVICES, [PM_REGION_members] = MEMBERS,
		[PM_REGION_reals] = REALS,	    [PM_REGION_live] = REALS,
		[PM_REGION_counters] = REALS,	    [PM_REGION_connections4] = lines,
		[PM_REGION_connections6] = PM_WAYS, [PM_REGION_verdicts] = PM_VERDICT_MAX,
		[PM_REGION_locals] = PM_LOCALS,	    [PM_REGION_interest] = PM_INTEREST_WORDS,
		[PM_REGION_nat_index] = BUCKETS,    [PM_REGION_cpus] = 1,
		[PM_REGION_hops] = REALS,	    [PM_REGION_neighbours] = PM_NEIGHBOURS,
		[PM_REGION_controls4] = lines / PM_WAYS,
	};
	static void *base[PM_REGIONS];
	struct pm_settings *set;

	for (int i = 0; i < PM_REGIONS; i++) {
		size_t bytes = (entries[i] * sizes[i] + 63) & ~(size_t)63;

		free(base[i]);
		base[i] = aligned_alloc(64, bytes);
		memset(base[i], 0, bytes);
		pm_map_set(i, base[i], entries[i]);
	}
	pm_limits = (struct pm_limits){ .cpus = 1, .conn4_mask = lines / PM_WAYS - 1, .service_mask = BUCKETS - 1,
					.nat_mask = BUCKETS - 1 };
	pm_fib_hook = fib;
	pm_frames = frame;
	set = pm_settings(0);
	set->flags = PM_SETTING_READY | PM_SETTING_V4;
	set->reuse_mode = 1;
	set->hash_seed = 0x1234567;
	for (uint32_t i = 0; i < sizeof(timeouts) / sizeof(*timeouts); i++)
		set->timeouts[i] = TICKS(timeouts[i]);
	for (uint32_t ifindex = 2; ifindex <= 3; ifindex++) {
		struct pm_interface *nic = pm_interfaces(ifindex);

		nic->ifindex = ifindex;
		memset(nic->mac, 2, 6);
	}
	add_service(0, PM_PROTO_TCP, WEB, method, upper);
	add_service(1, PM_PROTO_UDP, DNS, method, upper);
	at(0);
}

/* How long a packet was worked on at most, if that is to be known; without what others did on its CPU meanwhile. */
static int timed;
static uint64_t longest_ns;

static uint64_t worked_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void run(struct pm_job *job)
{
	uint64_t before = timed ? worked_ns() : 0, took;

	pm_run_batch(job, 1);
	if (!timed)
		return;
	took = worked_ns() - before;
	if (took > longest_ns)
		longest_ns = took;
}

/* What datagrams carry. */
static char text[32];

static uint32_t packet(uint32_t ifindex, uint32_t saddr, uint16_t sport, uint32_t daddr, uint16_t dport, uint8_t protocol,
		       uint8_t flags)
{
	uint32_t says = protocol == PM_PROTO_TCP ? 0 : strlen(text);
	uint32_t bytes = PM_IPV4_LEN + (protocol == PM_PROTO_TCP ? PM_TCP_LEN : PM_UDP_LEN) + says;
	struct pm_ipv4 *ip = (void *)(frame + 128 + PM_ETH_LEN);
	struct pm_udp *udp = (void *)(ip + 1);
	struct pm_job job = { .data = 128, .linear = PM_ETH_LEN + bytes, .length = PM_ETH_LEN + bytes,
			      .ifindex = ifindex };

	memset(frame + 128, 0, PM_ETH_LEN + bytes);
	memset(frame + 128, 2, 6);
	frame[128 + 12] = 8;
	ip->version_ihl = 0x45;
	ip->length = pm_htons(bytes);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = pm_htonl(saddr);
	ip->daddr = pm_htonl(daddr);
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	udp->sport = pm_htons(sport);
	udp->dport = pm_htons(dport);
	if (protocol == PM_PROTO_TCP) {
		((struct pm_tcp *)udp)->flags = flags;
	} else {
		udp->length = pm_htons(PM_UDP_LEN + says);
		udp->check = 1;
		memcpy(udp + 1, text, says);
	}
	pm_set_now(start + TICKS(clock_s));
	run(&job);
	return job.verdict;
}

/* A client's packet; where it went is kept for the answers. */
static uint32_t sent_to;
static uint32_t ask(uint32_t client, uint16_t port, uint8_t protocol, uint8_t flags)
{
	uint32_t v = packet(2, client, port, VIP, protocol == PM_PROTO_TCP ? WEB : DNS, protocol, flags);

	sent_to = pm_ntohl(((struct pm_ipv4 *)(frame + 128 + PM_ETH_LEN))->daddr);
	return v;
}

static uint32_t answer(uint32_t client, uint16_t port, uint8_t protocol, uint8_t flags)
{
	return packet(3, sent_to, protocol == PM_PROTO_TCP ? WEB : DNS, client, port, protocol, flags);
}

static uint32_t stranger(void)
{
	return 0x10000000 + rnd() % 0x40000000;
}

static int forwarded(uint32_t verdict)
{
	return verdict >= PM_FORWARD_NAT && verdict <= PM_FORWARD_TUN;
}

static void report(const char *what, uint8_t method, unsigned long failed, unsigned long all, double most)
{
	double share = all ? (double)failed / all : 0;

	printf("%s, %s: %lu of %lu (%.4f %%)%s; gave way:", method == PM_METHOD_NAT ? "NAT" : "DR", what, failed, all,
	       100 * share, share > most ? " TOO MANY" : "");
	for (int v = PM_EVICTED_ENDED; v <= PM_EVICTED_IDLE; v++)
		printf(" %llu", (unsigned long long)*pm_verdicts(v));
	printf(" (ended, half-open, unanswered, idle), expired %llu\n", (unsigned long long)*pm_verdicts(PM_EXPIRED_BY_PACKET));
	bad |= share > most;
}

/* A whole connection in no time: what is left is its closing state. */
static int visit(uint8_t method)
{
	uint32_t a = stranger();
	uint16_t p = 1024 + rnd() % 60000;

	if (!forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_SYN)))
		return 0;
	if (method == PM_METHOD_NAT)
		answer(a, p, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
	if (!forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_ACK)) ||
	    !forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_ACK | PM_TCP_FIN)))
		return 0;
	if (method == PM_METHOD_NAT)
		answer(a, p, PM_PROTO_TCP, PM_TCP_ACK | PM_TCP_FIN);
	return forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_ACK));
}

static void short_connections(uint8_t method, double seconds)
{
	unsigned long refused = 0, n = 0;

	begin(method, 0);
	for (; clock_s < seconds; n++) {
		at(n / 20000.0);
		refused += !visit(method);
	}
	report("20,000 short connections/s: refused or broken off", method, refused, n, 0);
}

/* A and AAAA from one port, as the C library asks, answered at once. */
static int lookup(uint8_t method)
{
	uint32_t a = stranger();
	uint16_t p = 1024 + rnd() % 60000;
	int ok = forwarded(ask(a, p, PM_PROTO_UDP, 0)) && forwarded(ask(a, p, PM_PROTO_UDP, 0));

	if (method == PM_METHOD_NAT)
		ok = ok && answer(a, p, PM_PROTO_UDP, 0) == PM_FORWARD_NAT_REPLY &&
		     answer(a, p, PM_PROTO_UDP, 0) == PM_FORWARD_NAT_REPLY;
	return ok;
}

static void lookups(uint8_t method, double seconds)
{
	unsigned long refused = 0, n = 0;

	begin(method, 0);
	for (; clock_s < seconds; n++) {
		at(n / 10000.0);
		refused += !lookup(method);
	}
	report("10,000 lookups/s: refused", method, refused, n, 0);
}

/* People who came before a flood, and others who come in it, with a round trip of 100 ms. */
enum { OLD = 1000, ROUND = 100 };
static unsigned long old_lost, old_sent, new_lost, new_sent;

static void old_come(uint8_t method)
{
	for (uint32_t i = 0; i < OLD; i++) {
		at(clock_s + 0.001);
		ask(HONEST + i, 3000, PM_PROTO_TCP, PM_TCP_SYN);
		if (method == PM_METHOD_NAT)
			answer(HONEST + i, 3000, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
		ask(HONEST + i, 3000, PM_PROTO_TCP, PM_TCP_ACK);
		at(clock_s + 0.1);
		ask(HONEST + i, 3000, PM_PROTO_TCP, PM_TCP_ACK);
	}
	old_lost = old_sent = new_lost = new_sent = 0;
}

/* `flood` once for each of so many a second; meanwhile everybody old speaks every 10 s, and 100 new people a second come. */
static void under_flood(uint8_t method, uint32_t per_second, double seconds, void (*flood)(void))
{
	struct { uint32_t client, to; double due; } waiting[ROUND];
	double from = clock_s;
	uint32_t client = HONEST + OLD, head = 0, count = 0;

	for (unsigned long n = 0; n < per_second * seconds; n++) {
		at(from + (double)n / per_second);
		flood();
		if (n % (per_second / 100) == 0) {
			old_sent++;
			old_lost += !forwarded(ask(HONEST + old_sent % OLD, 3000, PM_PROTO_TCP, PM_TCP_ACK));
			new_sent++;
			if (forwarded(ask(client, 4000, PM_PROTO_TCP, PM_TCP_SYN)) && count < ROUND) {
				uint32_t to = sent_to;

				if (method == PM_METHOD_NAT)
					answer(client, 4000, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
				waiting[(head + count) % ROUND].client = client;
				waiting[(head + count) % ROUND].to = to;
				waiting[(head + count++) % ROUND].due = clock_s + 0.1;
			} else {
				new_lost++;
			}
			client++;
		}
		while (count && waiting[head].due <= clock_s) {
			new_lost += !forwarded(ask(waiting[head].client, 4000, PM_PROTO_TCP, PM_TCP_ACK));
			head = (head + 1) % ROUND;
			count--;
		}
	}
}

static void flood_report(const char *what, uint8_t method, double most)
{
	char text[200];

	snprintf(text, sizeof(text), "%s: packets of established connections lost", what);
	report(text, method, old_lost, old_sent, 0);
	snprintf(text, sizeof(text), "%s: handshakes failed", what);
	report(text, method, new_lost, new_sent, most);
}

static uint8_t flood_method;

static void syn(void)
{
	uint32_t a = stranger();
	uint16_t p = 1024 + rnd() % 60000;

	if (forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_SYN)) && flood_method == PM_METHOD_NAT)
		answer(a, p, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
}

/* Two forged packets; a real server resets what it has not answered for. */
static void forged(void)
{
	uint32_t a = stranger();
	uint16_t p = 1024 + rnd() % 60000;

	if (!forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_SYN)))
		return;
	if (flood_method == PM_METHOD_NAT)
		answer(a, p, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
	if (forwarded(ask(a, p, PM_PROTO_TCP, PM_TCP_ACK)) && flood_method == PM_METHOD_NAT)
		answer(a, p, PM_PROTO_TCP, PM_TCP_RST);
}

static void datagram(void)
{
	ask(stranger(), 1024 + rnd() % 60000, PM_PROTO_UDP, 0);
}

static void floods(uint8_t method, uint32_t per_second, double seconds, const char *what, void (*flood)(void))
{
	flood_method = method;
	begin(method, 0);
	old_come(method);
	under_flood(method, per_second, seconds, flood);
	flood_report(what, method, 0.01);
}

/* Thresholds, and a daemon that is dead: as soon as time has ended connections there is room again. */
static void thresholds(uint8_t method)
{
	unsigned long taken = 0;
	uint32_t v = 0, tries = 0;

	begin(method, 100);
	for (uint32_t i = 0; i < 1000; i++) {
		taken += forwarded(v = ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_SYN));
		ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK);
		ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_RST); /* CLOSE: ten seconds */
	}
	at(20);
	for (tries = 0; tries < 1000 && !forwarded(v); tries++) {
		at(clock_s + 1);
		v = ask(HONEST + 5000 + tries, 2000, PM_PROTO_TCP, PM_TCP_SYN);
	}
	printf("%s, four real servers of at most 100 connections, nobody else alive: %lu of 1000 taken, then open again after %u tries, one a second\n",
	       method == PM_METHOD_NAT ? "NAT" : "DR", taken, tries);
	bad |= taken != 400 || !forwarded(v) || tries > 40;
}

/* Real servers whose counts are not what the lines say. */
static unsigned miscounted(void)
{
	uint32_t active[REALS] = { 0 }, inactive[REALS] = { 0 };
	unsigned wrong = 0;

	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn *c = pm_line(4, i);

		if (pm_is_live(c->word) && pm_kind_of(c->traits) == PM_CONN_IN)
			(c->word & PM_CONN_ACTIVE ? active : inactive)[c->real]++;
	}
	for (uint32_t i = 0; i < REALS; i++)
		wrong += pm_live(i)->active != active[i] || pm_live(i)->inactive != inactive[i];
	return wrong;
}

/* Nobody looks after the tables while people come and go, look up names, and are never heard of again. */
static void alone(uint8_t method, double seconds)
{
	unsigned long refused = 0, n = 0;
	uint32_t verdict;

	begin(method, 0);
	for (; clock_s < seconds; n++) {
		at(n / 600.0);
		if (n % 3 == 0)
			refused += !visit(method);
		else if (n % 3 == 1)
			refused += !lookup(method);
		else
			refused += !forwarded(ask(stranger(), 1024 + rnd() % 60000, PM_PROTO_TCP, PM_TCP_SYN));
	}
	report("600 visits, lookups and lost SYNs a second, nobody else alive: refused", method, refused, n, 0);
	report("real servers miscounted", method, miscounted(), REALS, 0);
	/* An hour later there is nobody left: those who come then clear away what they can, and count right. */
	at(clock_s + 3600);
	for (uint32_t i = 0; i < 100000; i++) {
		at(clock_s + 0.01);
		verdict = ask(HONEST + i, 5000, PM_PROTO_TCP, PM_TCP_SYN);
		bad |= !forwarded(verdict);
	}
	report("and after a thousand seconds of others: miscounted", method, miscounted(), REALS, 0);
}

/* Lines of connections that are not over: all of them, and those in the level where new ones are placed. */
struct census {
	uint32_t all, settled;
};

/* Whether a line is where its key would be looked for in a level. */
static int stands_in(uint32_t index, uint32_t level)
{
	struct pm_key k = { 0 };
	struct pm_place at;

	pm_line_key(4, pm_line(4, index), &k);
	at = pm_place(4, pm_settings(0), &k);
	at.level = level;
	return pm_is_within(4, &at, index);
}

static struct census count_lines(void)
{
	uint32_t now = start + TICKS(clock_s), level = pm_settings(0)->levels4 & PM_LEVEL;
	struct census n = { 0 };

	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn *c = pm_line(4, i);
		__u64 head = pm_head(c);

		if (!pm_is_live(head) || pm_past(now, pm_until(head)))
			continue;
		n.all++;
		n.settled += stands_in(i, level);
	}
	return n;
}

static uint32_t went_to[200000];

/* A packet each way of the first `count` established connections, every `step`th; how many went astray. */
static unsigned long everybody_speaks(uint8_t method, uint32_t count, uint32_t step)
{
	unsigned long astray = 0;

	for (uint32_t i = 0; i < count; i += step) {
		astray += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK)) || sent_to != went_to[i];
		if (method == PM_METHOD_NAT)
			astray += answer(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK) != PM_FORWARD_NAT_REPLY ||
				  pm_ntohl(((struct pm_ipv4 *)(frame + 128 + PM_ETH_LEN))->saddr) != VIP;
	}
	return astray;
}

/*
 * A table of which little is used grows while connections come that all stay, and nobody gives way; then most
 * of them go, and it is made smaller.
 */
static void growth(uint8_t method)
{
	uint32_t both = method == PM_METHOD_NAT ? 2 : 1, count = 200000 / both, few = 3000, level = 6, growths = 0;
	struct pm_settings *set;
	unsigned long astray = 0, gave_way = 0, active = 0;
	struct census grown, shrunk;
	double last;

	begin(method, 0);
	set = pm_settings(0);
	set->levels4 = level;
	for (uint32_t i = 0; i < count; i++) {
		at(i * 1e-5);
		astray += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_SYN));
		went_to[i] = sent_to;
		if (method == PM_METHOD_NAT)
			answer(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK);
		astray += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK));
		if ((set->levels4 & PM_LEVEL) == level)
			continue;
		printf("%s: from level %u with %.0f %% in use; ", method == PM_METHOD_NAT ? "NAT" : "DR", level,
		       100.0 * (i + 1) * both / (lines >> level));
		level = set->levels4 & PM_LEVEL;
		growths++;
		astray += everybody_speaks(method, i + 1, 7);
	}
	at(clock_s + 1);
	astray += everybody_speaks(method, count, 1);
	grown = count_lines();
	for (uint32_t i = 0; i < REALS; i++)
		active += pm_live(i)->active;
	last = clock_s;
	/* The few that stay speak every five minutes. */
	while (clock_s < last + 1200) {
		at(clock_s + 300);
		astray += everybody_speaks(method, few, 1);
	}
	/* As the daemon does (control/connections/levels.ts). */
	set->levels4 = pm_levels_in_use(set->levels4) << PM_LEVELS_SHIFT | 6;
	at(clock_s + 1);
	astray += everybody_speaks(method, few, 1);
	shrunk = count_lines();
	for (int v = PM_EVICTED_ENDED; v <= PM_EVICTED_IDLE; v++)
		gave_way += *pm_verdicts(v);
	printf("%s: %u connections, %u growths to level %u, %lu packets astray, %lu gave way; %u of %u lines moved up; of the last %u, %u of %u moved down; %lu active\n",
	       method == PM_METHOD_NAT ? "NAT" : "DR", count, growths, level, astray, gave_way, grown.settled, grown.all,
	       few, shrunk.settled, shrunk.all, active);
	bad |= astray || gave_way || growths < 2 || level > 2 || active != count || grown.all != count * both ||
	       grown.settled < grown.all * 0.999 || shrunk.all != few * both || shrunk.settled < shrunk.all * 0.99;
}

/* Lines that are in use once a table has grown to its ceiling under load: half of them. */
#define LOADED(all) ((uint32_t)((all) * 0.5))
/* Packets of connections that exist, for each that begins. */
enum { MEANWHILE = 4 };

/*
 * From a sixty-fourth to all of the table, while connections come that all stay and those that have come go on: none
 * loses a packet, none gives way, and nobody waits for the table to grow.
 */
static void load_growth(uint8_t method, uint32_t all)
{
	const char *name = method == PM_METHOD_NAT ? "NAT" : "DR";
	uint32_t both = method == PM_METHOD_NAT ? 2 : 1, count, level = 6, growths = 0, usual = lines;
	unsigned long lost = 0, sent = 0, gave_way = 0, active = 0;
	struct pm_settings *set;
	uint32_t *to;

	lines = all;
	count = LOADED(lines) / both;
	to = calloc(count, sizeof(*to));
	begin(method, 0);
	set = pm_settings(0);
	set->levels4 = level;
	longest_ns = 0;
	timed = 1;
	for (uint32_t i = 0; i < count; i++) {
		at(i * 2e-6); /* 500,000 new ones a second, and all within the time that they are kept */
		lost += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_SYN));
		to[i] = sent_to;
		if (method == PM_METHOD_NAT)
			lost += answer(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_SYN | PM_TCP_ACK) != PM_FORWARD_NAT_REPLY;
		lost += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK));
		for (int n = 0; n < MEANWHILE; n++, sent++) {
			uint32_t who = rnd() % (i + 1);

			lost += !forwarded(ask(HONEST + who, 2000, PM_PROTO_TCP, PM_TCP_ACK)) || sent_to != to[who];
			if (method == PM_METHOD_NAT)
				lost += answer(HONEST + who, 2000, PM_PROTO_TCP, PM_TCP_ACK) != PM_FORWARD_NAT_REPLY;
		}
		growths += (set->levels4 & PM_LEVEL) != level;
		level = set->levels4 & PM_LEVEL;
	}
	timed = 0;
	for (uint32_t i = 0; i < count; i++, sent++)
		lost += !forwarded(ask(HONEST + i, 2000, PM_PROTO_TCP, PM_TCP_ACK)) || sent_to != to[i];
	for (int v = PM_EVICTED_ENDED; v <= PM_EVICTED_IDLE; v++)
		gave_way += *pm_verdicts(v);
	for (uint32_t i = 0; i < REALS; i++)
		active += pm_live(i)->active;
	printf("%s: %u connections in %u lines, grown from %u in %u steps: of %lu further packets %lu lost, %lu gave way, %lu active; longest packet %.0f us\n",
	       name, count, lines, lines >> 6, growths, sent, lost, gave_way, active, longest_ns / 1e3);
	bad |= lost || gave_way || level || growths != 3 || active != count;
	free(to);
	lines = usual;
}

/* All calls come from one port of one address, as a proxy's do: each has to stay with its real server. */
static void calls(uint8_t method)
{
	uint32_t count = lines / 10 * 3, persistent = 0, *to = calloc(count, sizeof(*to));
	struct pm_service *s;
	unsigned long astray = 0;

	begin(method, 0);
	s = pm_services(1);
	s->pe = PM_ENGINE_SIP;
	s->flags = PM_SERVICE_PERSISTENT | PM_SERVICE_ONE_PACKET;
	s->timeout_s = 300;
	s->netmask = 0xffffffff;
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < count; i++) {
			snprintf(text, sizeof(text), "INVITE\nCall-ID:call-%u\n", i);
			astray += !forwarded(ask(HONEST, 5060, PM_PROTO_UDP, 0)) || (round && sent_to != to[i]);
			to[i] = sent_to;
		}
	}
	for (uint32_t i = 0; i < REALS; i++)
		persistent += pm_live(i)->persistent;
	text[0] = 0;
	free(to);
	report("packets of calls astray", method, astray, 2ul * count, 0.0001);
	/* Two of them may have the same hash. */
	bad |= persistent + 100 < count;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	double seconds = argc > 2 ? atof(argv[2]) : 60;
	static const uint8_t methods[] = { PM_METHOD_DR, PM_METHOD_NAT };

	for (int i = 0; i < 2; i++) {
		uint8_t method = methods[i];

		if (!strcmp(name, "short"))
			short_connections(method, seconds);
		else if (!strcmp(name, "lookups"))
			lookups(method, seconds);
		else if (!strcmp(name, "syn"))
			floods(method, 1000000, seconds, "a million SYNs/s", syn);
		else if (!strcmp(name, "forged"))
			floods(method, 50000, seconds, "50,000 forged connections/s of two packets", forged);
		else if (!strcmp(name, "datagrams"))
			floods(method, 100000, seconds, "100,000 single datagrams/s", datagram);
		else if (!strcmp(name, "alone"))
			alone(method, seconds);
		else if (!strcmp(name, "thresholds"))
			thresholds(method);
		else if (!strcmp(name, "growth"))
			growth(method);
		else if (!strcmp(name, "calls"))
			calls(method);
		else if (!strcmp(name, "load"))
			load_growth(method, seconds > 0 ? (uint32_t)seconds : lines);
		else
			return 2;
	}
	return bad;
}
