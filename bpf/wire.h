/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Headers as they are on the wire: byte order in the types, no bit-fields. */
#pragma once

#include "types.h"

#define PM_ETH_LEN 14
#define PM_ETH_MIN 60 /* IEEE 802.3 §3.2.8, without the check sequence */
#define PM_VLAN_LEN 4
#define PM_IPV4_LEN 20
#define PM_IPV6_LEN 40
#define PM_UDP_LEN 8
#define PM_TCP_LEN 20
#define PM_SCTP_LEN 12
#define PM_ICMP_LEN 8

#define PM_ETHERTYPE_IPV4 0x0800
#define PM_ETHERTYPE_IPV6 0x86dd
#define PM_ETHERTYPE_VLAN 0x8100
#define PM_ETHERTYPE_QINQ 0x88a8
#define PM_VLAN_ID 0x0fff

#define PM_PROTO_HOPOPT 0
#define PM_PROTO_ICMP 1
#define PM_PROTO_IPIP 4
#define PM_PROTO_TCP 6
#define PM_PROTO_UDP 17
#define PM_PROTO_IPV6 41
#define PM_PROTO_ROUTING 43
#define PM_PROTO_FRAGMENT 44
#define PM_PROTO_GRE 47
#define PM_PROTO_AH 51
#define PM_PROTO_ICMPV6 58
#define PM_PROTO_NONE 59
#define PM_PROTO_DSTOPTS 60
#define PM_PROTO_SCTP 132

/* RFC 791 §3.1, flags and fragment offset. */
#define PM_IPV4_DF 0x4000
#define PM_IPV4_MF 0x2000
#define PM_IPV4_OFFSET 0x1fff /* in units of 8 bytes */
#define PM_IPV4_FRAGMENT 0x3fff /* MF or an offset */

struct pm_eth {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
} __attribute__((packed));

struct pm_ipv4 {
	__u8 version_ihl;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 check;
	__be32 saddr;
	__be32 daddr;
} __attribute__((packed, aligned(2)));

struct pm_ipv6 {
	__be32 flow; /* version, traffic class, flow label */
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 saddr[4];
	__be32 daddr[4];
} __attribute__((packed, aligned(2)));

/* RFC 8200 §4.2: every extension header but the fragment header starts like this. */
struct pm_ipv6_ext {
	__u8 next;
	__u8 length; /* 8-byte units behind the first */
} __attribute__((packed));

#define PM_IPV6_OFFSET 0xfff8 /* RFC 8200 §4.5: in bytes, as it stands there */

/* Its first two bytes are those of the others, but the length is reserved. */
struct pm_ipv6_fragment {
	__u8 next;
	__u8 length;
	__be16 offset; /* and M, the lowest bit */
	__be32 id;
} __attribute__((packed, aligned(2)));

struct pm_tcp {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
} __attribute__((packed, aligned(2)));

#define PM_TCP_FIN 0x01
#define PM_TCP_SYN 0x02
#define PM_TCP_RST 0x04
#define PM_TCP_ACK 0x10

struct pm_udp {
	__be16 sport;
	__be16 dport;
	__be16 length;
	__be16 check;
} __attribute__((packed, aligned(2)));

/* RFC 9260 §3.1, §3.2 */
struct pm_sctp {
	__be16 sport;
	__be16 dport;
	__be32 tag;
	__u32 crc; /* RFC 9260 §6.8: CRC-32C, as the only number here lowest byte first */
} __attribute__((packed, aligned(2)));

struct pm_sctp_chunk {
	__u8 type;
	__u8 flags;
	__be16 length; /* with these four bytes, without padding */
} __attribute__((packed, aligned(2)));

/* GUE, variant 0, without options (draft-ietf-intarea-gue §3). */
struct pm_gue {
	__u8 version_length;
	__u8 protocol;
	__be16 flags;
} __attribute__((packed, aligned(2)));

/* RFC 2784 §2. The checksum word is there only if the flag says so. */
struct pm_gre {
	__be16 flags;
	__be16 type;
	__be16 check;
	__be16 reserved;
} __attribute__((packed, aligned(2)));

#define PM_GRE_LEN 4
#define PM_GRE_CSUM_LEN 8
#define PM_GRE_CSUM 0x8000

struct pm_icmp {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 unused;
	__be16 mtu; /* frag needed; packet too big uses both halves */
} __attribute__((packed, aligned(2)));

#define pm_htons(x) __builtin_bswap16(x)
#define pm_ntohs(x) __builtin_bswap16(x)
#define pm_htonl(x) __builtin_bswap32(x)
#define pm_ntohl(x) __builtin_bswap32(x)
