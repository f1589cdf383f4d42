/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A program under BPF_PROG_TEST_RUN sees what the run before left of its packet. `wrap` puts the frame
 * back as it was, makes it a packet of the next flow, and tail-calls what is measured; measured
 * against `ref_nop` behind the same wrapper, the difference is the program's own time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define FRAME 64 /* bytes put back: what a program under test may change, the checksum of IPv6 TCP aside */

struct plan {
	__u8 frame[FRAME];
	__u32 length;	  /* of the whole frame */
	__u32 mask;	  /* flows - 1, a power of two less one */
	__u32 random;	  /* 0: one after the other */
	__u32 source_off; /* four bytes of an address that take the flow's number */
	__u32 port_off;	  /* the port that goes with it */
	__u32 first_flow;
	__u32 ipv4;	  /* 1: keep the IPv4 header checksum right */
	__u32 check_off;  /* of the transport checksum, kept right; 0: left alone */
	__u32 apart;	  /* 1: the flows of each CPU are others than those of every other CPU */
};

struct progress {
	__u64 sequence;
	__u64 seed;
};

#define ONE_ENTRY(name, kind, record)            \
	struct {                                 \
		__uint(type, kind);              \
		__uint(max_entries, 1);          \
		__type(key, __u32);              \
		__type(value, record);           \
	} name SEC(".maps")

ONE_ENTRY(bench_plan, BPF_MAP_TYPE_ARRAY, struct plan);
ONE_ENTRY(bench_progress, BPF_MAP_TYPE_PERCPU_ARRAY, struct progress);
ONE_ENTRY(bench_target, BPF_MAP_TYPE_PROG_ARRAY, __u32);

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

SEC("xdp")
int wrap(struct xdp_md *ctx)
{
	__u32 zero = 0, source_off, port_off, check_off, address, change, was;
	struct plan *plan = bpf_map_lookup_elem(&bench_plan, &zero);
	struct progress *at = bpf_map_lookup_elem(&bench_progress, &zero);
	__u64 flow, length = ctx->data_end - ctx->data;
	__u8 *data, *end, *source, *port, *check;
	__u16 number;
	int longer;

	if (!plan || !at)
		return XDP_ABORTED;
	longer = (int)length - (int)plan->length;
	if (longer && bpf_xdp_adjust_head(ctx, longer))
		return XDP_ABORTED;
	data = (__u8 *)(long)ctx->data;
	end = (__u8 *)(long)ctx->data_end;
	if (data + FRAME > end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < FRAME / 4; i++)
		((__u32 *)data)[i] = ((__u32 *)plan->frame)[i];
	if (plan->random) {
		/* xorshift64 */
		at->seed ^= at->seed << 13;
		at->seed ^= at->seed >> 7;
		at->seed ^= at->seed << 17;
		flow = at->seed >> 20;
	} else {
		flow = at->sequence++;
	}
	flow = (flow & plan->mask) + plan->first_flow;
	if (plan->apart)
		flow += (__u64)bpf_get_smp_processor_id() * (plan->mask + 1);
	source_off = plan->source_off & 63;
	port_off = plan->port_off & 63;
	check_off = plan->check_off & 63;
	if (source_off > FRAME - 4 || port_off > FRAME - 2 || check_off > FRAME - 2)
		return XDP_ABORTED;
	source = data + source_off;
	port = data + port_off;
	check = data + check_off;
	if (source + 4 > end || port + 2 > end || check + 2 > end)
		return XDP_ABORTED;
	was = *(__u32 *)source;
	address = was ^ __builtin_bswap32((__u32)(flow >> 4));
	number = __builtin_bswap16(1024 + (flow & 15) * 3001);
	/* RFC 1624: what the sums of 16-bit words change by */
	change = (__u16)~(was & 0xffff) + (__u16)~(was >> 16) + (address & 0xffff) + (address >> 16);
	*(__u32 *)source = address;
	if (plan->ipv4)
		*(__u16 *)(data + 24) = ~fold((__u16)~*(__u16 *)(data + 24) + change);
	if (check_off) {
		change += (__u16)~*(__u16 *)port + number;
		*(__u16 *)check = ~fold((__u16)~*(__u16 *)check + change);
	}
	*(__u16 *)port = number;
	bpf_tail_call(ctx, &bench_target, 0);
	return XDP_ABORTED;
}

/* Nothing at all: what the wrapper costs. */
SEC("xdp")
int ref_nop(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

/* Where frames end. */
SEC("xdp")
int ref_drop(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_DROP;
}

/* The least that sends a frame back. */
SEC("xdp")
int ref_swap(struct xdp_md *ctx)
{
	__u16 *mac = (__u16 *)(long)ctx->data;

	if ((__u8 *)mac + 14 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (int i = 0; i < 3; i++) {
		__u16 keep = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = keep;
	}
	return XDP_TX;
}

/* The same in traffic control. */
SEC("tc")
int ref_swap_tc(struct __sk_buff *skb)
{
	__u16 *mac = (__u16 *)(long)skb->data;

	if ((__u8 *)mac + 14 > (__u8 *)(long)skb->data_end)
		return 2; /* TC_ACT_SHOT */
	for (int i = 0; i < 3; i++) {
		__u16 keep = mac[i];

		mac[i] = mac[i + 3];
		mac[i + 3] = keep;
	}
	return bpf_redirect(skb->ifindex, 0);
}

/* The least that a forwarder by encapsulation does: room, constant MACs, a constant IPv4 header. */
SEC("xdp")
int ref_encap(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, sum = 0;
	__u32 *ip;
	__u8 *data;

	if (bpf_xdp_adjust_head(ctx, -20))
		return XDP_DROP;
	data = (__u8 *)(long)ctx->data;
	if (data + 54 > (__u8 *)(long)ctx->data_end)
		return XDP_DROP;
	*(__u32 *)data = 0xadde0000;
	*(__u32 *)(data + 4) = 0x00020000;
	*(__u32 *)(data + 8) = 0x02000000;
	*(__u16 *)(data + 12) = 0x0008;
	ip = (__u32 *)(data + 14);
	ip[0] = 0x45 | __builtin_bswap16(length - 14 + 20) << 16;
	ip[1] = 0;
	ip[2] = 64 | 4 << 8;
	ip[3] = 0x0101010a;
	ip[4] = 0x0201010a;
#pragma unroll
	for (int i = 0; i < 5; i++)
		sum += (ip[i] & 0xffff) + (ip[i] >> 16);
	ip[2] |= (__u32)(__u16)~fold(sum) << 16;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
