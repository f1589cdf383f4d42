/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Datagrams that come in fragments, until they are whole, in traffic control: IPVS decides about whole ones. Pieces
 * are kept where they belong in their datagram; with the last of them the packet that brought it becomes all of it.
 * Of lone fragments there are as many as somebody likes to send, so there are so many datagrams and no more, a few for
 * each pair of hosts: the eldest of the same hosts gives way. One larger than a packet that a program can make goes on
 * in fragments, as its first decides (fragment.h).
 */
#pragma once

#include "fragment.h"
#include "cut.h"

#define PM_GATHER_ROWS 16u
#define PM_GATHER_WAYS 8u
#define PM_GATHER_SLOTS (PM_GATHER_ROWS * PM_GATHER_WAYS)
/* Bytes of payload, with headers and those of a tunnel less than the kernel makes a packet of (SKB_MAX_ALLOC). */
#define PM_GATHER_BYTES 15360u
#define PM_GATHER_UNIT 8u
/* Of 64 units; what is a mask and no more is what Linux 6.1 wants to see of an index. */
#define PM_GATHER_WORDS 32u
#define PM_GATHER_MASK 16383u
#define PM_GATHER_CHUNK 1024u
/* What stands before the payload of a fragment: Ethernet, IP and what belongs to each of them (RFC 8200 §4.5). */
#define PM_GATHER_FRONT (PM_CUT_FRONT_MASK + 1)
/* Linux: net.ipv4.ipfrag_time, net.netfilter.nf_conntrack_frag6_timeout. */
#define PM_GATHER_TICKS4 3577u /* 30 s */
#define PM_GATHER_TICKS6 7152u /* 60 s */
/* RFC 3168 §5: "not ECN-capable", "congestion experienced". */
#define PM_ECN_NONE 1u
#define PM_ECN_EXPERIENCED 8u

enum pm_gather_state {
	PM_GATHER_FREE,
	PM_GATHER_OPEN,
	PM_GATHER_TAKEN, /* by a CPU that makes packets of it */
	PM_GATHER_LOOSE, /* its fragments go on by themselves */
};

/* A datagram; under its row's lock, but for `there`, whose words are swapped. */
struct pm_gather {
	__be32 saddr[4];
	__be32 daddr[4];
	__be32 id;
	__u8 family;
	__u8 protocol; /* IPv4 (RFC 791 §2.3); 0 */
	__u8 state;
	__u8 spoiled; /* they contradict each other */
	__u32 busy;   /* CPUs that are copying pieces to it, or make packets of a loose one */
	__u32 until;
	__u32 total; /* bytes, 0: the last piece has not come */
	__u32 reach; /* where the hindmost ends that has come */
	__u32 got;
	__u32 pieces;
	__u32 largest; /* IP bytes of a fragment */
	__u32 fixed;   /* the same of those with DF */
	__u32 ecn;     /* which of the four values there are, a bit for each */
	__u32 headers; /* of the first: bytes before its payload, 0: it has not come */
	__u32 front;   /* the same without a fragment header */
	__u32 says;    /* IPv6: the byte that says that there is one */
	__u32 next;    /* and what follows that */
	__u64 there[PM_GATHER_WORDS]; /* a bit for each unit */
};

struct pm_gather_row {
	struct bpf_spin_lock lock;
	/* Of the search under way: what was stored is a number like any other to the verifier. */
	__u32 found;
	__u32 spare;
	__u32 could;
	__u32 lost;
	struct pm_gather ways[PM_GATHER_WAYS];
};

struct pm_gather_bytes {
	__u8 front[PM_GATHER_FRONT];
	__u8 payload[PM_GATHER_MASK + 1 + PM_GATHER_CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PM_GATHER_ROWS);
	__type(key, __u32);
	__type(value, struct pm_gather_row);
} gather_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PM_GATHER_SLOTS);
	__type(key, __u32);
	__type(value, struct pm_gather_bytes);
} gather_bytes SEC(".maps");

/* A fragment, as far as it is compared with others. */
struct pm_came {
	__be32 saddr[4];
	__be32 daddr[4];
	struct pm_extent x;
	__u32 family;
	__u32 headers;
	__u32 front;
	__u32 says;
	__u32 ip_bytes;
	__u32 fixed;
	__u32 ecn;
};

/* What becomes of a fragment; `lost` others are lost by it. */
enum pm_gather_code {
	PM_GATHER_KEEP,
	PM_GATHER_AGAIN,  /* all of it is there already */
	PM_GATHER_WHOLE,  /* all of its datagram is */
	PM_GATHER_PASS,	  /* it goes on by itself */
	PM_GATHER_RELEASE, /* and so do those before it, which are there */
	PM_GATHER_SPOILED,
	PM_GATHER_FULL,
};

#define PM_GATHER_SLOT_SHIFT 8
#define PM_GATHER_LOST_SHIFT 32
#define pm_gather_result(code, slot, lost) \
	((code) | (__u64)(slot) << PM_GATHER_SLOT_SHIFT | (__u64)(lost) << PM_GATHER_LOST_SHIFT)

pm_inline struct pm_gather_row *pm_gather_row(__u32 slot)
{
	__u32 row = slot / PM_GATHER_WAYS;

	return bpf_map_lookup_elem(&gather_rows, &row);
}

pm_inline struct pm_gather_bytes *pm_gather_bytes(__u32 slot)
{
	return bpf_map_lookup_elem(&gather_bytes, &slot);
}

pm_inline struct pm_gather *pm_gather_way(struct pm_gather_row *row, __u32 way)
{
	pm_opaque(way);
	return &row->ways[way & (PM_GATHER_WAYS - 1)];
}

/* Reads the fragment that the packet is. Non-zero: it cannot be. */
PM_PART int pm_gather_read(struct __sk_buff *skb, struct pm_came *h)
{
	struct pm_frame f = pm_frame_open(skb);
	int family;

	if (!h || f.data + PM_ETH_LEN + PM_IPV4_LEN > f.end)
		return -1;
	family = f.data[PM_ETH_LEN] >> 4;
	if (pm_extent_of(&f, family, &h->x))
		return -1;
	h->family = family;
	if (family == 4) {
		struct pm_ipv4 *ip = (void *)(f.data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f.end)
			return -1;
		h->saddr[0] = ip->saddr;
		h->daddr[0] = ip->daddr;
		h->ip_bytes = pm_ntohs(ip->length);
		h->headers = h->front = PM_ETH_LEN + (ip->version_ihl & 15) * 4;
		h->fixed = ip->fragment & pm_htons(PM_IPV4_DF);
		h->ecn = 1u << (ip->tos & 3);
	} else {
		struct pm_ipv6 *ip = (void *)(f.data + PM_ETH_LEN);

		if ((__u8 *)(ip + 1) > f.end)
			return -1;
		__builtin_memcpy(h->saddr, ip->saddr, 16);
		__builtin_memcpy(h->daddr, ip->daddr, 16);
		h->ip_bytes = PM_IPV6_LEN + pm_ntohs(ip->payload);
		h->headers = PM_ETH_LEN + h->ip_bytes - h->x.bytes;
		h->front = h->headers - sizeof(struct pm_ipv6_fragment);
		pm_fragment_header(&f, &h->says);
		h->ecn = 1u << (pm_ntohl(ip->flow) >> 20 & 3);
	}
	return h->headers > PM_GATHER_FRONT || h->headers + h->x.bytes > f.length;
}

/* The first slot of those that datagrams between two hosts have: of an IPv6 sender all of its network's. */
pm_inline __u32 pm_gather_home(const struct pm_settings *set, const struct pm_came *h)
{
	__u32 hash = pm_mix(set->hash_seed, h->saddr[0]);

	hash = pm_mix(hash, h->daddr[0]);
	if (h->family == 6) {
		hash = pm_mix(hash, h->saddr[1]);
		hash = pm_mix(hash, h->daddr[3]);
	}
	hash *= 0xC2B2AE35u;
	return (hash ^ hash >> 16) % PM_GATHER_ROWS * PM_GATHER_WAYS;
}

pm_inline int pm_gather_is_of(const struct pm_gather *g, const struct pm_came *h)
{
	return !((g->saddr[0] ^ h->saddr[0]) | (g->daddr[0] ^ h->daddr[0]) | (g->id ^ h->x.id) |
		 (g->family ^ h->family) | (g->saddr[1] ^ h->saddr[1]) | (g->saddr[2] ^ h->saddr[2]) |
		 (g->saddr[3] ^ h->saddr[3]) | (g->daddr[1] ^ h->daddr[1]) | (g->daddr[2] ^ h->daddr[2]) |
		 (g->daddr[3] ^ h->daddr[3]) | (g->protocol ^ (h->family == 4 ? h->x.protocol : 0)));
}

/* Clocks of CPUs differ; what is good for longer than this is from before the clock went round (208 days ago). */
pm_inline int pm_gather_past(const struct pm_gather *g, __u32 now)
{
	return g->until - now > 2 * PM_GATHER_TICKS6;
}

/* How well a datagram can be done without: 0 not at all. */
pm_inline __u32 pm_gather_spare(const struct pm_gather *g, __u32 now)
{
	__u32 left = g->until - now;

	if (g->state == PM_GATHER_FREE)
		return 0xffffffffu;
	if (g->state == PM_GATHER_TAKEN || g->busy)
		return 0;
	if (pm_gather_past(g, now))
		return 0xfffffffeu;
	return left > PM_GATHER_TICKS6 ? 1 : PM_GATHER_TICKS6 - left + 1;
}

pm_inline void pm_gather_start(struct pm_gather *g, const struct pm_came *h, __u32 now)
{
	__builtin_memset(g, 0, sizeof(*g));
	for (int i = 0; i < 4; i++) {
		g->saddr[i] = h->saddr[i];
		g->daddr[i] = h->daddr[i];
	}
	g->id = h->x.id;
	g->family = h->family;
	g->protocol = h->family == 4 ? h->x.protocol : 0;
	g->state = PM_GATHER_OPEN;
	g->until = now + (h->family == 4 ? PM_GATHER_TICKS4 : PM_GATHER_TICKS6);
}

/* Whether a fragment contradicts how long its datagram is. */
pm_inline int pm_gather_differs(const struct pm_gather *g, const struct pm_came *h)
{
	__u32 end = h->x.first + h->x.bytes;

	if (h->x.more)
		return g->total && end > g->total;
	return (g->total && end != g->total) || end < g->reach;
}

pm_inline void pm_gather_expect(struct pm_gather *g, const struct pm_came *h)
{
	__u32 end = h->x.first + h->x.bytes;

	g->busy++;
	if (!h->x.more)
		g->total = end;
	if (end > g->reach)
		g->reach = end;
}

/* Its bytes are there, of a first one its headers, too: one that comes again has others of both, which nobody has. */
pm_inline void pm_gather_note(struct pm_gather *g, const struct pm_came *h)
{
	g->got += h->x.bytes;
	g->pieces++;
	if (h->ip_bytes > g->largest)
		g->largest = h->ip_bytes;
	if (h->fixed && h->ip_bytes > g->fixed)
		g->fixed = h->ip_bytes;
	g->ecn |= h->ecn;
	if (!h->x.first) {
		g->headers = h->headers;
		g->front = h->front;
		g->says = h->says;
		g->next = h->x.protocol;
	}
}

/* Finds or makes a place for a fragment, or says what else becomes of it. */
PM_PART __u64 pm_gather_claim(const struct pm_came *h)
{
	struct pm_settings *set = pm_settings(0);
	__u32 now = pm_now(), home, lost = 0, code, way;
	struct pm_gather_row *row;
	struct pm_gather *g;
	int large;

	if (!h || !set)
		return PM_GATHER_FULL;
	large = h->x.first + h->x.bytes > PM_GATHER_BYTES;
	home = pm_gather_home(set, h);
	row = pm_gather_row(home);
	if (!row)
		return PM_GATHER_FULL;
	bpf_spin_lock(&row->lock);
	row->found = row->spare = PM_GATHER_WAYS;
	pm_write(row->could, 0);
	for (__u32 i = 0; i < PM_GATHER_WAYS; i++) {
		__u32 could = pm_gather_spare(&row->ways[i], now);

		if (could < 0xfffffffeu && pm_gather_is_of(&row->ways[i], h))
			row->found = i;
		if (could > pm_read(row->could)) {
			pm_write(row->could, could);
			row->spare = i;
		}
	}
	way = pm_read(row->found);
	if (way < PM_GATHER_WAYS) {
		g = pm_gather_way(row, way);
		if (g->state == PM_GATHER_LOOSE) {
			code = PM_GATHER_PASS;
		} else if (g->state == PM_GATHER_TAKEN) {
			code = PM_GATHER_AGAIN;
		} else if (g->spoiled || pm_gather_differs(g, h)) {
			code = PM_GATHER_SPOILED;
			lost = g->spoiled ? 0 : g->pieces;
			g->spoiled = 1;
			g->pieces = 0;
			if (!g->busy)
				g->state = PM_GATHER_FREE;
		} else if (large) {
			/* Those that are there follow the first, and all others will. */
			code = PM_GATHER_PASS;
			if (g->headers && !g->busy) {
				code = PM_GATHER_RELEASE;
				g->state = PM_GATHER_LOOSE;
				g->busy = 1;
			}
		} else {
			code = PM_GATHER_KEEP;
			pm_gather_expect(g, h);
		}
	} else {
		way = pm_read(row->spare);
		if (large) {
			code = PM_GATHER_PASS;
		} else if (way < PM_GATHER_WAYS) {
			code = PM_GATHER_KEEP;
			g = pm_gather_way(row, way);
			if (g->state == PM_GATHER_OPEN)
				lost = g->pieces;
			pm_gather_start(g, h, now);
			pm_gather_expect(g, h);
		} else {
			code = PM_GATHER_FULL;
		}
	}
	bpf_spin_unlock(&row->lock);
	return pm_gather_result(code, home + way, lost);
}

/* Lets go of the datagrams in a row that were not whole in time: fragments that are lost. */
PM_PART __u32 pm_gather_expire(__u32 home)
{
	struct pm_gather_row *row = pm_gather_row(home);
	__u32 now = pm_now(), lost;

	if (!row)
		return 0;
	bpf_spin_lock(&row->lock);
	pm_write(row->lost, 0);
	for (__u32 i = 0; i < PM_GATHER_WAYS; i++) {
		struct pm_gather *g = &row->ways[i];

		if (g->state == PM_GATHER_OPEN && !g->busy && pm_gather_past(g, now)) {
			pm_write(row->lost, pm_read(row->lost) + g->pieces);
			g->state = PM_GATHER_FREE;
		}
	}
	lost = pm_read(row->lost);
	bpf_spin_unlock(&row->lock);
	return lost;
}

struct pm_gather_marking {
	struct pm_gather *g;
	__u32 marks; /* 0: only looks */
	__u32 from;  /* units */
	__u32 to;
	__u32 had;
	__u32 lacked;
};

static long pm_gather_mark_word(__u32 i, void *arg)
{
	struct pm_gather_marking *m = arg;
	__u32 word = m->from / 64 + i, from = i ? 0 : m->from % 64, to = m->to - word * 64;
	__u64 mask, was;

	if (word >= PM_GATHER_WORDS)
		return 1;
	pm_opaque(word);
	word &= PM_GATHER_WORDS - 1;
	if (to > 64)
		to = 64;
	mask = (~0ull << (from & 63)) & (~0ull >> ((64 - to) & 63));
	was = m->marks ? __sync_fetch_and_or(&m->g->there[word], mask) : m->g->there[word];
	m->had |= !!(was & mask);
	m->lacked |= !!(mask & ~was);
	return 0;
}

/* Of units: KEEP, none was there; AGAIN, all were; or SPOILED. The slot is busy, so it stays its datagram's. */
PM_PART int pm_gather_mark(__u32 slot, __u32 first, __u32 bytes, __u32 marks)
{
	struct pm_gather_row *row = pm_gather_row(slot);
	struct pm_gather_marking m = {
		.marks = marks,
		.from = first / PM_GATHER_UNIT,
		.to = (first + bytes + PM_GATHER_UNIT - 1) / PM_GATHER_UNIT,
	};

	if (!row || m.to <= m.from)
		return PM_GATHER_SPOILED;
	m.g = &row->ways[slot % PM_GATHER_WAYS];
	bpf_loop((m.to - 1) / 64 - m.from / 64 + 1, pm_gather_mark_word, &m, 0);
	return !m.had ? PM_GATHER_KEEP : m.lacked ? PM_GATHER_SPOILED : PM_GATHER_AGAIN;
}

/* Bytes between the packet and the memory of a slot. */
struct pm_gather_copying {
	struct __sk_buff *skb;
	struct pm_gather_bytes *memory;
	__u32 frame; /* offsets */
	__u32 payload;
	__u32 bytes;
	__u32 out; /* into the packet */
	__u32 failed;
};

static long pm_gather_copy_chunk(__u32 i, void *arg)
{
	struct pm_gather_copying *c = arg;
	__u32 done = i * PM_GATHER_CHUNK, bytes = c->bytes - done, at = c->payload + done;

	if (done >= c->bytes)
		return 1;
	if (bytes > PM_GATHER_CHUNK)
		bytes = PM_GATHER_CHUNK;
	if (at > PM_GATHER_BYTES)
		return 1;
	pm_opaque(at);
	pm_opaque(bytes);
	at &= PM_GATHER_MASK;
	/* As it is; and never none, as Linux 6.1 wants to see it. */
	bytes = ((bytes - 1) & (PM_GATHER_CHUNK - 1)) + 1;
	if (c->out ? bpf_skb_store_bytes(c->skb, c->frame + done, c->memory->payload + at, bytes, BPF_F_RECOMPUTE_CSUM) :
		     bpf_skb_load_bytes(c->skb, c->frame + done, c->memory->payload + at, bytes)) {
		c->failed = 1;
		return 1;
	}
	return 0;
}

pm_inline int pm_gather_copy(struct pm_gather_copying *c)
{
	bpf_loop((c->bytes + PM_GATHER_CHUNK - 1) / PM_GATHER_CHUNK, pm_gather_copy_chunk, c, 0);
	return c->failed;
}

/* Takes in the bytes of a fragment, and of the first its headers. Non-zero: not all of them. */
PM_PART int pm_gather_load(struct __sk_buff *skb, const struct pm_came *h, __u32 slot)
{
	struct pm_gather_copying c = { .skb = skb, .memory = pm_gather_bytes(slot) };
	__u32 headers;

	if (!h || !c.memory)
		return -1;
	if (!h->x.first) {
		headers = h->headers;
		pm_opaque(headers);
		headers = ((headers - 1) & PM_CUT_FRONT_MASK) + 1;
		if (bpf_skb_load_bytes(skb, 0, c.memory->front, headers))
			return -1;
	}
	c.frame = h->headers;
	c.payload = h->x.first;
	c.bytes = h->x.bytes;
	return pm_gather_copy(&c);
}

/* RFC 3168 §5.3: whether fragments with these values can be of one datagram. */
pm_inline int pm_gather_agrees(__u32 ecn)
{
	return ecn == PM_ECN_NONE || !(ecn & PM_ECN_NONE);
}

/* The bytes are there, or the fragment is none of use. */
PM_PART __u64 pm_gather_settle(__u32 slot, __u32 code, const struct pm_came *h)
{
	struct pm_gather_row *row = pm_gather_row(slot);
	struct pm_gather *g;
	__u32 lost = 0;

	if (!row || !h)
		return PM_GATHER_FULL;
	bpf_spin_lock(&row->lock);
	g = &row->ways[slot % PM_GATHER_WAYS];
	g->busy--;
	if (code == PM_GATHER_KEEP) {
		pm_gather_note(g, h);
	} else if (code == PM_GATHER_SPOILED) {
		g->spoiled = 1;
	}
	if (g->spoiled) {
		code = PM_GATHER_SPOILED;
		lost = g->pieces;
		g->pieces = 0;
		if (!g->busy)
			g->state = PM_GATHER_FREE;
	} else if (g->total && g->got == g->total && !g->busy) {
		code = PM_GATHER_WHOLE;
		g->state = PM_GATHER_TAKEN;
		lost = g->pieces;
	}
	bpf_spin_unlock(&row->lock);
	return pm_gather_result(code, slot, lost);
}

/* What was taken is free again, or its fragments go on by themselves from now on. */
PM_PART int pm_gather_leave(__u32 slot, __u32 state, __u32 busy)
{
	struct pm_gather_row *row = pm_gather_row(slot);

	if (!row)
		return 0;
	bpf_spin_lock(&row->lock);
	row->ways[slot % PM_GATHER_WAYS].state = state;
	row->ways[slot % PM_GATHER_WAYS].busy = busy;
	bpf_spin_unlock(&row->lock);
	return 0;
}

/* Header fields of the datagram, or of a fragment of it, whose headers stand in the room. */
pm_inline void pm_gather_front(struct pm_cut_room *room, const struct pm_gather *g, __u32 offset, __u32 bytes,
			       int whole)
{
	__u32 more = offset + bytes != g->total;

	if (g->family == 4) {
		struct pm_ipv4 *ip = (void *)(room->front + PM_ETH_LEN);

		ip->length = pm_htons(g->front - PM_ETH_LEN + bytes);
		if (whole) {
			/* RFC 1191 §3, as Linux has it: if the largest of them was not to be fragmented, nor is the datagram. */
			ip->fragment = g->fixed == g->largest ? pm_htons(PM_IPV4_DF) : 0;
			if (g->ecn & PM_ECN_EXPERIENCED)
				ip->tos |= 3;
		} else {
			ip->fragment = (ip->fragment & pm_htons(PM_IPV4_DF)) |
				       pm_htons(offset / 8 | (more ? PM_IPV4_MF : 0));
		}
		ip->check = 0;
		ip->check = ~pm_fold(pm_cut_header_sum(room, g->front));
	} else {
		struct pm_ipv6 *ip = (void *)(room->front + PM_ETH_LEN);

		ip->payload = pm_htons((whole ? g->front : g->headers) - PM_ETH_LEN - PM_IPV6_LEN + bytes);
		if (whole) {
			room->front[g->says & PM_CUT_FRONT_MASK] = g->next;
			if (g->ecn & PM_ECN_EXPERIENCED)
				ip->flow |= pm_htonl(3u << 20);
		} else {
			pm_cut_offset(room, g->front, offset | more);
		}
	}
}

/* The packet becomes the datagram (`whole`), or a fragment of it. Non-zero: it cannot be. */
PM_PART int pm_gather_put(struct __sk_buff *skb, __u32 slot, __u32 offset, __u32 bytes, __u32 whole)
{
	struct pm_gather_copying c = { .skb = skb, .memory = pm_gather_bytes(slot), .out = 1 };
	struct pm_gather_row *row = pm_gather_row(slot);
	struct pm_cut_room *room = pm_cut_room();
	const struct pm_gather *g;
	__u32 front;

	if (!row || !room || !c.memory)
		return -1;
	g = &row->ways[slot % PM_GATHER_WAYS];
	__builtin_memcpy(room->front, c.memory->front, PM_GATHER_FRONT);
	pm_gather_front(room, g, offset, bytes, whole);
	front = whole ? g->front : g->headers;
	if (bpf_skb_change_tail(skb, front + bytes, 0))
		return -1;
	c.frame = front;
	c.payload = offset;
	c.bytes = bytes;
	pm_opaque(front);
	front = ((front - 1) & PM_CUT_FRONT_MASK) + 1;
	return bpf_skb_store_bytes(skb, 0, room->front, front, BPF_F_RECOMPUTE_CSUM) || pm_gather_copy(&c);
}

PM_PART int pm_gather_lost(__u32 verdict, __u32 count)
{
	__u32 row = pm_cpu();
	__u64 *n = pm_verdicts(row * PM_VERDICT_MAX + (verdict & (PM_VERDICT_MAX - 1)));

	if (n && count)
		pm_count(row, n, count);
	return 0;
}

struct pm_gather_scattering {
	struct __sk_buff *skb;
	__u32 slot;
	__u32 size;
	__u32 bytes;
	__u32 last;
	__u32 gaps; /* not all of them have come */
	__u32 lost;
	__u32 failed;
};

/* From the last to the first, which the packet is afterwards. */
static long pm_gather_scatter_piece(__u32 i, void *arg)
{
	struct pm_gather_scattering *s = arg;
	__u32 offset = (s->last - i) * s->size, bytes = s->bytes - offset, is = PM_GATHER_AGAIN;

	if (bytes > s->size)
		bytes = s->size;
	if (s->gaps && offset)
		is = pm_gather_mark(s->slot, offset, bytes, 0);
	if (is != PM_GATHER_AGAIN) {
		s->lost += is == PM_GATHER_SPOILED;
		return 0;
	}
	s->failed = pm_gather_put(s->skb, s->slot, offset, bytes, 0) ||
		    (offset && bpf_clone_redirect(s->skb, s->skb->ifindex, BPF_F_INGRESS));
	return s->failed;
}

/*
 * The fragments that were kept come again, one after the other, and go on by themselves: the first of them now, in
 * this packet's place. Another CPU may have the others in hand before they all are sent. Non-zero: they cannot.
 */
PM_PART int pm_gather_scatter(struct __sk_buff *skb, __u32 slot)
{
	struct pm_gather_scattering s = { .skb = skb, .slot = slot };
	struct pm_gather_row *row = pm_gather_row(slot);
	const struct pm_gather *g;

	if (!row)
		return -1;
	pm_gather_leave(slot, PM_GATHER_LOOSE, 1);
	g = &row->ways[slot % PM_GATHER_WAYS];
	s.bytes = g->reach;
	s.gaps = g->got != g->reach;
	s.size = (g->largest + PM_ETH_LEN - g->headers) & ~7u;
	if (s.size && s.bytes && s.bytes <= PM_GATHER_BYTES) {
		s.last = (s.bytes - 1) / s.size;
		bpf_loop(s.last + 1, pm_gather_scatter_piece, &s, 0);
	} else {
		s.failed = 1;
	}
	pm_gather_leave(slot, PM_GATHER_LOOSE, 0);
	pm_gather_lost(PM_DROP_FRAGMENT_INCOMPLETE, s.lost);
	return s.failed;
}

/* A datagram that is whole becomes the packet. */
pm_inline enum pm_verdict pm_gather_whole(struct __sk_buff *skb, __u32 slot, __u32 pieces)
{
	struct pm_gather_row *row = pm_gather_row(slot);
	struct pm_cut_room *room = pm_cut_room();
	const struct pm_gather *g;

	if (!row || !room)
		return PM_DROP_MAP;
	g = &row->ways[slot % PM_GATHER_WAYS];
	if (!pm_gather_agrees(g->ecn) || pm_gather_put(skb, slot, 0, g->total, 1)) {
		pm_gather_lost(PM_DROP_FRAGMENT_INCOMPLETE, pieces - 1);
		pm_gather_leave(slot, PM_GATHER_FREE, 0);
		return PM_DROP_FRAGMENT_INCOMPLETE;
	}
	room->slot = slot;
	room->whole = skb->len;
	skb->cb[0] = PM_SKB_WHOLE | (g->family == 6 ? PM_SKB_PIECES6 : 0) | g->largest << PM_SKB_LARGEST_SHIFT;
	return PM_CONTINUE;
}

/*
 * A fragment. PM_CONTINUE: the packet is something to be looked at now; PM_WANT_DATAGRAM: it is kept, and nothing is
 * left to be done.
 */
PM_PART __u32 pm_gather(struct __sk_buff *skb)
{
	struct pm_came h = {};
	__u64 result;
	__u32 slot, lost, code;

	skb->cb[0] = PM_SKB_LOOSE;
	if (pm_gather_read(skb, &h))
		return PM_CONTINUE;
	/* Each row in its turn, so that what is lost is counted though the same hosts are silent. */
	pm_gather_lost(PM_DROP_FRAGMENT_INCOMPLETE, pm_gather_expire(pm_now() % PM_GATHER_ROWS * PM_GATHER_WAYS));
	result = pm_gather_claim(&h);
	slot = (__u32)result >> PM_GATHER_SLOT_SHIFT;
	lost = result >> PM_GATHER_LOST_SHIFT;
	code = result & 0xff;
	if (code == PM_GATHER_KEEP) {
		pm_gather_lost(PM_DROP_FRAGMENT_INCOMPLETE, lost);
		code = pm_gather_mark(slot, h.x.first, h.x.bytes, 1);
		if (code == PM_GATHER_KEEP && pm_gather_load(skb, &h, slot))
			code = PM_GATHER_SPOILED;
		result = pm_gather_settle(slot, code, &h);
		code = result & 0xff;
		lost = result >> PM_GATHER_LOST_SHIFT;
	}
	switch (code) {
	case PM_GATHER_KEEP:
	case PM_GATHER_AGAIN:
		return PM_WANT_DATAGRAM;
	case PM_GATHER_WHOLE:
		return pm_gather_whole(skb, slot, lost);
	case PM_GATHER_RELEASE:
		if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
			pm_gather_lost(PM_DROP_FRAGMENT_INCOMPLETE, 1);
		return pm_gather_scatter(skb, slot) ? PM_DROP_FRAGMENT_INCOMPLETE : PM_CONTINUE;
	case PM_GATHER_SPOILED:
		pm_gather_lost(PM_DROP_FRAGMENT_OVERLAP, lost);
		return PM_DROP_FRAGMENT_OVERLAP;
	case PM_GATHER_PASS:
		return PM_CONTINUE;
	default:
		return PM_DROP_FRAGMENT_TABLE;
	}
}

/*
 * IP bytes of the largest packet that a whole datagram may leave in, 0: it leaves as it is. A path is never taken for
 * wider than the sender did. In a tunnel the program has said how wide it is, but for IPv6.
 */
PM_PART __u32 pm_gather_most(struct __sk_buff *skb)
{
	struct pm_cut_room *room = pm_cut_room();
	__u32 largest = skb->cb[0] >> PM_SKB_LARGEST_SHIFT, cut = skb->cb[4], most;

	if (!room)
		return 0;
	if (skb->len > room->whole)
		most = cut ? cut : largest + skb->len - room->whole;
	else
		most = cut && cut < largest ? cut : largest;
	return skb->len - PM_ETH_LEN > most ? most : 0;
}

/* How a whole datagram is cut anew (pm_cut): DF stays, and IPv6's headers that belong before a fragment's. */
PM_PART __u32 pm_gather_how(struct __sk_buff *skb)
{
	struct pm_cut_room *room = pm_cut_room();
	struct pm_gather_row *row = room ? pm_gather_row(room->slot) : PM_NULL;
	const struct pm_gather *g;

	if (!row)
		return 0;
	g = &row->ways[room->slot % PM_GATHER_WAYS];
	if (skb->len > room->whole || g->family == 4)
		return PM_CUT_KEEPS_DF;
	return g->front << PM_CUT_FRONT_SHIFT | g->says << PM_CUT_SAYS_SHIFT;
}

/* What it was made of is free for others. */
PM_PART int pm_gather_done(void)
{
	struct pm_cut_room *room = pm_cut_room();

	return room ? pm_gather_leave(room->slot, PM_GATHER_FREE, 0) : 0;
}

/* Whether the stack gets a whole datagram in fragments, as it came; else it answers it as it is, or takes it itself. */
pm_inline int pm_gather_returns(__u32 verdict)
{
	return verdict < PM_FORWARD_NAT && verdict != PM_PASS_LOCAL_NODE && verdict != PM_PASS_EGRESS &&
	       verdict != PM_PASS_REPLY_TTL && verdict != PM_PASS_REPLY_MTU && verdict != PM_PASS_NO_ROUTE_REPLY;
}

/* The verdict; PM_CONTINUE: the packet is to be looked at again, as the first of the fragments that it came in. */
PM_PART __u32 pm_gather_again(struct __sk_buff *skb, __u32 verdict)
{
	struct pm_cut_room *room = pm_cut_room();

	if (!room || !pm_gather_returns(verdict))
		return verdict;
	skb->cb[0] = PM_SKB_LOOSE;
	skb->cb[4] = 0;
	return pm_gather_scatter(skb, room->slot) ? PM_DROP_FRAGMENT_INCOMPLETE : PM_CONTINUE;
}
