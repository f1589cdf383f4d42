/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Floors: the least that a forwarder of this kind can do, so that a number says how far from the limit it
 * is. Each parses Ethernet, IP and ports, hashes the five-tuple, writes MAC addresses and sends the frame
 * back; they differ in the memory they touch for it.
 *
 *   parse      none, and no hash either: what every forwarder does before it does anything
 *   hash       none: a forwarder that knows everything already
 *   stateless  one of 65,537 records of 8 bytes, chosen by the hash: a Maglev table without connections
 *   line       one line of 64 bytes of a table that has exactly as many lines as there are flows: any table
 *              of connections touches at least that, and none can be denser with lines of this size
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FLOOR_LINES (1 << 20)
#define FLOOR_CHOICES 65537
#define FLOOR_TICK_SHIFT 23
#define FLOOR_LIFETIME 1000 /* ticks */

#define ETHERTYPE_IPV4 0x0008
#define ETHERTYPE_IPV6 0xdd86

struct line {
	__u64 head; /* restarted by every packet, as a timer is */
	__u32 saddr[4], daddr[4];
	__u32 ports, packets;
	__u16 dmac[3], smac[3];
	__u32 ifindex;
};
_Static_assert(sizeof(struct line) == 64, "one cache line");

struct choice {
	__u16 dmac[3];
	__u16 real;
};

struct flow {
	__u32 saddr[4], daddr[4];
	__u32 ports, protocol;
};

#define FLAT(name, record, entries)              \
	struct {                                 \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, entries);    \
		__type(key, __u32);              \
		__type(value, record);           \
	} name SEC(".maps")

FLAT(floor_lines, struct line, FLOOR_LINES);
FLAT(floor_choices, struct choice, FLOOR_CHOICES);

volatile __u32 floor_mask; /* flows - 1 */

static __always_inline __u64 stir(__u64 h, __u64 word)
{
	h = (h ^ word) * 0x9E3779B97F4A7C15ull;
	return h ^ h >> 29;
}

static __always_inline int parse(struct xdp_md *ctx, int family, struct flow *f)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;
	__u8 *l4 = data + 14 + (family == 4 ? 20 : 40);

	if (l4 + 8 > end || *(__u16 *)(data + 12) != (family == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6))
		return -1;
	if (family == 4) {
		/* No options, no fragment. */
		if (data[14] != 0x45 || *(__u16 *)(data + 20) & 0xff3f)
			return -1;
		f->saddr[0] = *(__u32 *)(data + 26);
		f->daddr[0] = *(__u32 *)(data + 30);
		f->protocol = data[23];
	} else {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			f->saddr[i] = *(__u32 *)(data + 22 + 4 * i);
			f->daddr[i] = *(__u32 *)(data + 38 + 4 * i);
		}
		f->protocol = data[20];
	}
	f->ports = *(__u32 *)l4;
	return 0;
}

static __always_inline __u64 hash(int family, const struct flow *f)
{
	__u64 h = 0x5eed;

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			h = stir(h, (__u64)f->saddr[i] << 32 | f->daddr[i]);
	h = stir(h, (__u64)f->ports << 32 | f->protocol);
	h *= 0xBF58476D1CE4E5B9ull;
	return h ^ h >> 32;
}

static __always_inline int send(struct xdp_md *ctx, const __u16 *dmac, const __u16 *smac)
{
	__u16 *mac = (__u16 *)(long)ctx->data;

	if ((__u8 *)mac + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_DROP;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		mac[i] = dmac[i];
		mac[i + 3] = smac[i];
	}
	return XDP_TX;
}

static __always_inline int by_parsing(struct xdp_md *ctx, int family)
{
	struct flow f;
	__u16 mac[3];

	if (parse(ctx, family, &f))
		return XDP_PASS;
	/* Everything that was parsed, or the compiler would leave it out. */
	mac[0] = 2;
	mac[1] = f.ports ^ f.protocol;
	mac[2] = 0;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			mac[2] ^= f.saddr[i] ^ f.daddr[i];
	return send(ctx, mac, mac);
}

static __always_inline int by_hash(struct xdp_md *ctx, int family)
{
	struct flow f;
	__u16 mac[3];
	__u64 h;

	if (parse(ctx, family, &f))
		return XDP_PASS;
	h = hash(family, &f);
	mac[0] = 2;
	mac[1] = h;
	mac[2] = h >> 16;
	return send(ctx, mac, mac);
}

static __always_inline int by_choice(struct xdp_md *ctx, int family)
{
	const __u16 own[3] = { 2, 0, 1 };
	struct choice *choice;
	struct flow f;
	__u32 index;

	if (parse(ctx, family, &f))
		return XDP_PASS;
	index = ((hash(family, &f) & 0xffffffff) * FLOOR_CHOICES) >> 32;
	choice = bpf_map_lookup_elem(&floor_choices, &index);
	return choice ? send(ctx, choice->dmac, own) : XDP_DROP;
}

/*
 * Keys are compared without a consequence: of flows that share a line one would find another's. So there
 * is nothing for the processor to guess wrong, and nothing that a second probe could mend.
 */
static __always_inline int by_line(struct xdp_md *ctx, int family)
{
	__u32 until = (bpf_ktime_get_coarse_ns() >> FLOOR_TICK_SHIFT) + FLOOR_LIFETIME;
	struct line *line;
	struct flow f;
	__u32 index, other;

	if (parse(ctx, family, &f))
		return XDP_PASS;
	index = hash(family, &f) & floor_mask;
	line = bpf_map_lookup_elem(&floor_lines, &index);
	if (!line)
		return XDP_DROP;
	other = line->ports ^ f.ports;
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (family == 6 || i == 0)
			other |= (line->saddr[i] ^ f.saddr[i]) | (line->daddr[i] ^ f.daddr[i]);
	line->packets += !other + 1;
	if (line->head != until)
		line->head = until;
	return send(ctx, line->dmac, line->smac);
}

#define FLOOR(name, way, family)                 \
	SEC("xdp")                               \
	int name##family(struct xdp_md *ctx)     \
	{                                        \
		return way(ctx, family);         \
	}

FLOOR(floor_parse, by_parsing, 4)
FLOOR(floor_parse, by_parsing, 6)
FLOOR(floor_hash, by_hash, 4)
FLOOR(floor_hash, by_hash, 6)
FLOOR(floor_stateless, by_choice, 4)
FLOOR(floor_stateless, by_choice, 6)
FLOOR(floor_line, by_line, 4)
FLOOR(floor_line, by_line, 6)

char LICENSE[] SEC("license") = "Dual MIT/GPL";
