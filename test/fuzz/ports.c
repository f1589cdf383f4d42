/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Two clients' first packets by full NAT, and one port for both: while the first looks for it, the second comes, whole,
 * at its first look, at its second, and so on, as on another CPU. Never do both have the port, and whoever has none has
 * left nothing behind: the next one that comes gets it.
 *
 *     ports
 *
 * Prints how many moments there were; 1 if a port was had twice, or lost.
 */
#include <stddef.h>

#include "other-cpu.h"
#include "one-service.h"

enum { FIRST = 2000, SECOND = 2001, THIRD = 2002, PORT = 5000 };

static uint32_t second;

static uint32_t from_client(uint16_t port)
{
	return send_frame(CLIENT, port, VIP, 80, PM_TCP_SYN);
}

static void another_client(void)
{
	frame_at = 384;
	second = from_client(SECOND);
	frame_at = 128;
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

int main(void)
{
	uint32_t moments = 0, neither = 0;
	int bad = 0;

	for (uint32_t seed = 1; seed <= 8; seed++) {
		for (moment = 0;; moment++) {
			uint32_t first, owners;

			begin(PM_METHOD_FULL_NAT, seed);
			have_port(PORT, 1);
			step = second = 0;
			other_cpu = another_client;
			first = from_client(FIRST);
			other_cpu = NULL;
			if (step <= moment)
				break;
			moments++;
			owners = (first == PM_FORWARD_NAT) + (second == PM_FORWARD_NAT);
			neither += !owners;
			if (owners <= 1 && is_owned_by(owners) &&
			    from_client(THIRD) == (owners ? PM_DROP_PORTS_TAKEN : PM_FORWARD_NAT) && is_owned_by(1))
				continue;
			printf("seed %u, moment %u: verdicts %u and %u, %u lines, %u for answers, counted %u/%u\n", seed, moment,
			       first, second, count_of(CLIENT, VIP), count_of(REAL, OURS), pm_live(0)->active,
			       pm_live(0)->inactive);
			bad = 1;
		}
	}
	printf("%u moments, in %u of them neither had it\n", moments, neither);
	return bad || !moments;
}
