/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The userspace plane over AF_XDP: frames it claims go to its sockets, all others to the stack. Asks the
 * same question as the nftables rules of the AF_PACKET engine (dataplane/userspace/claims/nftables.ts): no
 * packets of VLANs, none for other hosts, none with senseless lengths.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define inline_ static inline __attribute__((always_inline))
#define opaque_(x) asm volatile("" : "+r"(x))

#define ETH_LEN 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132
#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define DESTINATION 60
/* As many extension headers as anyone sends. */
#define EXTENSIONS_MAX 8

/* Queues of one interface: more than NICs have. */
#define QUEUES_MAX 64

enum steer_side {
	STEER_TO = 0,
	STEER_FROM = 1,
	STEER_ERROR = 2, /* port holds the ICMP type, addr is zero */
	STEER_PIECE = 4, /* with STEER_TO or STEER_FROM: fragments, port is zero */
};

/* port in network order; 0 with STEER_TO and STEER_FROM: all ports. */
struct steer_key {
	__u8 addr[16]; /* IPv4 in the first four bytes */
	__u16 port;
	__u8 protocol;
	__u8 side;
};

/* The daemon writes it; shared by all interfaces. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct steer_key);
	__type(value, __u32);
} claims SEC(".maps");

/* Destinations that claims on spans of ports are about; `length` counts the bits behind it. */
struct steer_prefix {
	__u32 length;
	__u8 family;
	__u8 protocol;
	__u8 piece; /* 1: fragments */
	__u8 pad;
	__u8 addr[16];
};

#define PREFIX_HEAD 32 /* bits before the address */

/*
 * The lowest and, in the high half, the highest port of all claims on the prefix and those around it. Coarser than
 * the claims: what is not theirs comes back to the stack.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, struct steer_prefix);
	__type(value, __u32);
} spans SEC(".maps");

/* The sockets of this interface, by queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* The interface's MAC address, set before loading and when it changes. */
__u8 mac[8];

inline_ __u16 load16(const __u8 *p)
{
	return (__u16)(p[0] << 8 | p[1]);
}

inline_ int claimed_port(struct steer_key *key, __u16 port)
{
	key->port = port;
	if (bpf_map_lookup_elem(&claims, key))
		return 1;
	key->port = 0;
	return !!bpf_map_lookup_elem(&claims, key);
}

inline_ int claimed_span(__u8 protocol, const __u8 *destination, __u32 bytes, __u16 port, __u8 piece)
{
	struct steer_prefix key = {
		.length = PREFIX_HEAD + bytes * 8,
		.family = bytes == 4 ? 4 : 6,
		.protocol = protocol,
		.piece = piece,
	};
	__u32 *ports;

	__builtin_memcpy(key.addr, destination, bytes);
	ports = bpf_map_lookup_elem(&spans, &key);
	return ports && port >= (*ports & 0xffff) && port <= *ports >> 16;
}

/* A fragment: all of a datagram go the same way, and only the first has ports. */
inline_ int claimed_piece(__u8 protocol, const __u8 *source, const __u8 *destination, __u32 bytes)
{
	struct steer_key key = { .protocol = protocol, .side = STEER_TO | STEER_PIECE };

	__builtin_memcpy(key.addr, destination, bytes);
	if (bpf_map_lookup_elem(&claims, &key))
		return 1;
	key.side = STEER_FROM | STEER_PIECE;
	__builtin_memcpy(key.addr, source, bytes);
	return bpf_map_lookup_elem(&claims, &key) || claimed_span(protocol, destination, bytes, 0, 1);
}

/* transport: at least 4 bytes; source and destination: `bytes` of address. */
inline_ int claimed(__u8 protocol, const __u8 *source, const __u8 *destination, __u32 bytes,
		    const __u8 *transport)
{
	struct steer_key key = { .protocol = protocol };

	if (protocol == PROTO_ICMP || protocol == PROTO_ICMPV6) {
		key.side = STEER_ERROR;
		key.port = bpf_htons(transport[0]);
		return !!bpf_map_lookup_elem(&claims, &key);
	}
	if (protocol != PROTO_TCP && protocol != PROTO_UDP && protocol != PROTO_SCTP)
		return 0;
	key.side = STEER_TO;
	__builtin_memcpy(key.addr, destination, bytes);
	if (claimed_port(&key, bpf_htons(load16(transport + 2))))
		return 1;
	key.side = STEER_FROM;
	__builtin_memcpy(key.addr, source, bytes);
	return claimed_port(&key, bpf_htons(load16(transport))) ||
	       claimed_span(protocol, destination, bytes, load16(transport + 2), 0);
}

inline_ int claimed4(const __u8 *ip, const __u8 *end)
{
	__u32 header, total;

	if (ip + 20 > end || ip[0] >> 4 != 4)
		return 0;
	header = (ip[0] & 15) * 4;
	total = load16(ip + 2);
	if (header < 20 || total < header || ip + total > end)
		return 0;
	if (load16(ip + 6) & 0x3fff)
		return claimed_piece(ip[9], ip + 12, ip + 16, 4);
	if (ip + header + 4 > end || ip[9] == PROTO_ICMPV6)
		return 0;
	return claimed(ip[9], ip + 12, ip + 16, 4, ip + header);
}

inline_ int claimed6(const __u8 *ip, const __u8 *end)
{
	const __u8 *at = ip + 40;
	__u32 payload;
	int piece = 0;
	__u8 next;

	if (at > end || ip[0] >> 4 != 6)
		return 0;
	payload = load16(ip + 4);
	/* Linux 6.1 knows no bounds of what two bytes were put together from: seen after a mask. */
	opaque_(payload);
	if (at + (payload & 0xffff) > end)
		return 0;
	next = ip[6];
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		int fragment = next == FRAGMENT;

		if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && !fragment)
			break;
		if (at + 8 > end)
			return 0;
		next = at[0];
		piece |= fragment;
		/* Behind a later fragment's header is payload. */
		if (fragment && load16(at + 2) & 0xfff8)
			break;
		at += fragment ? 8 : (at[1] + 1) * 8;
	}
	if (piece)
		return claimed_piece(next, ip + 8, ip + 24, 16);
	if (at + 4 > end || next == PROTO_ICMP)
		return 0;
	return claimed(next, ip + 8, ip + 24, 16, at);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	const __u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int ours;

	if (data + ETH_LEN > end)
		return XDP_PASS;
#pragma unroll
	for (int i = 0; i < 6; i++)
		if (data[i] != mac[i])
			return XDP_PASS;
	switch (load16(data + 12)) {
	case ETHERTYPE_IPV4:
		ours = claimed4(data + ETH_LEN, end);
		break;
	case ETHERTYPE_IPV6:
		ours = claimed6(data + ETH_LEN, end);
		break;
	default:
		return XDP_PASS;
	}
	/* A queue without a socket leaves its frames to the stack. */
	return ours ? bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS) : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
