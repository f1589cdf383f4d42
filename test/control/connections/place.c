/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Where the packet program looks for keys, for place.test.ts: a line for each, of numbers.
 *
 *     place KEYS SEED
 *
 * family seed level mask of the whole table, eight words of addresses, sport dport protocol as they are loaded from
 * a packet, the tag of a template; then both sets, the first way, and the eight lines in the order of the search.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PM_THREAD_LOCAL _Thread_local
#define PM_FRAME_AT(offset) ((__u8 *)0 + (offset))
#define pm_host_fib(host, q) ((void)(host), (void)(q), PM_FIB_NO_ROUTE)

#include "../../../bpf/lookup.h"

static uint64_t state;

/* Mostly any number; now and then one at which sums and shifts go wrong. */
static uint32_t number(void)
{
	static const uint32_t edges[] = { 0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	uint32_t word;

	state = state * 6364136223846793005ull + 1442695040888963407ull;
	word = state >> 32;
	return word % 5 ? word : edges[(word >> 8) % 8];
}

int main(int argc, char **argv)
{
	uint32_t keys = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
	static struct pm_settings settings;

	state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	for (uint32_t i = 0; i < keys; i++) {
		int family = number() & 1 ? 4 : 6;
		uint32_t mask = (1u << (number() % 25)) - 1, level = number() % (PM_LEVEL + 1);
		struct pm_key k = {};
		struct pm_place at;

		for (int word = 0; word < (family == 4 ? 1 : 4); word++) {
			k.saddr[word] = number();
			k.daddr[word] = number();
		}
		k.sport = number();
		k.dport = number();
		k.protocol = number();
		settings.hash_seed = number();
		pm_limits.conn4_mask = pm_limits.conn6_mask = mask;
		k.tag = number() & 1 ? number() : 0;
		at = pm_template_place(family, &settings, &k);
		printf("%d %u %u %u", family, settings.hash_seed, level, mask);
		for (int word = 0; word < 4; word++)
			printf(" %u", k.saddr[word]);
		for (int word = 0; word < 4; word++)
			printf(" %u", k.daddr[word]);
		printf(" %u %u %u %u %u %u %u", k.sport, k.dport, k.protocol, k.tag, at.set[0], at.set[1], at.way);
		for (uint32_t n = 0; n < PM_LINES; n++)
			printf(" %u", pm_nth(family, &at, level, n));
		printf("\n");
	}
	return 0;
}
