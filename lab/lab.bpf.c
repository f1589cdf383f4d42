/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the lab's network needs from BPF, apart from the director: nothing here is part of pointsman.
 *
 * decap  at a real server: takes the outer header of a tunnelled packet off, for any mix of
 *        families (IPIP, GRE, GUE variant 0), so that the lab runs on kernels without ipip, gre
 *        and fou devices. What it does not know goes to the stack as it is.
 * pass   at the far end of the director's links: veth delivers what XDP sends only when the peer
 *        runs NAPI, and a program there makes it do so.
 *
 * Both take frames that do not lie on one piece of memory (frags): without it the kernel lets no link that
 * they are at have jumbo frames.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The port real servers take GUE on; "ports.gue" of topology.json, given by the build. */
#ifndef LAB_GUE_PORT
#error "LAB_GUE_PORT is not set"
#endif

struct gre_base {
	__be16 flags;
	__be16 protocol; /* an ethertype, RFC 2784 §2.1 */
};

struct gue_base {
	__u8 control; /* version (2 bits), C bit, length of the options in 32-bit words (5 bits) */
	__u8 protocol; /* an IP protocol number */
	__be16 flags;
};

#define GRE_CHECKSUM 0x8000 /* four more bytes: checksum and reserved */
#define GUE_VARIANT 0xc0
#define GUE_CONTROL 0x20
#define GUE_OPTION_WORDS 0x1f
#define FRAGMENT_OFFSET_OR_MORE 0x3fff

static __always_inline __u16 ethertype_of(__u8 protocol)
{
	if (protocol == IPPROTO_IPIP)
		return ETH_P_IP;
	if (protocol == IPPROTO_IPV6)
		return ETH_P_IPV6;
	return 0;
}

/*
 * Reads the tunnel header at `at` that follows the outer IP header. Returns the ethertype of the
 * inner packet and adds the length of the tunnel header to *strip, or returns 0.
 */
static __always_inline __u16 tunnel_header(void *at, void *end, __u8 protocol, __u32 *strip)
{
	if (protocol == IPPROTO_GRE) {
		struct gre_base *gre = at;
		__u16 flags;

		if ((void *)(gre + 1) > end)
			return 0;
		flags = bpf_ntohs(gre->flags);
		if (flags & ~GRE_CHECKSUM)
			return 0; /* key, sequence or another version: IPVS sends none of them */
		*strip += sizeof(*gre) + (flags & GRE_CHECKSUM ? 4 : 0);
		return bpf_ntohs(gre->protocol);
	}
	if (protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		struct gue_base *gue = (void *)(udp + 1);

		if ((void *)(gue + 1) > end || udp->dest != bpf_htons(LAB_GUE_PORT))
			return 0;
		if (gue->control & (GUE_VARIANT | GUE_CONTROL))
			return 0;
		*strip += sizeof(*udp) + sizeof(*gue) + (gue->control & GUE_OPTION_WORDS) * 4;
		return ethertype_of(gue->protocol);
	}
	return ethertype_of(protocol);
}

SEC("xdp.frags")
int decap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data, kept;
	__u32 strip;
	__u16 inner;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end || ip->ihl < 5)
			return XDP_PASS;
		if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET_OR_MORE))
			return XDP_PASS;
		strip = ip->ihl * 4;
		inner = tunnel_header((void *)ip + strip, end, ip->protocol, &strip);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end)
			return XDP_PASS;
		strip = sizeof(*ip);
		inner = tunnel_header(ip + 1, end, ip->nexthdr, &strip);
	} else {
		return XDP_PASS;
	}
	if (inner != ETH_P_IP && inner != ETH_P_IPV6)
		return XDP_PASS;

	kept = *eth;
	kept.h_proto = bpf_htons(inner);
	if (bpf_xdp_adjust_head(ctx, strip))
		return XDP_PASS;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(kept) > end)
		return XDP_DROP;
	__builtin_memcpy(data, &kept, sizeof(kept));
	return XDP_PASS;
}

SEC("xdp.frags")
int pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char lab_license[] SEC("license") = "Dual MIT/GPL";
