/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who has a line: not to be taken for free while somebody counts on it, nor taken without need, and not to be acted
 * on for one who had it before. What changes hands does so at a packet's first look, at its second, and so on
 * through the whole packet, as another CPU may do it.
 *
 *     owners
 *
 * Says what was not as it should be; 1 if something was.
 */
#include <stddef.h>
#include "other-cpu.h"
#include "one-service.h"

static int complain(const char *what)
{
	printf("%s\n", what);
	return 1;
}

static const struct pm_key KEY = { .sport = 0xd007, .dport = 0x5000, .protocol = PM_PROTO_TCP,
				   .saddr = { 0x0100000b }, .daddr = { 0x640200c0 } };

/* A persistence template that controls a connection, over its time. */
static void overdue_template(uint32_t index)
{
	struct pm_conn *c = pm_line(4, index);

	c->traits = pm_traits(PM_CONN_TEMPLATE, PM_METHOD_DR, 0);
	c->real = 0;
	c->peer = PM_TEMPLATE_STAYS | 1000;
	*pm_control(4, index) = PM_CONTROL_OPEN | 1;
	*(pm_u64 *)c = pm_head_of(pm_live_word(c->word, 0, PM_CONN_NEW, 0), NOW - 1);
}

/* There is a free line: it is taken, and nobody gives way for a template that stands before it and stays. */
static int beside_a_template(void)
{
	struct pm_place at;
	uint32_t room;
	__u64 line;

	begin(PM_METHOD_DR, 1);
	pm_set_now(now);
	at = pm_place(4, pm_settings(0), &KEY);
	for (uint32_t n = 0; n < PM_LINES; n++)
		occupy(pm_nth(4, &at, 0, n), PM_TCP_CLOSE);
	overdue_template(pm_nth(4, &at, 0, 0));
	room = pm_nth(4, &at, 0, PM_WAYS - 1);
	*(pm_u64 *)pm_line(4, room) = PM_CONN_FREED;
	if (!pm_has_room(4, &at, NOW))
		return complain("a free line beside a template: said to be no room");
	line = pm_claim4(&at, NOW, 1);
	if (line >> 32 != room || *pm_verdicts(PM_EVICTED_ENDED))
		return complain("a free line beside a template: somebody gave way");
	if (!pm_is_live(pm_head(pm_line(4, pm_nth(4, &at, 0, 0)))))
		return complain("a template that controls a connection was taken for free");
	return 0;
}

/* A health check's line stays where it is, so that no line is taken for it, and given back used. */
static int check_stays(void)
{
	uint32_t count, index, clean = 0, after = 0;

	begin(PM_METHOD_DR, 1);
	pm_settings(0)->levels4 = 2;
	send_frame(CLIENT, 2000, VIP, 80, PM_TCP_SYN);
	index = line_of(CLIENT, VIP, &count);
	pm_line(4, index)->traits |= PM_CONN_CHECK;
	pm_settings(0)->levels4 = 1u << (PM_LEVELS_SHIFT + 2);
	for (uint32_t i = 0; i < LINES; i++)
		clean += !pm_line(4, i)->word;
	if (send_frame(CLIENT, 2000, VIP, 80, PM_TCP_ACK) != PM_FORWARD_DR || line_of(CLIENT, VIP, &count) != index)
		return complain("a health check's line in a level that was left: not found, or moved");
	for (uint32_t i = 0; i < LINES; i++)
		after += !pm_line(4, i)->word;
	return after == clean ? 0 : complain("a line was claimed for a health check's that does not move");
}

/* A router's error about an answer to this client port. */
static struct pm_job make_error(uint16_t port)
{
	uint8_t *f = frame + 128;
	struct pm_ipv4 *outer = (void *)(f + PM_ETH_LEN), *quoted;
	struct pm_icmp *icmp = (void *)(outer + 1);
	uint32_t bytes = 2 * PM_IPV4_LEN + PM_ICMP_LEN + 8;
	struct pm_job job = { .data = f - pm_frames, .linear = PM_ETH_LEN + bytes, .length = PM_ETH_LEN + bytes,
			      .ifindex = CLIENTS_WIRE };
	struct pm_frame whole = { .data = f, .end = f + PM_ETH_LEN + bytes };
	__be16 *ports;

	memset(f, 0, PM_ETH_LEN + bytes);
	memset(f, 2, 6);
	f[12] = 8;
	outer->version_ihl = 0x45;
	outer->length = pm_htons(bytes);
	outer->ttl = 64;
	outer->protocol = PM_PROTO_ICMP;
	outer->saddr = pm_htonl(0xcb0071fe);
	outer->daddr = pm_htonl(VIP);
	outer->check = ~pm_fold(pm_sum_ipv4(outer));
	icmp->type = PM_ICMP_UNREACHABLE;
	icmp->code = PM_ICMP_UNREACHABLE_PORT;
	quoted = (void *)(icmp + 1);
	quoted->version_ihl = 0x45;
	quoted->length = pm_htons(PM_IPV4_LEN + PM_TCP_LEN);
	quoted->ttl = 60;
	quoted->protocol = PM_PROTO_TCP;
	quoted->saddr = pm_htonl(VIP);
	quoted->daddr = pm_htonl(CLIENT);
	quoted->check = ~pm_fold(pm_sum_ipv4(quoted));
	ports = (void *)(quoted + 1);
	ports[0] = pm_htons(80);
	ports[1] = pm_htons(port);
	icmp->check = ~pm_fold(pm_sum(&whole, PM_ETH_LEN + PM_IPV4_LEN, bytes - PM_IPV4_LEN));
	pm_set_now(now);
	return job;
}

/* The client's connection ends, and in its line another of another client port begins, to another real server. */
static void another_connection(void)
{
	uint32_t count, index = line_of(CLIENT, VIP, &count);
	struct pm_conn *c;
	uint32_t word;

	if (index == PM_NONE)
		return;
	c = pm_line(4, index);
	word = pm_claimed(pm_head(c), NOW);
	c->word = word;
	c->sport = pm_htons(3000);
	c->real = 1;
	*(pm_u64 *)c = pm_head_of(pm_live_word(word, PM_TCP_ESTABLISHED, PM_CONN_ANSWERED, 0), NOW + 10000);
}

/* An error goes to the real server of the connection that it is about, or to nobody. */
static int error_about_an_earlier_owner(uint8_t method)
{
	const struct pm_ipv4 *ip;
	struct pm_job job;
	unsigned changed = 0;

	for (moment = 0;; moment++) {
		begin(method, 1);
		send_frame(CLIENT, 2000, VIP, 80, PM_TCP_SYN);
		send_frame(CLIENT, 2000, VIP, 80, PM_TCP_ACK);
		job = make_error(2000);
		step = 0;
		other_cpu = another_connection;
		pm_run_batch(&job, 1);
		other_cpu = NULL;
		if (step <= moment)
			break;
		ip = (void *)(pm_frames + job.data + job.moved + PM_ETH_LEN);
		changed += job.verdict == PM_PASS_ICMP;
		if (job.verdict != PM_PASS_ICMP &&
		    (job.verdict != PM_FORWARD_ICMP || pm_counters(1)->in_packets ||
		     (method == PM_METHOD_NAT && ip->daddr != pm_htonl(REAL)))) {
			printf("moment %u, verdict %u: ", moment, job.verdict);
			return complain("an error went to the real server of another connection");
		}
	}
	return job.verdict == PM_FORWARD_ICMP && changed ? 0 : complain("an error: never in between, or not sent on");
}

/* A fragment of a datagram of the client's: 24 bytes from `offset`. */
static struct pm_job make_fragment(uint16_t id, uint16_t port, uint32_t offset, int more)
{
	uint8_t *f = frame + 128;
	struct pm_ipv4 *ip = (void *)(f + PM_ETH_LEN);
	struct pm_udp *udp = (void *)(ip + 1);
	uint32_t bytes = PM_IPV4_LEN + 24;
	struct pm_job job = { .data = f - pm_frames, .linear = PM_ETH_LEN + bytes, .length = PM_ETH_LEN + bytes,
			      .ifindex = CLIENTS_WIRE };

	memset(f, 0, PM_ETH_LEN + bytes);
	memset(f, 2, 6);
	f[12] = 8;
	ip->version_ihl = 0x45;
	ip->length = pm_htons(bytes);
	ip->id = pm_htons(id);
	ip->fragment = pm_htons(offset / 8 | (more ? PM_IPV4_MF : 0));
	ip->ttl = 64;
	ip->protocol = PM_PROTO_UDP;
	ip->saddr = pm_htonl(CLIENT);
	ip->daddr = pm_htonl(VIP);
	ip->check = ~pm_fold(pm_sum_ipv4(ip));
	if (!offset) {
		udp->sport = pm_htons(port);
		udp->dport = pm_htons(80);
		udp->length = pm_htons(72);
	}
	pm_set_now(now);
	return job;
}

static uint32_t send_fragment(uint16_t id, uint16_t port, uint32_t offset, int more)
{
	struct pm_job job = make_fragment(id, port, offset, more);

	pm_run_batch(&job, 1);
	return job.verdict;
}

enum { EARLIER = 7, LATER = 8 };

/* The note of a datagram, by its identification. */
static struct pm_fragment *note_of(uint16_t id)
{
	for (uint32_t i = 0; i < PM_FRAGMENTS; i++)
		if (pm_fragments(i)->version && pm_fragments(i)->id == pm_htons(id))
			return pm_fragments(i);
	return NULL;
}

/* In place of the earlier datagram's note stands that of a later one, from another port. */
static void another_datagram(void)
{
	struct pm_fragment *n = note_of(EARLIER);
	struct pm_key k = { .saddr = { pm_htonl(CLIENT) }, .daddr = { pm_htonl(VIP) }, .sport = pm_htons(3000),
			    .dport = pm_htons(80), .protocol = PM_PROTO_UDP };
	struct pm_extent x = { .id = pm_htons(LATER), .bytes = 24, .more = 1 };

	if (n && !(pm_note_head(n) & 1))
		pm_write_note(n, pm_note_head(n), 4, &k, &x, NOW);
}

/*
 * A fragment is taken for none of another datagram, and changes nothing that is noted of it, whenever the one takes
 * the place of the other. The first is `refused`: then that is not to be said of the later datagram.
 */
static int note_of_an_earlier_owner(uint32_t offset, int more, int refused)
{
	unsigned changed = 0;

	for (moment = 0;; moment++) {
		struct pm_fragment *n;
		uint32_t count, verdict;
		struct pm_conn *c;

		begin_as(PM_PROTO_UDP, PM_METHOD_DR, 1);
		/* A connection of the later datagram's, to another real server. */
		send_fragment(LATER, 3000, 0, 1);
		c = pm_line(4, line_of(CLIENT, VIP, &count));
		if (!c || c->sport != pm_htons(3000))
			return complain("no connection was made by a fragment");
		c->real = 1;
		memset(pm_fragments(0), 0, PM_FRAGMENTS * sizeof(*n));
		if (offset)
			send_fragment(EARLIER, 2000, 0, 1);
		pm_schedules(0)->count = !refused;
		step = 0;
		other_cpu = another_datagram;
		verdict = send_fragment(EARLIER, 2000, offset, more);
		other_cpu = NULL;
		if (step <= moment)
			break;
		n = note_of(LATER);
		changed += n != NULL;
		if (pm_counters(1)->in_packets) {
			printf("moment %u, verdict %u: ", moment, verdict);
			return complain("a fragment went where another datagram went");
		}
		if (n && (pm_fate_of(n->fate) != PM_FATE_FOLLOW || (n->got & PM_PROGRESS_BYTES) != 24 ||
			  (*pm_note_progress(n) >> PM_PROGRESS_TOTAL_SHIFT & PM_PROGRESS_BYTES))) {
			printf("moment %u, verdict %u, fate %u, got %u: ", moment, verdict, pm_fate_of(n->fate), n->got);
			return complain("a fragment changed what was noted of another datagram");
		}
	}
	return changed ? 0 : complain("fragments: never in between");
}

/* Fragments of one datagram are counted until the last gap is filled. */
static int datagram_is_done(void)
{
	begin_as(PM_PROTO_UDP, PM_METHOD_DR, 1);
	send_fragment(EARLIER, 2000, 0, 1);
	send_fragment(EARLIER, 2000, 48, 0);
	if (pm_fate_of(note_of(EARLIER)->fate) != PM_FATE_FOLLOW)
		return complain("a datagram with a gap is done");
	send_fragment(EARLIER, 2000, 24, 1);
	if (pm_fate_of(note_of(EARLIER)->fate) != PM_FATE_DONE || pm_counters(0)->in_packets != 1)
		return complain("a datagram without a gap is not done, or was counted more than once");
	return 0;
}

static uint8_t way; /* to CLIENT; to everybody else nothing changes */

static __u32 by_way(struct pm_fib *q)
{
	__u32 rc = fib(q);

	if (*(__be32 *)q->daddr == pm_htonl(CLIENT))
		q->dmac[5] = way;
	return rc;
}

/* Where an answer of the real server to this client goes: the last byte of the next hop's address. */
static uint8_t answer_to(uint32_t client, uint8_t flags)
{
	struct pm_job job = make_frame(REAL, 80, client, 2000, flags, 0);

	pm_run_batch(&job, 1);
	return job.verdict == PM_FORWARD_NAT_REPLY ? pm_frames[job.data + job.moved + 5] : 0;
}

/*
 * The way to a client changes, then so many epochs go by that the present one looks to its line like the last it
 * knows, while others still go the old way. `first`: what the client sends before it is answered.
 */
static int old_way(int first)
{
	uint8_t went;

	begin(PM_METHOD_NAT, 1);
	pm_fib_hook = by_way;
	now = NOW;
	way = 0x22;
	for (uint32_t client = CLIENT; client <= CLIENT + 1; client++) {
		send_frame(client, 2000, VIP, 80, PM_TCP_SYN);
		answer_to(client, PM_TCP_SYN | PM_TCP_ACK);
		send_frame(client, 2000, VIP, 80, PM_TCP_ACK);
		if (answer_to(client, PM_TCP_ACK) != 0x22)
			return complain("an answer went nowhere");
	}
	way = 0x33;
	pm_settings(0)->next_hop_epoch += 32 - ((NOW + PM_EPOCH_MEMORY + 2) >> PM_EPOCH_SHIFT) + (NOW >> PM_EPOCH_SHIFT);
	now = NOW + PM_EPOCH_MEMORY + 1;
	answer_to(CLIENT + 1, PM_TCP_ACK);
	if (first)
		send_frame(CLIENT, 2000, VIP, 80, first);
	now++;
	went = answer_to(CLIENT, PM_TCP_ACK);
	now = NOW;
	if (went == 0x33)
		return 0;
	printf("after flags %x, by %x: ", first, went);
	return complain("an answer went by a way that was its client's 32 epochs ago");
}

int main(void)
{
	int bad = 0;

	bad |= beside_a_template();
	bad |= check_stays();
	bad |= error_about_an_earlier_owner(PM_METHOD_NAT);
	bad |= error_about_an_earlier_owner(PM_METHOD_DR);
	bad |= old_way(0);
	bad |= old_way(PM_TCP_ACK);
	bad |= old_way(PM_TCP_FIN | PM_TCP_ACK);
	bad |= datagram_is_done();
	bad |= note_of_an_earlier_owner(24, 1, 0);
	bad |= note_of_an_earlier_owner(48, 0, 0);
	bad |= note_of_an_earlier_owner(16, 1, 0);
	bad |= note_of_an_earlier_owner(0, 1, 1);
	return bad;
}
