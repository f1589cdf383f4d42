/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A connection's line is moved while a packet of that connection is looking for it: at its first look, at its
 * second, and so on through the whole packet, as another CPU may do it. Wherever that comes in between, the
 * packet is to be sent on, and the connection is to be one.
 *
 *     moved
 *
 * Prints how many moments there were; 1 if a packet was not sent on, or a connection doubled.
 */
static void any_cpu(void);
#define PM_STEP() any_cpu()

#include "one-service.h"

enum { SMALLER = 2 };

enum how { OTHER_SET, OTHER_LEVEL };

static uint32_t step, moment, key_source, key_destination;
static enum how how;
static int armed, moved;

/* To its other set, as a packet does it that finds both of its own full. */
static int to_other_set(uint32_t index)
{
	struct pm_place at = { .set = { index / PM_WAYS, index / PM_WAYS },
			       .level = pm_settings(0)->levels4 & PM_LEVEL };

	return pm_displace(4, &at, index % PM_WAYS, pm_now());
}

/* The table becomes larger, and another packet of the connection finds the line. */
static int to_other_level(uint32_t index)
{
	struct pm_settings *set = pm_settings(0);
	struct pm_conn *c = pm_line(4, index);
	struct pm_key k = {};
	struct pm_place at;
	__u64 head;

	set->levels4 = 1u << (PM_LEVELS_SHIFT + SMALLER);
	pm_line_key(4, c, &k);
	at = pm_place(4, set, &k);
	head = pm_head(c);
	return pm_at_home(4, c, &at, &k, &index, &head) != NULL;
}

static void move(void)
{
	uint32_t count, index = line_of(key_source, key_destination, &count);

	moved = index != PM_NONE && (how == OTHER_SET ? to_other_set(index) : to_other_level(index));
}

static void any_cpu(void)
{
	if (!armed || step++ != moment)
		return;
	armed = 0;
	move();
	armed = 1;
}

static uint32_t from_client(uint8_t flags)
{
	return send_frame(CLIENT, 2000, VIP, 80, flags);
}

static int full; /* full NAT */

static uint32_t from_server(uint8_t flags)
{
	return full ? send_frame(REAL, 80, OURS, 5000, flags) : send_frame(REAL, 80, CLIENT, 2000, flags);
}

/* Whom answers are addressed to. */
static uint32_t asker(void)
{
	return full ? OURS : CLIENT;
}

static const char *name_of(uint8_t method)
{
	return method == PM_METHOD_DR ? "DR" : method == PM_METHOD_NAT ? "NAT" : "full NAT";
}

static void begin_with(uint8_t method, uint32_t seed)
{
	begin(method, seed);
	full = method == PM_METHOD_FULL_NAT;
	have_port(5000, 1);
}

/* State and class of the live line from here to there. */
static uint32_t state_of(uint32_t saddr, uint32_t daddr)
{
	uint32_t count, index = line_of(saddr, daddr, &count);

	return index == PM_NONE ? PM_NONE :
				  pm_line(4, index)->word & (PM_CONN_STATE_MASK << PM_CONN_STATE_SHIFT |
							     PM_CONN_CLASS_MASK << PM_CONN_CLASS_SHIFT);
}

/* A connection that is established, and the packet of it that lines are moved during. */
static void establish(uint8_t method, uint32_t seed)
{
	begin_with(method, seed);
	if (how == OTHER_LEVEL)
		pm_settings(0)->levels4 = SMALLER;
	from_client(PM_TCP_SYN);
	if (pm_translates(method))
		from_server(PM_TCP_SYN | PM_TCP_ACK);
	from_client(PM_TCP_ACK);
	from_client(PM_TCP_ACK);
}

/*
 * Every moment of one packet: of an answer (1), and its other direction's line moves instead of its own (2). Returns how many of them there were in which the line was moved.
 */
static uint32_t every_moment(uint8_t method, int reply, int first_from_other, uint8_t flags, uint32_t seed, int *bad)
{
	uint32_t moments = 0, state, copy, active;

	establish(method, seed);
	if (reply & 1)
		from_server(flags);
	else
		from_client(flags);
	state = state_of(CLIENT, VIP);
	copy = state_of(REAL, asker());
	active = pm_live(0)->active;

	for (moment = 0;; moment++) {
		uint32_t verdict, count, others, expected = method == PM_METHOD_DR ? PM_FORWARD_DR :
							    reply & 1		  ? PM_FORWARD_NAT_REPLY :
										    PM_FORWARD_NAT;

		establish(method, seed);
		key_source = (reply & 1) ^ (reply >> 1) ? REAL : CLIENT;
		key_destination = (reply & 1) ^ (reply >> 1) ? asker() : VIP;
		moved = 0;
		if (first_from_other)
			move();
		step = moved = 0;
		armed = 1;
		verdict = reply & 1 ? from_server(flags) : from_client(flags);
		armed = 0;
		if (step <= moment)
			return moments;
		moments += moved;
		line_of(CLIENT, VIP, &count);
		line_of(REAL, asker(), &others);
		if (verdict == expected && count == 1 && others == (uint32_t)pm_translates(method) &&
		    pm_live(0)->active == active && pm_live(0)->inactive == 1 - active &&
		    state_of(CLIENT, VIP) == state && state_of(REAL, asker()) == copy)
			continue;
		printf("%s%s, %s%s, flags %x, seed %u, moment %u: verdict %u, %u lines, %u of the other direction, counted %u/%u, state %x for %x, its copy %x for %x\n",
		       name_of(method), reply & 1 ? " answer" : "",
		       how == OTHER_SET ? "to the other set" : "to another level", first_from_other ? " and back" : "",
		       flags, seed, moment, verdict, count, others, pm_live(0)->active, pm_live(0)->inactive,
		       state_of(CLIENT, VIP), state, state_of(REAL, asker()), copy);
		*bad = 1;
	}
}

/* Every moment of a connection's first packet: it may be refused, to be sent again, but what it makes is whole. */
static uint32_t every_moment_of_the_first(uint8_t method, int reply, uint32_t seed, int *bad)
{
	uint32_t moments = 0;

	for (moment = 0;; moment++) {
		uint32_t first, answer, count, others;

		begin_with(method, seed);
		if (how == OTHER_LEVEL)
			pm_settings(0)->levels4 = SMALLER;
		key_source = reply ? REAL : CLIENT;
		key_destination = reply ? asker() : VIP;
		step = moved = 0;
		armed = 1;
		first = from_client(PM_TCP_SYN);
		armed = 0;
		if (step <= moment)
			return moments;
		moments += moved;
		if (first == PM_DROP_TABLE_FULL || first == PM_DROP_CONNECTION_BUSY)
			first = from_client(PM_TCP_SYN);
		answer = pm_translates(method) ? from_server(PM_TCP_SYN | PM_TCP_ACK) : PM_FORWARD_NAT_REPLY;
		line_of(CLIENT, VIP, &count);
		line_of(REAL, asker(), &others);
		if (first == (method == PM_METHOD_DR ? PM_FORWARD_DR : PM_FORWARD_NAT) && answer == PM_FORWARD_NAT_REPLY &&
		    count == 1 && others == (uint32_t)pm_translates(method) && pm_live(0)->active == 1 && !pm_live(0)->inactive)
			continue;
		printf("%s%s, %s, seed %u, moment %u of the first: verdict %u, answer %u, %u lines, %u for answers, counted %u/%u\n",
		       name_of(method), reply ? " answer" : "",
		       how == OTHER_SET ? "to the other set" : "to another level", seed, moment, first, answer, count,
		       others, pm_live(0)->active, pm_live(0)->inactive);
		*bad = 1;
	}
}

/* A frame that comes again as a whole moves no line: its headers have done what there was to do. */
static int comes_again(void)
{
	struct pm_job job;
	uint32_t moves;

	establish(PM_METHOD_DR, 1);
	ttl = 1; /* to be answered with a quote of all of it */
	job = make_frame(CLIENT, 2000, VIP, 80, PM_TCP_ACK, 10);
	ttl = 64;
	pm_run_batch(&job, 1);
	if (job.action != PM_ACTION_AGAIN || !(job.flags & PM_JOB_RESUMED)) {
		printf("a frame of which the headers came: action %u, flags %x\n", job.action, job.flags);
		return 1;
	}
	pm_settings(0)->levels4 = 1u << (PM_LEVELS_SHIFT + SMALLER); /* grown meanwhile */
	moves = pm_settings(0)->moves;
	job.linear = job.length;
	pm_run_batch(&job, 1);
	if (job.verdict == PM_ANSWER_TIME_EXCEEDED && pm_settings(0)->moves == moves)
		return 0;
	printf("a frame that came again: verdict %u, %u lines moved\n", job.verdict, pm_settings(0)->moves - moves);
	return 1;
}

/*
 * Answers of one real server to one client port are the newer connection's. The older one's line can be moved, too:
 * else it would keep the level that it stands in searched for. While its other line is being written, it stays.
 */
static int moves_alone(void)
{
	uint32_t count, index, reply;
	__u64 head;
	int bad = 0;

	establish(PM_METHOD_NAT, 1);
	index = line_of(CLIENT, VIP, &count);
	reply = pm_line(4, index)->peer;
	head = pm_head(pm_line(4, reply));
	*(pm_u64 *)pm_line(4, reply) = pm_claimed(head, pm_now());
	bad |= how == OTHER_SET ? to_other_set(index) : (to_other_level(index), line_of(CLIENT, VIP, &count) != index);
	if (bad)
		printf("moved while its other line was being written\n");
	*(pm_u64 *)pm_line(4, reply) = head;
	pm_line(4, reply)->peer = LINES - 1;
	if (how == OTHER_SET)
		to_other_set(index);
	else
		to_other_level(index);
	if (line_of(CLIENT, VIP, &count) != index && count == 1 && pm_head(pm_line(4, reply)) == head &&
	    pm_line(4, reply)->peer == LINES - 1 && pm_line(4, line_of(CLIENT, VIP, &count))->peer == PM_NONE &&
	    pm_live(0)->active == 1 && !pm_live(0)->inactive)
		return bad;
	printf("%s: a line whose other line is not its own does not move\n",
	       how == OTHER_SET ? "to the other set" : "to another level");
	return 1;
}

/* Nobody gives way before the whole table is in use, however many levels of it are full for a key. */
static int grows_thrice(void)
{
	struct pm_settings *set;
	struct pm_key k = { .saddr = { pm_htonl(CLIENT) }, .daddr = { pm_htonl(VIP) }, .sport = pm_htons(2000),
			    .dport = pm_htons(80), .protocol = PM_PROTO_TCP };
	uint32_t evicted, room;
	__u64 line;
	struct pm_place at;

	/* Room is in the whole table only. */
	for (uint32_t seed = 1;; seed++) {
		begin(PM_METHOD_DR, seed);
		set = pm_settings(0);
		set->levels4 = 3 * PM_LEVEL_STEP;
		at = pm_place(4, set, &k);
		room = pm_nth(4, &at, 0, PM_LINES - 1);
		if (room >= LINES >> PM_LEVEL_STEP)
			break;
	}
	for (uint32_t n = 0; n < PM_LINES - 1; n++)
		occupy(pm_nth(4, &at, 0, n), PM_TCP_CLOSE);
	for (uint32_t level = PM_LEVEL_STEP; level <= 3 * PM_LEVEL_STEP; level += PM_LEVEL_STEP)
		for (uint32_t n = 0; n < PM_LINES; n++)
			occupy(pm_nth(4, &at, level, n), PM_TCP_ESTABLISHED);
	pm_set_now(NOW);
	/* As templates do it, and lines for answers: others try again without force. */
	line = pm_claim4(&at, pm_now(), 1);
	evicted = *pm_verdicts(PM_EVICTED_ENDED);
	if (line >> 32 == room && !evicted && !(set->levels4 & PM_LEVEL))
		return 0;
	printf("grown three times: line %u for %u, %u gave way, level %u\n", (uint32_t)(line >> 32), room, evicted,
	       set->levels4 & PM_LEVEL);
	return 1;
}

int main(void)
{
	static const uint8_t flags[] = { PM_TCP_ACK, PM_TCP_FIN | PM_TCP_ACK, PM_TCP_RST };
	uint32_t moments[2] = { 0 };
	int bad = 0;

	how = OTHER_LEVEL;
	bad |= comes_again();
	bad |= grows_thrice();
	for (how = OTHER_SET; how <= OTHER_LEVEL; how++) {
		bad |= moves_alone();
		for (uint32_t seed = 1; seed <= 4; seed++) {
			moments[how] += every_moment_of_the_first(PM_METHOD_DR, 0, seed, &bad);
			moments[how] += every_moment_of_the_first(PM_METHOD_NAT, 0, seed, &bad);
			moments[how] += every_moment_of_the_first(PM_METHOD_NAT, 1, seed, &bad);
			moments[how] += every_moment_of_the_first(PM_METHOD_FULL_NAT, 0, seed, &bad);
			moments[how] += every_moment_of_the_first(PM_METHOD_FULL_NAT, 1, seed, &bad);
			for (uint32_t i = 0; i < sizeof(flags); i++) {
				for (int back = 0; back <= (how == OTHER_SET); back++) {
					moments[how] += every_moment(PM_METHOD_DR, 0, back, flags[i], seed, &bad);
					moments[how] += every_moment(PM_METHOD_NAT, 0, back, flags[i], seed, &bad);
					moments[how] += every_moment(PM_METHOD_NAT, 1, back, flags[i], seed, &bad);
					/* Of full NAT each direction's packets read both lines. */
					for (int which = 0; which < 4; which++)
						moments[how] += every_moment(PM_METHOD_FULL_NAT, which, back, flags[i], seed, &bad);
				}
			}
		}
	}
	printf("moved to the other set in %u moments, to another level in %u\n", moments[0], moments[1]);
	return bad || moments[0] < 100 || moments[1] < 50;
}
