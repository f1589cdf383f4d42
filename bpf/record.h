/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Packets as they come to the program and as they leave it, for whoever records them. Only in objects of its own
 * (pointsman-recording.bpf.c, pointsman-tc-recording.bpf.c), whose programs take the place of the usual ones while a
 * recording goes on: who does not record, has nothing of it.
 *
 * A packet is one CPU's from its coming to its leaving, so what is known of it meanwhile lies in that CPU's scratch.
 */
#pragma once

#ifndef PM_RECORD

#define pm_record_came(host) ((void)(host))
#define pm_record_decided(result) ((void)(result))
#define pm_record_left(host, v, ifindex) ((void)(host), (void)(v), (void)(ifindex))

#else

/* Bytes of a frame that are kept at most. */
#define PM_SNAP_MAX 8192u
/* Bytes of packets that nobody has read yet. */
#define PM_RECORD_RING (8 << 20)

/* A packet in the ring, behind it what was kept of the two frames; dataplane/recording.ts reads it. */
struct pm_recorded {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	__u32 ifindex;
	__u32 verdict;
	__u32 action; /* enum pm_action */
	__u32 way_out;
	__u32 length;
	__u32 kept;
	__u32 length_out;
	__u32 kept_out;
	__u32 tag; /* beside the frame: its protocol above, as numbers; 0: none */
	__u32 tag_out;
};

struct pm_record_scratch {
	__u64 under_way;
	struct pm_recorded record;
	__u8 frames[2 * PM_SNAP_MAX];
};

/* What is recorded; dataplane/recording.ts writes it. Zero: of every kind. */
struct pm_record_wanted {
	__u8 client[16]; /* IPv4 in the first four bytes */
	__u8 virtual[16];
	__u64 verdicts[2]; /* by bits; none: all */
	__u32 client_family;
	__u32 client_bits;
	__u32 virtual_family;
	__be16 virtual_port; /* 0: all */
	__u8 protocol;	     /* 0: all */
	__u8 unused;
	__u32 snap;
	__u32 sample; /* one of so many */
	__u64 until;  /* CLOCK_MONOTONIC, ns: a recorder that gives no sign of life is none */
	__u64 lost;   /* packets that were wanted and found no room */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pm_record_wanted);
} record_wanted SEC(".maps");

PM_DEFINE_ROOM(record_scratch, struct pm_record_scratch)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PM_RECORD_RING);
} record_ring SEC(".maps");

pm_inline struct pm_record_wanted *pm_record_wanted(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&record_wanted, &zero);
}

#ifdef PM_SKB
#define pm_host_load(host, to, bytes) bpf_skb_load_bytes((host), 0, (to), (bytes))
pm_inline __u32 pm_host_length(PM_HOST *host)
{
	return host->len;
}

pm_inline __u32 pm_host_tag(PM_HOST *host)
{
	return host->vlan_present ? (__u32)pm_htons(host->vlan_proto) << 16 | (host->vlan_tci & 0xffff) : 0;
}

pm_inline __u32 pm_host_ifindex(PM_HOST *host)
{
	return host->ifindex;
}
#else
#define pm_host_load(host, to, bytes) bpf_xdp_load_bytes((host), 0, (to), (bytes))
pm_inline __u32 pm_host_length(PM_HOST *host)
{
	return host->data_end - host->data;
}

#define pm_host_tag(host) ((void)(host), 0)

pm_inline __u32 pm_host_ifindex(PM_HOST *host)
{
	return host->ingress_ifindex;
}
#endif

/* Copies the start of the frame behind `at` bytes of another one; the bytes that were kept. */
pm_inline __u32 pm_record_keep(PM_HOST *host, struct pm_record_scratch *s, __u32 at, __u32 snap, __u32 length)
{
	if (length > snap)
		length = snap;
	pm_opaque(length);
	if (length > PM_SNAP_MAX || at > PM_SNAP_MAX)
		return 0;
	/* Two tests: of one subtraction for both, Linux 6.1 learns nothing about the length. */
	pm_opaque(length);
	if (length < PM_ETH_LEN)
		return 0;
	return pm_host_load(host, s->frames + at, length) ? 0 : length;
}

/* Bytes of a frame in the scratch, by their offset there. */
pm_inline __u8 pm_record_byte(const struct pm_record_scratch *s, __u32 at)
{
	return at < 2 * PM_SNAP_MAX ? *(const volatile __u8 *)(s->frames + at) : 0;
}

pm_inline __u16 pm_record_word(const struct pm_record_scratch *s, __u32 at)
{
	return pm_record_byte(s, at) << 8 | pm_record_byte(s, at + 1);
}

/* The ends of a packet, by their offsets. No family: neither IPv4 nor IPv6, or cut short. */
struct pm_record_ends {
	__u32 family, source, destination, ports, protocol;
};

/* Of the frame at `at`, of which `kept` bytes are there. */
pm_inline struct pm_record_ends pm_record_ends(const struct pm_record_scratch *s, __u32 at, __u32 kept)
{
	struct pm_record_ends e = {};
	__u32 end = at + kept, ip = at + PM_ETH_LEN - 2;

#pragma unroll
	for (int tags = 0; tags < 2; tags++)
		if (pm_record_word(s, ip) == PM_ETHERTYPE_VLAN || pm_record_word(s, ip) == PM_ETHERTYPE_QINQ)
			ip += 4;
	if (pm_record_word(s, ip) == PM_ETHERTYPE_IPV4 && ip + 2 + PM_IPV4_LEN <= end) {
		ip += 2;
		e = (struct pm_record_ends){ 4, ip + 12, ip + 16, 0, pm_record_byte(s, ip + 9) };
		/* Later fragments have no ports. */
		if (!(pm_record_word(s, ip + 6) & 0x1fff))
			e.ports = ip + (pm_record_byte(s, ip) & 15) * 4;
	} else if (pm_record_word(s, ip) == PM_ETHERTYPE_IPV6 && ip + 2 + PM_IPV6_LEN <= end) {
		ip += 2;
		e = (struct pm_record_ends){ 6, ip + 8, ip + 24, ip + PM_IPV6_LEN, pm_record_byte(s, ip + 6) };
	}
	if (e.ports + 4 > end)
		e.ports = 0;
	return e;
}

/*
 * Whether the address at `at` begins with the first `bits` of the client's that is wanted, or of the virtual service's
 * (`virtual`). Without branches for a byte, and a part: the verifier would follow all combinations.
 */
PM_PART int pm_record_matches(const struct pm_record_scratch *s, const struct pm_record_wanted *w, __u32 at,
			      __u32 virtual, __u32 bits)
{
	__u32 differs = 0;

	if (!s || !w || at > 2 * PM_SNAP_MAX - 16)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < 4; i++) {
		__u32 word = *(const volatile pm_u32 *)(s->frames + at + i * 4);
		__u32 want = ((const volatile pm_u32 *)(virtual ? w->virtual : w->client))[i];

		differs |= pm_prefix_word(word ^ want, i, bits);
	}
	return !differs;
}

pm_inline int pm_record_is_client(const struct pm_record_scratch *s, const struct pm_record_wanted *w,
				  const struct pm_record_ends *e, __u32 at)
{
	return e->family == w->client_family && pm_record_matches(s, w, at, 0, w->client_bits);
}

/* Whether the virtual service is at one end of the packet; what has no ports is about all of its address. */
pm_inline int pm_record_is_virtual(const struct pm_record_scratch *s, const struct pm_record_wanted *w,
				   const struct pm_record_ends *e, __u32 at, __u32 port)
{
	if (e->family != w->virtual_family || !pm_record_matches(s, w, at, 1, e->family == 4 ? 32 : 128))
		return 0;
	if (e->protocol == PM_PROTO_ICMP || e->protocol == PM_PROTO_ICMPV6)
		return 1;
	if (w->protocol && e->protocol != w->protocol)
		return 0;
	return !w->virtual_port || !e->ports || pm_record_word(s, e->ports + port) == pm_htons(w->virtual_port);
}

/* A client comes with its address and is answered to it; a virtual service is where it goes to and is answered from. */
PM_PART int pm_record_is_about(struct pm_record_scratch *s, const struct pm_record_wanted *w, __u32 at, __u32 kept)
{
	struct pm_record_ends e;
	int out = at > 0;

	if (!s || !w)
		return 0;
	e = pm_record_ends(s, at, kept);
	return (w->client_family && pm_record_is_client(s, w, &e, out ? e.destination : e.source)) |
	       (w->virtual_family &&
		pm_record_is_virtual(s, w, &e, out ? e.source : e.destination, out ? 0 : 2)) << 1;
}

PM_PART int pm_record_begin(PM_HOST *host)
{
	struct pm_record_wanted *w = pm_record_wanted();
	struct pm_record_scratch *s = pm_record_scratch();
	__u64 now = bpf_ktime_get_ns();

	if (!w || !s)
		return 0;
	s->under_way = 0;
	if (now > pm_read(w->until) || (w->sample > 1 && bpf_get_prandom_u32() % w->sample))
		return 0;
	s->under_way = 1;
	s->record.at = now;
	s->record.ifindex = pm_host_ifindex(host);
	s->record.length = pm_host_length(host);
	s->record.tag = pm_host_tag(host);
	s->record.kept = pm_record_keep(host, s, 0, w->snap, s->record.length);
	return 0;
}

PM_PART int pm_record_end(PM_HOST *host, __u32 v, __u32 ifindex)
{
	struct pm_record_wanted *w = pm_record_wanted();
	struct pm_record_scratch *s = pm_record_scratch();
	__u32 kept, kept_out;

	if (!w || !s || !s->under_way)
		return 0;
	s->under_way = 0;
	if ((w->verdicts[0] | w->verdicts[1]) && !(w->verdicts[v >> 6 & 1] >> (v & 63) & 1))
		return 0;
	kept = s->record.kept;
	if (kept > PM_SNAP_MAX)
		return 0;
	s->record.verdict = v;
	s->record.action = pm_act(v);
	s->record.way_out = ifindex;
	s->record.length_out = pm_host_length(host);
	s->record.tag_out = pm_host_tag(host);
	kept_out = pm_record_keep(host, s, kept, w->snap, s->record.length_out);
	s->record.kept_out = kept_out;
	if (w->client_family || w->virtual_family) {
		int about = pm_record_is_about(s, w, 0, kept) | pm_record_is_about(s, w, kept, kept_out);

		if ((w->client_family && !(about & 1)) || (w->virtual_family && !(about & 2)))
			return 0;
	}
	kept += kept_out;
	pm_opaque(kept);
	if (kept > 2 * PM_SNAP_MAX)
		return 0;
	/* Whoever reads looks again by itself. */
	if (bpf_ringbuf_output(&record_ring, &s->record, sizeof(s->record) + kept, BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&w->lost, 1);
	return 0;
}

#define pm_record_came(host) ((void)pm_record_begin(host))
/* What follows begins with one value: without that, parts of it would be kept on the stack of the stages. */
#define pm_record_decided(result) pm_opaque(result)
#define pm_record_left(host, v, ifindex) ((void)pm_record_end((host), (v), (ifindex)))

#endif
