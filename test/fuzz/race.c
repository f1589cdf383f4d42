/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet program on several threads over small connection tables, which are full all the time: claims,
 * evictions, expiry, changes of state and of next hops meet in every line, and a thread may have to wait
 * anywhere between two looks at one. No flow is on two threads, as receive queues keep it, but the answers of
 * real servers are. Afterwards the counts must be what the lines say, and no packet may have gone to the real
 * server of another connection.
 *
 *     race SECONDS LINES SEED CLIENTS
 *
 * Prints what it did; 1 if something is not true.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Between any two steps another thread may run, also on a machine of one CPU. */
static _Thread_local uint64_t dice = 1;
static void any_cpu(void)
{
	dice = dice * 6364136223846793005ull + 1442695040888963407ull;
	if (!(dice >> 57))
		sched_yield();
}
#define PM_STEP() any_cpu()

#include "../../bpf/pointsman.native.c"

enum { THREADS = 4, SERVICES = 4, REALS = 8, BUCKETS = 4, SEATS = 40, MEMBERS = 128 * SERVICES, FRAME = 2048, PATIENCE = 10, LOOK_NS = 10000000 };
#define VIP 0xc0000264u
#define REAL 0x0a00020au /* the first real server; the others follow */
#define CLIENT 0x0c000000u

/* Of the table, as long as each has two sets at least. */
#define LEVELS (lines >= 4 * 2 * PM_WAYS ? 3u : lines >= 2 * 2 * PM_WAYS ? 2u : 1u)

static uint32_t lines, clients = 512; /* of each thread */
static uint64_t first_seed;
static atomic_uint now = 1000;
static atomic_int done, halt;
static pthread_barrier_t stopped, goes_on; /* everybody stands still in between, and main() looks */
static _Atomic unsigned long right, wrong, refused, answers, sent;

/* The next hop's last byte is the real server's: a packet that leaves by another's shows. */
static __u32 fib(struct pm_fib *q)
{
	any_cpu();
	q->ifindex = 3;
	memset(q->dmac, 0, 6);
	q->dmac[5] = q->daddr[3];
	memset(q->smac, 0x21, 6);
	q->mtu = 1500;
	return PM_FIB_OK;
}

static void make_maps(void)
{
	static const size_t sizes[] = {
#define PM_SIZE(name, record, size) sizeof(record),
		PM_MAPS(PM_SIZE)
	};
	uint32_t entries[PM_REGIONS] = {
		[PM_REGION_settings] = 1,	    [PM_REGION_interfaces] = PM_INTERFACES,
		[PM_REGION_services] = SERVICES,    [PM_REGION_service_index] = BUCKETS,
		[PM_REGION_schedules] = 2 * SERVICES, [PM_REGION_members] = MEMBERS,
		[PM_REGION_reals] = REALS,	    [PM_REGION_live] = REALS,
		[PM_REGION_counters] = REALS * THREADS, [PM_REGION_connections4] = lines,
		[PM_REGION_connections6] = PM_WAYS, [PM_REGION_verdicts] = PM_VERDICT_MAX * THREADS,
		[PM_REGION_locals] = PM_LOCALS,	    [PM_REGION_interest] = PM_INTEREST_WORDS,
		[PM_REGION_nat_index] = BUCKETS,    [PM_REGION_cpus] = THREADS,
		[PM_REGION_hops] = REALS,	    [PM_REGION_controls4] = lines / PM_WAYS,
		[PM_REGION_controls6] = 1,	    [PM_REGION_neighbours] = PM_NEIGHBOURS,
		[PM_REGION_gates] = SERVICES,
	};
	struct pm_settings *set;

	for (int i = 0; i < PM_REGIONS; i++) {
		size_t bytes = (entries[i] * sizes[i] + 63) & ~(size_t)63;
		void *base = aligned_alloc(64, bytes);

		memset(base, 0, bytes);
		pm_map_set(i, base, entries[i]);
	}
	pm_limits = (struct pm_limits){
		.cpus = THREADS,
		.conn4_mask = lines / PM_WAYS - 1,
		.service_mask = BUCKETS - 1,
		.nat_mask = BUCKETS - 1,
	};
	set = pm_settings(0);
	set->flags = PM_SETTING_READY | PM_SETTING_V4 | PM_SETTING_EXPIRE_QUIESCENT | PM_SETTING_LIMITS;
	set->reuse_mode = 1;
	set->hash_seed = 0x1234567;
	/* Short: lines expire under the packets too. */
	for (int i = 0; i < PM_TIMEOUTS; i++)
		set->timeouts[i] = 40 + 10 * i;
	for (uint32_t ifindex = 2; ifindex <= 3; ifindex++) {
		struct pm_interface *nic = pm_interfaces(ifindex);

		nic->ifindex = ifindex;
		memset(nic->mac, 2, 6);
	}
}

/*
 * Services 0 and 1: NAT, TCP and UDP; 2 and 3: direct routing. Two real servers each. 1 and 2 are persistent, 2 for
 * clients of all threads together. Of 0 and 3 each such source has few connections at a time.
 */
#define AT_A_TIME 3
#define SOURCE_LENGTH 29
static void add_service(uint32_t slot)
{
	struct pm_schedule *schedule = pm_schedules(2 * slot);
	struct pm_service *s = pm_services(slot);
	uint32_t h;

	s->slot = PM_SLOT_LIVE;
	s->family = 4;
	s->protocol = slot & 1 ? PM_PROTO_UDP : PM_PROTO_TCP;
	s->port = pm_htons(80 + slot);
	*(__be32 *)s->addr = pm_htonl(VIP);
	s->schedule = slot & 1 ? PM_SCHEDULER_LC : PM_SCHEDULER_RR;
	if (slot == 1 || slot == 2) {
		s->flags = PM_SERVICE_PERSISTENT;
		s->netmask = slot == 1 ? 0xffffffff : 0xfffffff8;
		s->timeout_s = 1;
	}
	s->order = slot + 1;
	if (slot == 0 || slot == 3)
		*pm_gates(slot) = (struct pm_gate){ .order = s->order, .connections = AT_A_TIME, .length = SOURCE_LENGTH };
	schedule->first = slot * 128;
	schedule->count = 2;
	/* Their seats are far from each other, and nobody takes anything in between: they meet in the final. */
	if (s->schedule == PM_SCHEDULER_LC) {
		schedule->count = SEATS;
		schedule->table_first = schedule->first + SEATS;
		schedule->bracket = 6;
		schedule->unplayed = 63;
	}
	for (uint32_t n = 0; n < 2; n++) {
		uint32_t index = 2 * slot + n;
		struct pm_real *r = pm_reals(index);

		r->slot = PM_SLOT_LIVE;
		r->service = slot;
		r->family = 4;
		r->method = slot < 2 ? PM_METHOD_NAT : PM_METHOD_DR;
		r->weight = 1;
		r->upper = slot == 2 ? lines / 8 : 0;
		r->port = slot < 2 ? pm_htons(8000 + slot) : s->port;
		*(__be32 *)r->addr = pm_htonl(REAL + index);
		*pm_members(schedule->first + n * (schedule->count - 1)) = (struct pm_member){ .real = index, .weight = 1 };
		if (schedule->bracket)
			pm_live(index)->seat = n ? 1 : SEATS;
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

struct wire {
	uint32_t saddr, daddr, ifindex;
	uint16_t sport, dport;
	uint8_t protocol, flags;
};

/* Sends a frame of this thread's; its verdict. The frame is at `f` afterwards. */
static uint32_t send_frame(uint32_t thread, uint8_t *f, const struct wire *w)
{
	uint32_t bytes = PM_IPV4_LEN + (w->protocol == PM_PROTO_TCP ? PM_TCP_LEN : PM_UDP_LEN);
	struct pm_ipv4 *ip = (void *)(f + PM_ETH_LEN);
	struct pm_job job = { .data = f - pm_frames, .linear = PM_ETH_LEN + bytes, .length = PM_ETH_LEN + bytes,
			      .ifindex = w->ifindex };

	(void)thread;
	memset(f, 0, PM_ETH_LEN + bytes);
	memset(f, 2, 6);
	f[12] = 8;
	ip->version_ihl = 0x45;
	ip->length = pm_htons(bytes);
	ip->ttl = 64;
	ip->protocol = w->protocol;
	ip->saddr = pm_htonl(w->saddr);
	ip->daddr = pm_htonl(w->daddr);
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	if (w->protocol == PM_PROTO_TCP) {
		struct pm_tcp *tcp = (void *)(ip + 1);

		tcp->sport = pm_htons(w->sport);
		tcp->dport = pm_htons(w->dport);
		tcp->flags = w->flags;
	} else {
		struct pm_udp *udp = (void *)(ip + 1);

		udp->sport = pm_htons(w->sport);
		udp->dport = pm_htons(w->dport);
		udp->length = pm_htons(PM_UDP_LEN);
		udp->check = 1;
	}
	pm_set_now(atomic_load_explicit(&now, memory_order_relaxed));
	pm_run_batch(&job, 1);
	atomic_fetch_add_explicit(&sent, 1, memory_order_relaxed);
	return job.verdict;
}

/* Between two packets: stands still while main() looks at the lines. */
static void at_ease(void)
{
	if (!atomic_load_explicit(&halt, memory_order_relaxed))
		return;
	pthread_barrier_wait(&stopped);
	pthread_barrier_wait(&goes_on);
}

static const uint8_t flags_of[] = { PM_TCP_SYN, PM_TCP_SYN, PM_TCP_ACK, PM_TCP_ACK,
				    PM_TCP_ACK, PM_TCP_ACK | PM_TCP_FIN, PM_TCP_ACK | PM_TCP_RST, PM_TCP_ACK };

static void *client(void *arg)
{
	uint32_t thread = (uintptr_t)arg;
	uint8_t *f = pm_frames + thread * FRAME + 256;
	uint64_t seed = dice = 0x9E3779B97F4A7C15ull * (thread + 1) + first_seed * 0xBF58476D1CE4E5B9ull;

	pm_set_cpu(thread);
	while (!atomic_load_explicit(&done, memory_order_relaxed)) {
		uint32_t n, slot, verdict, to;
		struct wire w;

		at_ease();
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		n = (seed >> 33) % clients * THREADS + thread;
		slot = (seed >> 60) & 3;
		w = (struct wire){ .saddr = CLIENT + n, .daddr = VIP, .ifindex = 2, .sport = 2000, .dport = 80 + slot,
				   .protocol = slot & 1 ? PM_PROTO_UDP : PM_PROTO_TCP,
				   .flags = flags_of[seed >> 50 & 7] };
		if ((seed >> 40 & 3) == 3 && slot < 2) {
			/* Any real server's answer to any client: mostly it belongs to no connection. */
			uint32_t real = 2 * slot + (seed >> 48 & 1), whom = (seed >> 20) % (clients * THREADS);

			w.daddr = CLIENT + whom;
			w.saddr = REAL + real;
			w.dport = 2000;
			w.sport = 8000 + slot;
			w.ifindex = 3;
			verdict = send_frame(thread, f, &w);
			if (verdict != PM_FORWARD_NAT_REPLY)
				continue;
			atomic_fetch_add(&answers, 1);
			to = pm_ntohl(((struct pm_ipv4 *)(f + PM_ETH_LEN))->saddr);
			if (to != VIP || f[5] != (uint8_t)(CLIENT + whom) || (uint32_t)(f[34] << 8 | f[35]) != 80 + slot)
				atomic_fetch_add(&wrong, 1);
			continue;
		}
		verdict = send_frame(thread, f, &w);
		if (verdict == PM_DROP_TABLE_FULL)
			atomic_fetch_add(&refused, 1);
		if (verdict != PM_FORWARD_DR && verdict != PM_FORWARD_NAT)
			continue;
		/* To a real server of this service, by that one's next hop. */
		to = pm_ntohl(((struct pm_ipv4 *)(f + PM_ETH_LEN))->daddr);
		if ((uint8_t)(f[5] - (uint8_t)REAL) / 2 != slot ||
		    to != (slot < 2 ? REAL - (uint8_t)REAL + f[5] : VIP))
			atomic_fetch_add(&wrong, 1);
		else
			atomic_fetch_add(&right, 1);
	}
	return NULL;
}

/* Time goes by, routes change; a real server's weight is taken away and given back. */
static void *world(void *arg)
{
	(void)arg;
	dice = 99;
	while (!atomic_load_explicit(&done, memory_order_relaxed)) {
		at_ease();
		nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
		atomic_fetch_add(&now, 1);
		if (!(dice >> 60))
			pm_settings(0)->next_hop_epoch++;
		/* The table shrinks and grows: lines may stand in all of its levels. */
		if (LEVELS > 1 && !(dice >> 58 & 15))
			pm_settings(0)->levels4 = ((1u << LEVELS) - 1) << PM_LEVELS_SHIFT | (dice >> 40) % LEVELS;
		if (!(dice >> 57 & 15))
			pm_reals(4)->weight = !pm_reals(4)->weight;
		any_cpu();
	}
	return NULL;
}

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Live lines whose key another live line has: it was not found where it stands, and made a second time. */
static unsigned doubles(void)
{
	unsigned twice = 0;

	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn4 *one = (void *)pm_line(4, i);

		for (uint32_t n = i + 1; n < lines && pm_is_live(one->c.word); n++) {
			const struct pm_conn4 *other = (void *)pm_line(4, n);

			twice += pm_is_live(other->c.word) && pm_kind_of(one->c.traits) != PM_CONN_TEMPLATE && one->saddr == other->saddr && one->daddr == other->daddr &&
				 one->c.sport == other->c.sport && one->c.dport == other->c.dport &&
				 one->c.protocol == other->c.protocol;
		}
	}
	return twice;
}

/* Sources that were met in all. */
static unsigned long sources;

/* Templates whose count is not that of their connections, and connections that are not where theirs leads. */
static unsigned misled(unsigned *templates)
{
	uint32_t *met = calloc(lines, sizeof(*met));
	unsigned bad = 0;

	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn *c = pm_line(4, i), *template;
		uint32_t of = *pm_control(4, i);

		if (!pm_is_live(c->word) || pm_kind_of(c->traits) != PM_CONN_IN || !(c->traits & PM_CONN_CONTROLLED))
			continue;
		template = of < lines ? pm_line(4, of) : NULL;
		if (template && pm_is_live(template->word) && pm_kind_of(template->traits) == PM_CONN_TEMPLATE &&
		    template->real == (pm_state(template->word) & PM_TEMPLATE_SOURCE ? PM_NONE : c->real))
			met[of]++;
		else
			bad++;
	}
	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn *c = pm_line(4, i);
		int is = pm_is_live(c->word) && pm_kind_of(c->traits) == PM_CONN_TEMPLATE;

		*templates += is;
		bad += is ? *pm_control(4, i) != (PM_CONTROL_OPEN | met[i]) : *pm_control(4, i) >> 31;
		if (is && (pm_state(c->word) & PM_TEMPLATE_SOURCE)) {
			sources++;
			bad += met[i] > AT_A_TIME;
		}
	}
	free(met);
	return bad;
}

/* Brackets that lead to another real server than a walk over the members, while everybody stands still. */
static unsigned misjudged(void)
{
	unsigned bad = 0;

	for (uint32_t slot = 0; slot < SERVICES; slot++) {
		struct pm_schedule *schedule = pm_schedules(2 * slot);
		struct pm_walk w = { .first = schedule->first, .kind = PM_SCHEDULER_LC, .real = PM_NONE };

		if (!schedule->bracket || schedule->unplayed)
			continue;
		pm_loop(schedule->count, pm_walk_least, &w);
		bad += pm_final(2 * slot, PM_SCHEDULER_LC) != w.real;
	}
	return bad;
}

/* Whether a line is where a search looks first for its key. */
static int stands_at_home(uint32_t index)
{
	struct pm_key k = { 0 };
	struct pm_place at;

	pm_line_key(4, pm_line(4, index), &k);
	at = pm_place(4, pm_settings(0), &k);
	return pm_is_within(4, &at, index);
}

int main(int argc, char **argv)
{
	uint32_t active[REALS] = { 0 }, inactive[REALS] = { 0 }, persistent[REALS] = { 0 };
	int seconds = argc > 1 ? atoi(argv[1]) : 5, bad = 0;
	pthread_t threads[THREADS + 1];
	unsigned claimed = 0, held = 0, twice = 0, looks = 0, moved = 0, live = 0, astray = 0, templates = 0, unjust = 0;
	double end, last;

	lines = argc > 2 ? atoi(argv[2]) : 64;
	first_seed = argc > 3 ? atoi(argv[3]) : 0;
	clients = argc > 4 ? atoi(argv[4]) : clients;
	make_maps();
	for (uint32_t slot = 0; slot < SERVICES; slot++)
		add_service(slot);
	pm_fib_hook = fib;
	pm_frames = calloc(THREADS, FRAME);
	pthread_barrier_init(&stopped, NULL, THREADS + 2);
	pthread_barrier_init(&goes_on, NULL, THREADS + 2);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, client, (void *)i);
	pthread_create(&threads[THREADS], NULL, world, NULL);
	end = seconds_now() + seconds;
	/* On a machine that is busy with other things it takes longer until anything has happened at all. */
	last = end + seconds * (PATIENCE - 1);
	while (!atomic_load(&done)) {
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		atomic_store(&halt, 1);
		pthread_barrier_wait(&stopped);
		twice += doubles();
		astray += misled(&templates);
		unjust += misjudged();
		looks++;
		atomic_store(&halt, 0);
		if (seconds_now() >= last || (seconds_now() >= end && atomic_load(&right) && atomic_load(&answers)))
			atomic_store(&done, 1);
		pthread_barrier_wait(&goes_on);
	}
	for (int i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn *c = pm_line(4, i);

		claimed += pm_status(c->word) == PM_CONN_CLAIMED;
		if (!pm_is_live(c->word))
			continue;
		held += !!(c->word & PM_CONN_HELD);
		if (pm_kind_of(c->traits) == PM_CONN_IN)
			(c->word & PM_CONN_ACTIVE ? active : inactive)[c->real]++;
		if (pm_kind_of(c->traits) == PM_CONN_TEMPLATE && c->real != PM_NONE)
			persistent[c->real]++;
	}
	for (uint32_t i = 0; i < lines; i++) {
		const struct pm_conn4 *one = (void *)pm_line(4, i);

		moved += pm_is_live(one->c.word) && stands_at_home(i);
		live += pm_is_live(one->c.word);
	}
	printf("%u lines: %lu packets in all, %lu to their real server, %lu answers, %lu refused, %lu elsewhere; claimed %u, held %u; twice %u in %u looks; %u templates, %lu of sources, %u times not as counted; %u times not whom a walk finds; %u of %u in the last level; counted less met (active/inactive/templates):",
	       lines, sent, right, answers, refused, wrong, claimed, held, twice, looks, templates, sources, astray, unjust, moved, live);
	for (uint32_t i = 0; i < REALS; i++) {
		const struct pm_live *live = pm_live(i);
		uint32_t total = live->active + live->inactive, upper = pm_reals(i)->upper;

		printf(" %d/%d/%d", (int)(live->active - active[i]), (int)(live->inactive - inactive[i]),
		       (int)(live->persistent - persistent[i]));
		bad |= live->active != active[i] || live->inactive != inactive[i] ||
		       live->persistent != persistent[i];
		if (upper && total < upper - upper / 4 && live->overloaded) {
			printf(" (overloaded by %u of %u)", total, upper);
			bad = 1;
		}
	}
	printf("\n");
	return bad || wrong || claimed || held || twice || astray || unjust || !templates || !sources || !right || !answers;
}
