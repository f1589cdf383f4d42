/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Two clients' first packets by full NAT, on two CPUs, and one port or two for both: the first goes on up to one of its
 * looks at what both share, then the second up to one of its own, then the first again, whichever looks these are. So
 * both find the same port free, and both are live with it, in some of them. Never do both keep it, and whoever has none
 * has left nothing behind: the next one that comes gets it.
 *
 *     ports
 *
 * Prints how many such meetings there were; 1 if a port was had twice, or lost.
 */
static void any_cpu(void);
#define PM_STEP() any_cpu()

#include <stddef.h>
#include <ucontext.h>

#include "one-service.h"

enum { FIRST = 2000, SECOND = 2001, THIRD = 2002, PORT = 5000, STACK = 1 << 18 };

struct cpu {
	ucontext_t at;
	uint32_t steps, verdict;
	uint16_t port;
	int over;
	char stack[STACK];
};
static struct cpu cpus[2], *on;
static ucontext_t here;
static uint32_t pause;

static void any_cpu(void)
{
	if (on && on->steps++ == pause)
		swapcontext(&on->at, &here);
}

static uint32_t from_client(uint16_t port)
{
	return send_frame(CLIENT, port, VIP, 80, PM_TCP_SYN);
}

static void packet(void)
{
	struct cpu *mine = on;

	frame_at = mine == cpus ? 128 : 384;
	mine->verdict = from_client(mine->port);
	mine->over = 1;
}

/* Up to this look, or to its end. */
static void go_on(struct cpu *c, uint32_t until)
{
	if (c->over)
		return;
	pause = until;
	on = c;
	swapcontext(&here, &c->at);
	on = NULL;
}

static void arrive(struct cpu *c, uint16_t port)
{
	c->steps = c->over = 0;
	c->port = port;
	getcontext(&c->at);
	c->at.uc_stack.ss_sp = c->stack;
	c->at.uc_stack.ss_size = STACK;
	c->at.uc_link = &here;
	makecontext(&c->at, packet, 0);
}

/* Nobody's connections, in a table that is otherwise as it was: begin() takes a millisecond. */
static void nobody(void)
{
	memset(pm_connections4(0), 0, LINES * sizeof(struct pm_conn4));
	memset(pm_live(0), 0, sizeof(struct pm_live));
}

static uint32_t count_of(uint32_t saddr, uint32_t daddr)
{
	uint32_t count;

	line_of(saddr, daddr, &count);
	return count;
}

/* Lines of clients and for answers, and what the real server is counted to have: as many as there are owners. */
static int is_owned_by(uint32_t owners)
{
	return count_of(CLIENT, VIP) == owners && count_of(REAL, OURS) == owners &&
	       pm_live(0)->active + pm_live(0)->inactive == owners;
}

/* Whether answers to each port have one line at most. */
static int is_had_once(void)
{
	uint32_t had = 0;

	for (uint32_t i = 0; i < LINES; i++) {
		const struct pm_conn4 *c = (void *)pm_line(4, i);
		uint32_t bit = pm_is_live(c->c.word) && c->saddr == pm_htonl(REAL) ? 1u << (pm_ntohs(c->c.dport) - PORT) : 0;

		if (had & bit)
			return 0;
		had |= bit;
	}
	return 1;
}

static uint32_t neither, both;

/* What has become of both, and of one that comes after them. */
static int is_right(uint16_t ports)
{
	uint32_t owners = (cpus[0].verdict == PM_FORWARD_NAT) + (cpus[1].verdict == PM_FORWARD_NAT);

	neither += !owners;
	frame_at = 128;
	return owners <= ports && is_owned_by(owners) && is_had_once() &&
	       from_client(THIRD) == (owners == ports ? PM_DROP_PORTS_TAKEN : PM_FORWARD_NAT) &&
	       is_owned_by(owners + (owners < ports)) && is_had_once();
}

/*
 * Both are under way: the first up to its look i, the second up to its look j. 0: the first has come to its end; 2: the
 * second has a port by now, and the first, which may have found the same one free, has none yet.
 */
static int meet(uint32_t i, uint32_t j)
{
	uint32_t had;

	nobody();
	arrive(&cpus[0], FIRST);
	arrive(&cpus[1], SECOND);
	go_on(&cpus[0], i);
	if (cpus[0].over)
		return 0;
	had = count_of(REAL, OURS);
	go_on(&cpus[1], j);
	return !had && count_of(REAL, OURS) ? 2 : 1;
}

/*
 * Every pair of moments; how many there were. Where both may have the one port there is, the first goes on to each
 * other of its looks before the second comes to its end.
 */
static uint32_t every_pair(uint16_t ports, int *bad)
{
	uint32_t pairs = 0;

	begin(PM_METHOD_FULL_NAT, 1);
	have_port(PORT, ports);
	for (uint32_t i = 0; meet(i, UINT32_MAX); i++) {
		for (uint32_t j = 0, whole = 0; !whole; j++) {
			for (uint32_t k = i + 1 + j % 2, over = 0; !over; k += 2) {
				over = meet(i, j) != 2;
				whole = cpus[1].over;
				over |= whole || ports > 1;
				go_on(&cpus[0], over ? UINT32_MAX : k);
				over |= cpus[0].over;
				both += !is_had_once();
				go_on(&cpus[1], UINT32_MAX);
				go_on(&cpus[0], UINT32_MAX);
				pairs++;
				if (is_right(ports))
					continue;
				printf("%u ports, moments %u, %u and %u: verdicts %u and %u, %u lines, %u for answers, counted %u/%u\n",
				       ports, i, j, k, cpus[0].verdict, cpus[1].verdict, count_of(CLIENT, VIP),
				       count_of(REAL, OURS), pm_live(0)->active, pm_live(0)->inactive);
				*bad = 1;
			}
		}
	}
	return pairs;
}

int main(void)
{
	uint32_t pairs = 0;
	int bad = 0;

	for (uint16_t ports = 1; ports <= 2; ports++)
		pairs += every_pair(ports, &bad);
	printf("%u meetings, in %u both were live with one port, in %u neither kept it\n", pairs, both, neither);
	return bad || !both || !neither;
}
