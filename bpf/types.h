/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Every struct, enum and limit that crosses between the packet program and TypeScript.
 *
 * dataplane/layout/layout.gen.ts is generated from the BTF of the compiled object, so this file is the
 * only source of the layout. Rules: explicit padding, no bit-fields, no holes; wire values are
 * __be16 / __be32 (or byte arrays), everything else is in host order. Numbers in enums are part
 * of the pinned state of running directors: append, never reuse.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef signed long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;

/* Records as words, whatever their fields. */
typedef __u32 __attribute__((__may_alias__)) pm_u32;
typedef __u64 __attribute__((__may_alias__)) pm_u64;

/* Bumped when a change of layout makes pinned maps of an older program unusable. */
#define PM_LAYOUT_VERSION 12

#define PM_NONE 0xffffffffu /* no index: an unset reference to a line, a real server, ... */

/*
 * Time in the maps counts ticks of 2^23 ns (8.39 ms) of CLOCK_MONOTONIC, modulo 2^32 (416 days);
 * two times are compared by the sign of their difference.
 */
#define PM_TICK_SHIFT 23

/* What became of a packet. Each has a counter, shown by `pointsman verdicts`. */
enum pm_verdict {
	PM_CONTINUE = 0, /* inside the program only: the next stage decides */

	/* To the director's own stack, as if there were no load balancer. */
	PM_PASS_NOT_IP = 1,	       /* neither IPv4 nor IPv6 */
	PM_PASS_NOT_FOR_HOST = 2,      /* destination MAC is not the interface's */
	PM_PASS_VLAN = 3,	       /* VLAN id other than 0 */
	PM_PASS_MALFORMED = 4,	       /* lengths or header checksum wrong: the stack drops it */
	PM_PASS_PROTOCOL = 5,	       /* not TCP, UDP or SCTP */
	PM_PASS_ICMP = 6,	       /* ICMP or ICMPv6, and no error about a connection of ours */
	PM_PASS_FRAGMENT = 7,	       /* a fragment of a datagram that is none of ours, or whose first is not known */
	PM_PASS_NO_SERVICE = 8,	       /* no virtual service at this address */
	PM_PASS_NOT_FIRST = 9,	       /* no connection, and this packet may not start one */
	PM_PASS_MARTIAN_SOURCE = 10,   /* source can not be a client: the stack drops it */
	PM_PASS_FTP_DATA = 11,	       /* source port 20 is never scheduled */
	PM_PASS_LOCAL_NODE = 12,       /* the real server is this host */
	PM_PASS_REPLY_TTL = 13,	       /* NAT reply at the end of its TTL: the stack answers */
	PM_PASS_REPLY_MTU = 14,	       /* NAT reply too large for the client's link: the stack answers */
	PM_PASS_REPLY = 15,	       /* answer of a DR or TUN real server, seen and counted */
	PM_PASS_NOT_CONFIGURED = 16,   /* the daemon has not published settings yet */
	PM_PASS_NO_ROUTE_REPLY = 17,   /* NAT reply without a route: the stack answers */
	PM_PASS_UNSUPPORTED = 18,      /* a virtual service this program cannot serve yet */
	PM_PASS_EGRESS = 19,	       /* NAT, translated: the stack sends it where no frame of ours is taken */

	/* Sent on. */
	PM_FORWARD_NAT = 32,	       /* client to NAT real server */
	PM_FORWARD_NAT_REPLY = 33,     /* NAT real server to client */
	PM_FORWARD_DR = 34,	       /* direct routing */
	PM_FORWARD_TUN = 35,	       /* encapsulated */
	PM_FORWARD_ICMP = 36,	       /* ICMP error about an answer, to the real server */
	PM_FORWARD_ICMP_REPLY = 37,    /* ICMP error about a request, to the client */
	PM_FORWARD_REPLY = 38,	       /* answer of a DR or TUN real server by way of this host, to the client */

	/* Answered by the director. */
	PM_ANSWER_PORT_UNREACHABLE = 40, /* no real server available; or nat_icmp_send and no connection */
	PM_ANSWER_TIME_EXCEEDED = 41,	 /* TTL or hop limit used up */
	PM_ANSWER_TOO_BIG = 42,		 /* larger than the path and must not be fragmented */
	PM_ANSWER_HOST_UNREACHABLE = 43, /* no route to the real server */

	/* Dropped. */
	PM_DROP_ANSWER_LIMIT = 48,	/* no answer: the budget of ICMP errors is used up */
	PM_DROP_REAL_SERVER_GONE = 49,	/* connection of a removed real server */
	PM_DROP_TABLE_FULL = 50,	/* no line for a new connection */
	PM_DROP_NEXT_HOP_UNRESOLVED = 51, /* neighbour not resolved yet */
	PM_DROP_FORWARDING_OFF = 52,	/* ip_forward is off on the receiving interface */
	PM_DROP_NO_ROUTE = 53,		/* unreachable, and no answer can be sent */
	PM_DROP_HEADROOM = 54,		/* driver left no room for another header */
	PM_DROP_FRAGMENTATION = 55,	/* would have to be fragmented */
	PM_DROP_DEFENCE = 56,		/* drop_packet */
	PM_DROP_MAP = 57,		/* index outside a map: an inconsistency, never expected */
	PM_DROP_NO_TUNNEL_SOURCE = 58,	/* no source address for the outer header is known yet */
	PM_DROP_ANSWER_FAILED = 59,	/* an ICMP error could not be built */
	PM_DROP_TX = 60,		/* userspace plane: the socket refused the frame */
	PM_DROP_RING = 61,		/* userspace plane: lost in the receive ring (PACKET_STATISTICS) */

	PM_WANT_PAYLOAD = 62, /* userspace host only: run again with the whole packet in memory */
	PM_WANT_DATAGRAM = 63, /* a fragment, kept until all of its datagram is there; XDP: left to traffic control, which does so */

	PM_DROP_ICMP_CHECKSUM = 64, /* ICMP error that NAT would have to translate, sum wrong */
	PM_DROP_ICMP_TTL = 65,	    /* ICMP error at the end of its TTL: never answered by another */
	PM_DROP_EGRESS = 66,	    /* the interface it would leave by takes no frame of ours */
	PM_DROP_CHECKSUM_LIMIT = 67, /* needs a checksum over more bytes than the program can sum */
	PM_DROP_CONNECTION_BUSY = 68, /* its connection is over, or moves, and other packets are at that just now */

	PM_DROP_ICMP_TAKEN = 80,    /* error about a tunnel packet: the path's MTU was learnt, nobody is to be told */
	PM_DROP_FRAGMENT_EARLY = 82,   /* of a real server, before the first of its datagram */
	PM_DROP_FRAGMENT_OVERLAP = 83, /* contradicts another of its datagram */
	PM_DROP_FRAGMENT_SHORT = 84,   /* a first one without a whole transport header */
	PM_DROP_FRAGMENT_REFUSED = 85, /* the first of its datagram went nowhere */
	PM_DROP_FRAGMENT_ALONE = 86,   /* its connection is gone, or it would have to be answered */
	PM_DROP_FRAGMENT_TABLE = 87,   /* no room for another fragmented datagram */
	PM_DROP_FRAGMENT_INCOMPLETE = 88, /* its datagram was not whole in time, or had to give way */
	PM_DROP_NO_REAL_SERVER = 81, /* ICMP error that schedule_icmp would schedule, and no real server available */
	PM_WANT_CUT = 71, /* XDP only: left to the program of traffic control beside it, which cuts */
	PM_DROP_DENIED = 72,	     /* its source is denied */
	PM_DROP_RATE = 73,	     /* its source starts more connections than the service lets it */
	PM_DROP_CONNECTIONS = 74,    /* its source has as many connections as the service lets it have at a time */
	PM_DROP_PORTS_TAKEN = 76,    /* full NAT: none of the addresses and ports that it may have is free */
	PM_DROP_NO_CALL_ID = 77,     /* no SIP message whose call could be told, to a service with that persistence engine */

	/*
	 * No packet's verdict: what became of connections, counted in the same rows. A new connection that
	 * found no room took the place of one that was over, half-open, not answered, or idle.
	 */
	PM_EVICTED_ENDED = 96,
	PM_EVICTED_HALF_OPEN = 97,
	PM_EVICTED_UNANSWERED = 98,
	PM_EVICTED_IDLE = 99,
	PM_EXPIRED_BY_PACKET = 100, /* the time had run out, and no daemon was there to see it */
	PM_FORGOT_SOURCE = 102,	    /* a limited source's record was needed for another one: it may start anew */
	PM_REPAIRED_COUNT = 101,    /* the daemon's: a real server's count that was not what its lines say */

	PM_VERDICT_MAX = 128,
};

/* What the host does with the frame; derived from the verdict in one place. */
enum pm_action {
	PM_ACTION_PASS = 0,
	PM_ACTION_DROP = 1,
	PM_ACTION_SEND = 2, /* out of pm_job.ifindex / by redirect */
	PM_ACTION_AGAIN = 3, /* userspace host only: with the whole packet, or later */
};

enum pm_method {
	PM_METHOD_NAT = 0, /* the numbers of IPVS's netlink interface */
	PM_METHOD_FULL_NAT = 1, /* ours: source and destination; there it is LOCALNODE, which no rule has */
	PM_METHOD_TUN = 2,
	PM_METHOD_DR = 3,
	PM_METHOD_BYPASS = 4,
};

enum pm_tunnel {
	PM_TUNNEL_IPIP = 0,
	PM_TUNNEL_GUE = 1,
	PM_TUNNEL_GRE = 2,
};

enum pm_tunnel_flag {
	PM_TUNNEL_NOCSUM = 0,
	PM_TUNNEL_CSUM = 1,
	PM_TUNNEL_REMCSUM = 2,
};

enum pm_scheduler {
	PM_SCHEDULER_NONE = 0,
	PM_SCHEDULER_RR = 1,
	PM_SCHEDULER_WRR = 2,
	PM_SCHEDULER_LC = 3,
	PM_SCHEDULER_WLC = 4,
	PM_SCHEDULER_LBLC = 5,
	PM_SCHEDULER_LBLCR = 6,
	PM_SCHEDULER_DH = 7,
	PM_SCHEDULER_SH = 8,
	PM_SCHEDULER_SED = 9,
	PM_SCHEDULER_NQ = 10,
	PM_SCHEDULER_FO = 11,
	PM_SCHEDULER_OVF = 12,
	PM_SCHEDULER_MH = 13,
	PM_SCHEDULER_TWOS = 14,
	PM_SCHEDULER_RANDOM = 15, /* ours, not IPVS's */
	PM_SCHEDULER_WRANDOM = 16,
	PM_SCHEDULER_MAX = 17,
};

/* The flag bits of IPVS's netlink interface, and ours. */
enum pm_service_flag {
	PM_SERVICE_PERSISTENT = 0x01,
	PM_SERVICE_ONE_PACKET = 0x04,
	PM_SERVICE_SCHED_1 = 0x08,
	PM_SERVICE_SCHED_2 = 0x10,
	PM_SERVICE_SCHED_3 = 0x20,
	PM_SERVICE_UNTRACKED = 0x10000, /* ours: just enough tracking (bpf/untracked.h) */
};
#define PM_SERVICE_SCHED 0x38u

/* Persistence engines. */
enum pm_engine {
	PM_ENGINE_NONE = 0,
	PM_ENGINE_SIP = 1,
};

/* Life of a slot in services and reals. */
enum pm_slot {
	PM_SLOT_FREE = 0,
	PM_SLOT_LIVE = 1,
	PM_SLOT_GONE = 2, /* reals: removed from its service, connections may still refer to it */
};

/* States of a connection, numbered as in the IPVS synchronisation protocol. */
enum pm_tcp_state {
	PM_TCP_NONE = 0,
	PM_TCP_ESTABLISHED = 1,
	PM_TCP_SYN_SENT = 2,
	PM_TCP_SYN_RECV = 3,
	PM_TCP_FIN_WAIT = 4,
	PM_TCP_TIME_WAIT = 5,
	PM_TCP_CLOSE = 6,
	PM_TCP_CLOSE_WAIT = 7,
	PM_TCP_LAST_ACK = 8,
	PM_TCP_LISTEN = 9,
	PM_TCP_SYNACK = 10,
	PM_TCP_STATE_MAX = 11,
};

enum pm_sctp_state {
	PM_SCTP_NONE = 0,
	PM_SCTP_INIT1 = 1,
	PM_SCTP_INIT = 2,
	PM_SCTP_C_SENT = 3,
	PM_SCTP_C_REPLIED = 4,
	PM_SCTP_C_WAIT = 5,
	PM_SCTP_COOKIE = 6,
	PM_SCTP_C_ECHOED = 7,
	PM_SCTP_ESTABLISHED = 8,
	PM_SCTP_S_SENT = 9,
	PM_SCTP_S_RECEIVED = 10,
	PM_SCTP_S_ACK_SENT = 11,
	PM_SCTP_REJECTED = 12,
	PM_SCTP_CLOSED = 13,
	PM_SCTP_STATE_MAX = 14,
};

#define PM_TIMEOUTS 16
#define PM_TIMEOUT_UDP 11     /* index in pm_settings.timeouts behind the TCP states */
#define PM_TIMEOUT_INITIAL 12 /* before the first state change */
#define PM_TIMEOUT_LBLC 14    /* how long destinations are remembered that nobody asks for */
#define PM_TIMEOUT_LBLCR 15   /* the same of lblcr, and how long a set of real servers stays as it is */

/*
 * pm_settings.flags: what the rules use, so that the packet path can leave out the rest.
 */
enum pm_setting {
	PM_SETTING_READY = 0x01,	   /* the daemon has published rules at least once */
	PM_SETTING_PORT0 = 0x02,	   /* some service has port 0 */
	PM_SETTING_SLOPPY_TCP = 0x04,	   /* sysctl sloppy_tcp */
	PM_SETTING_EXPIRE_NODEST = 0x08,   /* sysctl expire_nodest_conn */
	PM_SETTING_SECURE_TCP = 0x10,	   /* secure_tcp table in force */
	PM_SETTING_NO_PMTU_DISC = 0x20,	   /* sysctl pmtu_disc=0 */
	PM_SETTING_FTP = 0x40,		   /* some TCP service has port 21 */
	PM_SETTING_V4 = 0x80,		   /* some IPv4 service exists or connections may */
	PM_SETTING_V6 = 0x100,		   /* the same for IPv6 */
	/* 0x200: a filter of addresses in earlier versions. Whoever finds it set has maps that say less. */
	PM_SETTING_NAT_ICMP_SEND = 0x400,  /* sysctl nat_icmp_send: nat_index is kept */
	PM_SETTING_SCHEDULE_ICMP = 0x1000, /* sysctl schedule_icmp */
	PM_SETTING_INTEREST = 0x800,	   /* the interest map is kept: endpoints not in it are not ours */
	PM_SETTING_MARKS = 0x2000,	   /* some service has a firewall mark, and some rule gives one */
	PM_SETTING_EXPIRE_QUIESCENT = 0x4000, /* sysctl expire_quiescent_template */
	PM_SETTING_FILTERS = 0x8000,	   /* some prefix is denied or allowed */
	PM_SETTING_SLOPPY_SCTP = 0x40000,  /* sysctl sloppy_sctp */
	PM_SETTING_LIMITS = 0x10000,	   /* some service has a limit for each source */
	PM_SETTING_ANSWERS = 0x20000,	   /* what this host's own sockets send passes the program, too (outgoing.h) */
	PM_SETTING_CUTS = 0x100000,	   /* traffic control beside XDP cuts what is larger than its path (cut-mark.h) */
	PM_SETTING_OWN = 0x80000,	   /* this host's own sockets are clients, too (own.h) */
	PM_SETTING_UNTRACKED = 0x200000,   /* some service is tracked just enough, or was until lately (untracked.h) */
	PM_SETTING_DATAGRAMS = 0x400000,   /* traffic control puts datagrams together, also of XDP's fragments (gather.h) */
	PM_SETTING_BYPASS = 0x800000,	   /* sysctl cache_bypass, and there is a record for it */
	PM_SETTING_ENGINES = 0x1000000,	   /* some service has a persistence engine: nat_index is kept */
};

/*
 * One entry. Written by the daemon, read by the program. What the program writes stands in a cache line
 * of its own, but for what hardly ever changes: every packet reads the others. `layout` and `fingerprint` never move: they say which layout
 * everything else has.
 */
struct pm_settings {
	__u32 layout;		/* PM_LAYOUT_VERSION */
	__u32 flags;		/* enum pm_setting */
	__u32 next_hop_epoch;	/* bumped when routes or neighbours change */
	__u32 reuse_mode;	/* sysctl conn_reuse_mode */
	__u32 timeouts[PM_TIMEOUTS]; /* ticks, by state */
	__u32 drop_rate;	/* drop_packet: every n-th new connection, 0 never */
	__u32 unprivileged_port; /* host order, first port that may be FTP data (1024) */
	__u32 icmp_per_second;	/* budget of ICMP errors we send, 0 = without limit */
	__u32 hash_seed;	/* of the connection tables; random, set once when the maps are made */
	__u32 swept;		/* ticks: when the daemon last looked after the connection tables */
	__u32 levels4;		/* which part of connections4 is in use, see PM_LEVEL; swapped by both sides */
	__u32 levels6;
	__u32 fingerprint[2];	/* LAYOUT_FINGERPRINT, high half first */
	__u32 paths_learnt;	/* ticks: until when some pm_live.path is good; 0: there is none. The program's */
	__u32 marks;		/* which half of the marking rules is in use, and how many kinds: see PM_MARK_HALF */
	/* Ticks between ICMP errors to one destination, by IPv4 in the low half, IPv6 in the high; 0: any number */
	__u32 answer_intervals;
	/* The program's. */
	__u64 icmp_budget;	/* second in the high half, how much of its budget is given out in the low */
	__u32 drop_count;	/* new connections until the next drop */
	__u32 moves;		/* lines that were moved to another place (move.h), so far; wraps */
	__u32 bypass;		/* the daemon's: index in reals of the record for cache_bypass */
	/* How many records of full_nat are in use: of IPv4 in bits 0-7, of IPv6 in 8-15. The daemon's */
	__u32 full_nat;
	__u32 pad3[10];
};

/*
 * An address that full NAT gives connections for a source, and its ports. Those of IPv4, then PM_FULL_NATS places for
 * IPv6; those in use stand in front.
 */
#define PM_FULL_NATS 64
#define PM_FULL_NAT_COUNT 0xffu
#define PM_FULL_NAT_SHIFT 8
struct pm_full_nat {
	__u32 version;	/* odd while the record is being written */
	__u16 first;	/* port, host order */
	__u16 ports;	/* how many */
	__be32 addr[4]; /* IPv4 in the first word */
	__u32 pad[2];
};

/* What the program keeps for each CPU: nobody else writes there. */
struct pm_cpu_state {
	__u32 icmp_second; /* of the share below */
	__u32 icmp_left;   /* ICMP errors this CPU may still send in that second */
	__u32 swept;	   /* ticks: last look for expired connections */
	__u32 sweep4;	   /* line of connections4 to look at next */
	__u32 sweep6;
	__u32 pad[11];
};

/* Interfaces the program is attached to, hashed by ifindex: slot = (ifindex + i) % PM_INTERFACES. */
#define PM_INTERFACES 64
#define PM_INTERFACE_PROBES 4
#define PM_INTERFACE_MACS 14 /* 128 bytes a record */
struct pm_interface {
	__u32 ifindex; /* 0: free */
	__u8 mac[6];
	__u16 macs; /* how many more there are; those that `more` has no place for are in the map `macs` */
	__u32 mtu;
	/*
	 * Frames for these are for the host, too: macvlans on top (VRRP), the master of a bond. As the
	 * program loads them, the first byte lowest.
	 */
	__u64 more[PM_INTERFACE_MACS];
};

/*
 * Further addresses of interfaces that have many (a macvlan for each VRRP instance): buckets of eight, two
 * choices, a word for each: the address in the low 48 bits, ifindex above as far as it goes. 0: free.
 */
#define PM_MAC_BUCKETS 1024
#define PM_MAC_BUCKET 8
struct pm_mac_bucket {
	__u64 entry[PM_MAC_BUCKET];
};

/*
 * What stands between a frame of ours and the wire of an interface; an interface without a record takes
 * everything. Hashed by ifindex as above, but a search ends at a slot that was never used: a record that
 * has become idle keeps its ifindex, with no flags. One 64-bit store changes all of it.
 */
#define PM_EGRESSES 1024
#define PM_EGRESS_PROBES 8
struct pm_egress {
	__u32 ifindex; /* 0: never used */
	__u32 flags;   /* enum pm_egress_flag */
};

enum pm_egress_flag {
	PM_EGRESS_NO_REDIRECT = 0x01, /* the driver takes no redirected frames (no ndo_xdp_xmit, or not now) */
	PM_EGRESS_NO_TURN = 0x02,     /* XDP_TX is not to be relied on: redirect to the own interface instead */
	PM_EGRESS_NO_ETHERNET = 0x04, /* layer 3: no frame of ours makes sense there */
	PM_EGRESS_GENERIC = 0x08,     /* the program runs in generic mode here: what it receives can go anywhere */
	PM_EGRESS_RELAY = 0x10,	      /* received here: what XDP cannot send, traffic control does (relay.h) */
};

/*
 * A virtual service. The daemon writes a slot while no index bucket names it, then the bucket;
 * afterwards only single 32-bit words change.
 */
struct pm_service {
	__u32 slot;	      /* enum pm_slot */
	__u8 family;	      /* 4 or 6 */
	__u8 protocol;	      /* IP protocol number, 0 for a firewall mark */
	__be16 port;	      /* 0: any */
	__u8 addr[16];	      /* IPv4 in the first four bytes, rest 0 */
	__u32 fwmark;	      /* 0: none */
	__u32 flags;	      /* enum pm_service_flag */
	__u32 schedule;	      /* enum pm_scheduler in bits 0-7, active schedule (0 or 1) in bit 8 */
	__u32 timeout_s;      /* persistence, seconds */
	__u32 netmask;	      /* IPv4: mask as a number in host order; IPv6: prefix length */
	__u32 pe;	      /* enum pm_engine */
	__u32 order;	      /* the daemon's: place in the list of services, larger is newer */
	__u32 pad[3];
};

#define PM_SCHEDULE_ACTIVE 0x100u

/*
 * A schedule: the real servers of a service in IPVS's list order (newest first) as a range of
 * members, and the scheduler's state. Service s owns schedules 2*s and 2*s+1; the daemon fills the
 * idle one and switches over by one store to pm_service.schedule.
 */
struct pm_schedule {
	__u32 first;	  /* first index in members */
	__u32 count;	  /* real servers */
	__u32 table_first; /* sh, dh, mh: first index of the lookup table in members */
	__u32 table_count;
	__s32 weight_max; /* wrr: largest weight - (step - 1) */
	__s32 weight_step; /* wrr: greatest common divisor of the weights */
	/* Of many real servers, and a scheduler without a table: a bracket of 2^this seats stands there (bpf/bracket.h). */
	__u32 bracket;
	__u32 how; /* sh, dh, mh: enum pm_scheduler in bits 0-7, the scheduler's enum pm_service_flag above; 0: as the service says */
	/*
	 * Just enough tracking (bpf/untracked.h). The table that packets without a line go by if they begin nothing, as
	 * long as connections may be under way that the present one would move: first index in members, as
	 * table_first, and the real servers in front of it. 0 slots: none.
	 */
	__u32 before_first;
	__u32 before_count;
	__u32 before_members;
	__u32 before_how;
	__u32 settles;	   /* ticks: until when that table counts */
	__u32 lines;	   /* ticks: until when the service may have connections with lines; 0: it has none. The program's, too */
	__u32 pad[2];
	/*
	 * The program's state, in a cache line of its own. rr: low half = 1 + position last chosen, 0 = head.
	 * wrr: the same in the low half, current weight (signed) in the high half.
	 */
	__u64 cursor;
	__u32 unplayed; /* matches of the bracket, from the first to this one, that nobody has played yet */
	/* Of tables: how often one of theirs was overloaded no more; 1 + that number when nobody could take a connection. */
	__u32 released;
	__u32 nobody;
	__u32 pad2[11];
};

/* Order of the largest bracket: schedules of more real servers than it has seats for are walked over. */
#define PM_BRACKET_MAX 17
/* Seats that share a challenge, so that there are no more challenges than this many bits count. */
#define PM_BRACKET_CHALLENGES_SHIFT 12

/* Whoever sits there is chosen by weight, and by whether it is overloaded, but not by counts. */
#define PM_SEAT_STEADY 0x80000000u

/* One real server in a schedule. */
struct pm_member {
	__u32 real;  /* index in reals */
	__s32 weight;
};

/* A real server: 64 bytes, so that one cache line serves a packet. Written by the daemon. */
struct pm_real {
	__u32 slot;	 /* enum pm_slot */
	__u32 service;	 /* index in services */
	__u8 addr[16];	 /* IPv4 in the first four bytes */
	__be16 port;
	__u8 family;	 /* 4 or 6 */
	__u8 method;	 /* enum pm_method */
	__u8 tunnel;	 /* enum pm_tunnel */
	__u8 tunnel_flags; /* enum pm_tunnel_flag */
	__be16 tunnel_port;
	__s32 weight;
	__u32 upper;	 /* thresholds, 0 = unset */
	__u32 lower;
	/* Outer source of tunnels; NAT: of errors to the real server (nat_icmp_send). Zero while unknown. */
	__u8 source[16];
	__u32 flags;	 /* enum pm_real_flag */
};

enum pm_real_flag {
	PM_REAL_LOCAL = 0x01, /* the address is one of this host's */
	PM_REAL_ANY_PORT = 0x02, /* connections go to ports of its that no rule names */
	PM_REAL_BYPASS = 0x04,	 /* none: packets go to where they are for (cache_bypass); of no service */
};

/*
 * Where packets to the real server of this index leave, as the daemon knows it, if this is about the real
 * server's present address: no look at the routing table, and none of forwarding, which IPVS does not ask for
 * either. Without a daemon that keeps it up to date (pm_settings.swept), the host's FIB is asked first.
 */
struct pm_hop {
	__u32 version; /* odd while the record is being written */
	__u32 ifindex; /* 0: unknown */
	__u8 dmac[6];
	__u8 smac[6];
	__u32 mtu;     /* of the path */
	__u32 pad[4];
	__u8 addr[16]; /* as in pm_real */
	__u32 pad2[2];
};

/*
 * Next hops that packets have found: towards clients, and to real servers while `hops` does not say. Those
 * with the same next hop share a record, and lines name it by its index. A record keeps its content for as
 * long as it may be asked for (neighbour.h), and is found by that: buckets of eight, none in the first.
 */
#define PM_NEIGHBOURS 32768
#define PM_NEIGHBOUR_BUCKET 8
struct pm_neighbour {
	__u32 version; /* odd while the record is being written, 0: never used */
	__u32 epoch;   /* the last in which a look-up ended here */
	__u32 ifindex;
	__u32 gateway; /* pm_fib.gateway, of the last look-up; no part of the content */
	__u8 dmac[6];
	__u8 smac[6];
	__u32 mtu;
};
/* In the first bucket, written by the daemon: where answers to its health checks leave, whatever routes say. */
#define PM_NEIGHBOUR_CHECK4 1
#define PM_NEIGHBOUR_CHECK6 2
/* And the pair of links of this host's own clients: from the program to their sockets, from them to the program. */
#define PM_NEIGHBOUR_OWN 3
#define PM_NEIGHBOUR_SERVE 4

/*
 * Live counts of a real server: changed by packets and by the sweeper, atomically. A cache line each, or
 * CPUs that serve different real servers would wait for one another.
 */
struct pm_live {
	__u32 active;
	__u32 inactive;
	__u32 persistent; /* templates */
	__u32 overloaded; /* 1: upper threshold reached */
	__u64 path;	  /* path MTU that was told by ICMP in the low half, until when in the high; 0: none */
	__u32 seat;	  /* in the schedule's bracket, from 1, with PM_SEAT_STEADY; 0: it has none. The daemon's */
	__u32 pad[9];
};

/*
 * Where a destination's connections have gone: of schedulers that keep it there (bpf/locality.h). Two sets of
 * PM_WAYS for each destination of a service.
 */
#define PM_LOCALITIES 16384
#define PM_LOCALITY_REALS 8 /* of a set */
struct pm_locality {
	__u32 word;	/* version, held, live */
	__u32 used;	/* ticks: the last time */
	__u32 order;	/* pm_service.order: no two services have the same */
	__u32 changed;	/* ticks: when the set got a real server last, or lost one */
	__u8 addr[16];
	__u32 reals[PM_LOCALITY_REALS]; /* newest first, PM_NONE behind the last; lblc: one */
};

/* One record per real server and CPU, at index real * cpus + cpu. A service's are its sum. */
struct pm_counters {
	__u64 conns;
	__u64 in_packets;
	__u64 in_bytes; /* IP length */
	__u64 out_packets;
	__u64 out_bytes;
	__u64 pad[3];
};

/*
 * Index of services: buckets of eight, two choices per key (see pm_service_hash). A publishing
 * store writes one entry as a 64-bit word: tag in the low half, 1 + slot in the high half. The index of
 * NAT real servers (nat_index) is made of the same buckets; its slots are indices in reals.
 */
#define PM_BUCKET 8
struct pm_service_bucket {
	__u64 entry[PM_BUCKET];
};

/* IPv4 addresses of the director itself, same bucket scheme, entries in network order, 0 free. */
#define PM_LOCALS 128 /* buckets */
struct pm_local_bucket {
	__be32 addr[PM_BUCKET];
};

/*
 * A note of a datagram that comes in fragments: what its first one decided. In sets of PM_NOTES, by addresses,
 * identification and protocol; version and time are one head. What changes while it stands says of which version
 * it is, so that nobody changes it for an earlier datagram.
 */
#define PM_FRAGMENTS 4096
#define PM_NOTES 4
struct pm_fragment {
	__u32 version; /* odd while it is being written */
	__u32 until;   /* ticks */
	__be32 saddr[4];
	__be32 daddr[4];
	__be32 id;     /* IPv4: 16 bits */
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 family;
	__u16 first_end; /* bytes of the first fragment */
	__u32 fate;	 /* enum pm_fate in bits 0-2, above half the version */
	/*
	 * One word: bytes that have come in bits 0-16; of the datagram in 17-33, 0 as long as that is not known;
	 * above half the version.
	 */
	__u32 got;
	__u32 total;
};

enum pm_fate {
	PM_FATE_NONE = 0,
	PM_FATE_FOLLOW = 1,  /* later ones go where the first went */
	PM_FATE_DONE = 2,    /* the same, and all of them have come */
	PM_FATE_PASS = 3,    /* the stack has the first */
	PM_FATE_REFUSED = 4, /* the first was dropped, or answered by an error */
	PM_FATE_SPOILED = 5, /* fragments that contradict each other */
};

/*
 * Bits of the interest map: one per hash of an address and port that some rule or connection is about,
 * virtual service or real server; port 0 stands for all of an address. A packet with neither of its ends in
 * it is none of ours. All bits of an address are in one cache line.
 */
#define PM_INTEREST_BITS 524288
#define PM_INTEREST_WORDS 8192 /* of 64 bits: 64 KiB, stays in a CPU's second cache */

/*
 * Marking rules: which firewall mark a packet of no connection has, by most specific rule (bpf/mark.h). Every
 * map of them has two halves: the daemon fills the one that is not in use, and pm_settings.marks switches
 * over by one store.
 *
 *   bit  0      the half in use
 *   bits 8-15   kinds of IPv4 rules
 *   bits 16-23  kinds of IPv6 rules
 */
#define PM_MARK_HALF 1u
#define PM_MARK_KINDS4_SHIFT 8
#define PM_MARK_KINDS6_SHIFT 16
#define PM_MARK_KINDS 128   /* of one family */
#define PM_MARK_RULES 10240
#define PM_MARK_BUCKETS 2048 /* of eight: two thirds full when every rule has a key of its own */
#define PM_MARK_SPANS 20480 /* so many rules cut the ports into so many spans */

/* What rules of one kind look at; the most specific kind is the first of its family. */
struct pm_mark_kind {
	__u8 source;	  /* prefix length, of the packet's source address */
	__u8 destination;
	__u8 fields;	  /* enum pm_mark_field */
	__u8 pad[5];
};

enum pm_mark_field {
	PM_MARK_PROTOCOL = 0x01,
	PM_MARK_INTERFACE = 0x02,
};

/* All rules of one kind that differ in their ports and marks only; fields that the kind ignores are 0. */
struct pm_mark_key {
	__be32 saddr[4];
	__be32 daddr[4];
	__u32 ifindex;
	__u16 kind;	  /* index in its half and family */
	__u8 protocol;
	__u8 family;	  /* 4 or 6 */
	__u32 first;	  /* first index in mark_spans, in the order of ports */
	__u32 count;
};

/* Destination ports, host order, both included, and the mark they have; no two spans of a key overlap. */
struct pm_mark_span {
	__u16 from;
	__u16 to;
	__u32 mark;
};

/*
 * Prefixes of sources that are denied or allowed (bpf/filter.h): buckets of four, two choices. An entry is
 * taken and given by its word `what`, which is 0 while the others are written.
 */
#define PM_FILTER_BUCKET 4
struct pm_filter {
	__u32 what;	/* bits 0-7 length, 8-15 family, 16-23 enum pm_filter_verdict, 24-31 the daemon's: who states it */
	__u32 expires;	/* ticks, 0: never */
	__be32 addr[4]; /* IPv4 in the first word */
	__u32 scope;	/* pm_gate.scope of the service that it is for, 0: for all */
	__u32 pad;
};

enum pm_filter_verdict {
	PM_FILTER_ALLOW = 1,
	PM_FILTER_DENY = 2,
};

/*
 * The lengths of prefixes in use, longest first; of IPv4, then of IPv6. A length that nobody uses any more may
 * stay.
 */
struct pm_filter_lengths {
	__u32 count;
	__u8 length[132];
};

/* Of the service in the slot of the same number, as long as that is the one of this order. */
struct pm_gate {
	__u32 order;	   /* pm_service.order */
	__u32 scope;	   /* of the prefixes that are for it alone, 0: there are none */
	__u32 rate;	   /* new connections per second of each source, 0: without limit */
	__u32 connections; /* connections of each source at a time, 0: without limit */
	__u32 length;	   /* of the prefix that makes addresses one source */
	__u32 owner;	   /* the daemon's: who states the limits */
	__u32 pad[2];
};

/*
 * Destinations that were told of ICMP errors lately (bpf/answer-limit.h): in the high half what tells one from the
 * others of its bucket, in the low half until when its time is taken up, in ticks. 0: nobody.
 */
#define PM_ANSWER_BUCKET 8
#define PM_ANSWER_BUCKETS 2048
struct pm_answered {
	__u64 entry[PM_ANSWER_BUCKET];
};

/*
 * The Call-ID that a template was made for (bpf/sip.h), as lists show it: for the template that has had this line with
 * this word's generation, and whoever comes next says so by a version of its own. In sets of PM_WAYS, by line.
 */
#define PM_CALL_IDS 8192
#define PM_CALL_ID_MAX 255 /* bytes, as in IPVS */
struct pm_call_id {
	__u32 version; /* odd while the record is being written, 0: never used */
	__u32 line;    /* PM_CALL_ID_IPV6: of connections6 */
	__u32 word;
	__u32 length;
	__u64 id[32];
};
#define PM_CALL_ID_IPV6 0x80000000u

/* A source whose new connections are counted (bpf/limit.h). In sets of PM_WAYS, two for each. */
#define PM_SOURCES 32768
struct pm_source {
	__u32 word;	/* version, held, live */
	__u32 order;	/* pm_service.order: no two services have the same */
	__be32 addr[4]; /* IPv4 in the first word */
	/* Until when its connections so far take up its time; in units of a 2^32th of a tick. */
	__u64 busy;
	__u32 what;	/* bits 0-7 length, 8-15 family */
	__u32 pad[7];
};

/*
 * pm_conn.word: all of a line that changes while it lives, apart from its time, which stands beside it:
 * the two are read and swapped as one 64-bit head (connection.h).
 *
 *   bits 0-1   status
 *   bits 2-5   state: enum pm_tcp_state, pm_sctp_state; UDP: 0
 *   bits 6-7   enum pm_conn_class
 *   bit  8     counted as active
 *   bit  9     no packet of the real server seen: input-only states
 *   bit  10    held: somebody is writing the line's next hop, or is moving it
 *   bits 11-23 generation: counts the line's owners
 *   bits 24-28 epoch in which the line's next hop was found, modulo 2^5
 *   bits 29-31 counts how often it was held: what was read before is not to be acted on after
 */
enum pm_conn_status {
	PM_CONN_CLEAN = 0,   /* never used: a search may stop here */
	PM_CONN_FREED = 1,   /* used before and free again */
	PM_CONN_CLAIMED = 2, /* being written; the time is that of the claim */
	PM_CONN_LIVE = 3,
};
#define PM_CONN_STATUS 3u
#define PM_CONN_STATE_SHIFT 2
#define PM_CONN_STATE_MASK 15u
#define PM_CONN_CLASS_SHIFT 6
#define PM_CONN_CLASS_MASK 3u
#define PM_CONN_ACTIVE 0x100u
#define PM_CONN_INPUT_ONLY 0x200u
#define PM_CONN_HELD 0x400u
#define PM_CONN_GENERATION 0x800u /* increment */
#define PM_CONN_GENERATIONS 0x00fff800u
#define PM_CONN_EPOCHS 0x1f000000u
#define PM_CONN_EPOCH_SHIFT 24
#define PM_CONN_HOLD 0x20000000u /* increment */
#define PM_CONN_HOLDS 0xe0000000u

/* How sure it is that two ends talk to each other; decides who gives way (connection.h). */
enum pm_conn_class {
	PM_CONN_NEW = 0,      /* packets of one go only */
	PM_CONN_RETURNED = 1, /* the client sent another that starts nothing */
	PM_CONN_ANSWERED = 2, /* NAT: the real server has answered; DR, TUN: the client came back again, later */
};

enum pm_conn_kind {
	PM_CONN_IN = 0,	      /* client to virtual service: owns the accounting */
	PM_CONN_REPLY = 1,    /* NAT real server to client; peer is the IN line */
	PM_CONN_TEMPLATE = 2, /* persistence */
};

/*
 * pm_conn.traits: set before a line is published, constant from then on. enum pm_conn_kind in bits 0-1, enum
 * pm_method in bits 2-3 (as it was when the connection was made), and these.
 */
enum pm_conn_flag {
	/* To another port than the service's, which is the real server's, too. REPLY of full NAT: always. */
	PM_CONN_OTHER_PORT = 0x10,
	PM_CONN_ONE_PACKET = 0x20,
	PM_CONN_CONTROLLED = 0x40, /* IN, made by a persistence template: see pm_controls */
	PM_CONN_CHECK = 0x80, /* a health check of the daemon, which made both lines: no client's connection */
};
#define PM_CONN_KIND_MASK 3u
#define PM_CONN_METHOD_SHIFT 2
#define PM_CONN_METHOD_MASK 3u

/* Bits of a persistence template's state, where others have enum pm_tcp_state. */
enum pm_template_state {
	PM_TEMPLATE_ASSURED = 1, /* a connection of its has been established */
	PM_TEMPLATE_LAPSED = 2,	 /* its real server is no longer to be had: never found again, listed until its end */
	PM_TEMPLATE_PROLONGED = 4, /* its time was over while it controlled connections: see PM_TEMPLATE_AGAIN */
	PM_TEMPLATE_SOURCE = 8, /* leads nowhere: it counts the connections of a source (pm_gate.connections) */
};

/*
 * `peer` of a template: how many ticks it stays after a new connection of its. With this bit it is the index of
 * no line.
 */
#define PM_TEMPLATE_STAYS 0x80000000u
/* A template whose time is over while it controls connections stays for 60 s, and from then on always. In ticks. */
#define PM_TEMPLATE_AGAIN 7153u

/*
 * A connection line: what leads an established packet to all that forwarding it needs. 32 bytes for IPv4, 64
 * for IPv6, since what many connections cost is the memory that their lines stand in. Lines stand in sets of
 * four, two cache lines; a key has two sets, the first is preferred while it has room to spare (room.h). A NAT
 * connection has two lines, one per direction. Key: protocol, source, destination as in the packet.
 *
 * What is not here: where an IN line's packets are translated to is the real server's record, with the
 * packet's own port if that has none (pm_real_port); what a REPLY line's leave as is the virtual service, or
 * where that is not its address and port, the key of its IN line (pm_look_virtual); with full NAT,
 * which of the two each line's packets leave as is the key of the other line, the other way round (ends.h); which part of the table a line was placed
 * in follows from its key.
 *
 * An IN line counts as active while its state is ESTABLISHED (TCP, SCTP), SYN_SENT, SYN_RECV or SYNACK
 * (TCP), else as inactive: who swaps its head moves pm_live by what was swapped out and in.
 *
 * TEMPLATE lines (persistence) have no packets of their own, and no next hop. Any protocol's states have to do
 * with the 16 that the word has room for.
 */
struct pm_conn {
	__u32 word;
	__u32 expires; /* ticks; the later of both lines counts */
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 traits; /* kind, method, enum pm_conn_flag */
	/*
	 * Index in neighbours of the next hop, as the host's FIB had it in the epoch that the word says; 0: not
	 * looked up. Written while the word says HELD, read if it does not. Real servers whose next hop the
	 * daemon keeps (`hops`) need none here. TEMPLATE: the part of its key that says for which call it is (sip.h).
	 */
	__u16 neighbour;
	__u32 real; /* index in reals */
	__u32 peer; /* the other line of a NAT connection, else PM_NONE */
};

struct pm_conn4 {
	struct pm_conn c;
	__be32 saddr;
	__be32 daddr;
};

struct pm_conn6 {
	struct pm_conn c;
	__u8 saddr[16];
	__u8 daddr[16];
	__u32 pad[2];
};

#define PM_WAYS 4

/*
 * Beside the lines of a set, a word for each. Of a template: how many connections it controls, with the highest
 * bit set while it can take more. Of a connection that is PM_CONN_CONTROLLED: the line of its template, which
 * stays where it is for as long as it controls one.
 */
struct pm_controls {
	__u32 word[PM_WAYS];
};
#define PM_CONTROL_OPEN 0x80000000u

/*
 * Of a connection table only as much is used as its load wants: few connections share few pages. Level n is
 * the first 1/2^n of the table; a key's sets in it are those in the whole table, modulo its size. New lines
 * are placed in one level; lines of a level that is left (the table grows or shrinks) are found there still,
 * and moved by the next packet of theirs.
 *
 *   bits 0-4   level of new lines
 *   bit  5+n   lines may also stand where level n has placed them
 *
 * Zero is the whole table, and nothing else.
 */
#define PM_LEVEL 31u
#define PM_LEVELS_SHIFT 5
#define PM_LEVELS 27
/* A table grows by this many levels at once: to its fourfold. */
#define PM_LEVEL_STEP 2
/* Nor is less than this of it used. */
#define PM_LINES_LEAST 16384

/* Set before the program is loaded. */
struct pm_limits {
	__u32 cpus;		 /* records per real server in counters and verdicts */
	__u32 conn4_mask;	 /* sets - 1, a power of two less one */
	__u32 conn6_mask;
	__u32 service_mask;	 /* buckets - 1 */
	__u32 nat_mask;		 /* the same of nat_index */
	__u32 filter_mask;	 /* the same of filters */
	__u32 own_rows;		 /* of `cpus`: those of one CPU each; all others share the last */
};

/*
 * Userspace host: one frame handed to pm_run_batch (not used by XDP). `data` is an address in wasm
 * memory (native builds: an offset from pm_frames). The frame that is to be sent starts at
 * data + moved; bytes beyond `linear` stay with the host and follow unchanged.
 */
struct pm_job {
	__u32 data;	/* first byte of the frame; PM_HEADROOM bytes of room before it */
	__u32 linear;	/* in and out: bytes at data + moved */
	__u32 length;	/* in and out: bytes of the whole frame, >= linear */
	__u32 ifindex;	/* in: received from; out: send to */
	__u32 verdict;	/* out: enum pm_verdict */
	__u32 action;	/* out: enum pm_action */
	__u32 flags;	/* in and out: enum pm_job_flag */
	__s32 moved;	/* out: how far the start moved, negative = headers added in front */
	__u32 segment;	/* in: IP bytes of the largest segment of a super-packet, or fragment of IPv6, 0 = not one */
	__u32 connection; /* in and out: line of the connection that an earlier run has made */
	__u32 cut;	/* out: IP bytes of the largest fragment that it is to be sent in, 0 = in one piece */
};

enum pm_job_flag {
	PM_JOB_PARTIAL_CSUM = 0x01, /* transport checksum holds the pseudo header's sum only */
	PM_JOB_RESUMED = 0x02,	    /* out of PM_ACTION_AGAIN, to be handed in with the whole frame: counted already */
	PM_JOB_CONNECTED = 0x04,    /* the same, and it has made `connection` */
	PM_JOB_WAITS = 0x08,	    /* in: fragments are kept, and come again as the datagram that they make */
	PM_JOB_CUTS = 0x10,	    /* in: `cut` is heeded */
};

#define PM_HEADROOM 128

/*
 * The userspace plane: what is remembered of a frame as it arrived, beside its job. Headers that are
 * put in front of the frame overwrite all of this in memory.
 */
struct pm_arrival {
	__u32 received;	     /* bytes */
	__u32 header_bytes;  /* super-packets: bytes before the payload, else 0 */
	__u32 chunk;	     /* AF_XDP: offset of its piece of the frame memory; PM_NONE once it is sent */
	__u16 vnet[5];	     /* virtio header (virtio 1.2 §5.1.6): flags and GSO type, lengths, checksum */
	__u8 to_host;	     /* 1: addressed to this host, as the kernel sees it */
	__u8 port;	     /* number of the port it came from */
};

/* A ring of a packet socket (TPACKET_V2) in linear memory: received from, or sent from. */
struct pm_ring {
	__u32 base;	     /* address of the first slot */
	__u32 slot_bytes;
	__u32 slots;
	__u32 next;	     /* slot to read or fill next */
	__u32 first;	     /* the first read or filled and not yet handed over: at most `slots` - 1 before `next` */
	__u32 ifindex;
	__u32 port;
	__u32 pad;
};

/* A queue of an interface with its four rings (AF_XDP); all of them and the frames lie in linear memory. */
struct pm_queue {
	__u32 rx_producer, rx_consumer, rx_entries; /* addresses, as of all rings */
	__u32 tx_producer, tx_consumer, tx_entries;
	__u32 fill_producer, fill_consumer, fill_entries;
	__u32 done_producer, done_consumer, done_entries;
	__u32 frames;	     /* address of the frame memory */
	__u32 pool;	     /* address of the worker's struct pm_pool */
	__u32 tx_next;	     /* producer of the transmit ring; the kernel is told in `flush` */
	__u32 ifindex;
	__u32 port;
};

/* Pieces of the frame memory that are in no ring: `count` offsets at `free`, a stack. */
struct pm_pool {
	__u32 free;	     /* address */
	__u32 count;
};

#define PM_XSK_ENTRIES 2048 /* of every AF_XDP ring */
#define PM_CHUNK 4096	    /* bytes of frame memory for one frame */

/* Next hop query: the host answers out of the kernel's routing and neighbour tables. */
enum pm_fib_result {
	PM_FIB_OK = 0,
	PM_FIB_LOCAL = 1,	 /* destination is this host */
	PM_FIB_NO_ROUTE = 2,
	PM_FIB_NO_NEIGHBOUR = 3,
	PM_FIB_FORWARDING_OFF = 4,
	PM_FIB_STACK_ONLY = 5, /* never the host's answer: nobody but the stack can send there */
	PM_FIB_OLD = 6, /* the same: the neighbour is being resolved, and is the one known */
};

struct pm_fib {
	__u8 family;	 /* 4 or 6 */
	__u8 protocol;
	__u8 tos;
	__u8 pad;
	__u32 ifindex;	 /* in: receiving interface; out: sending */
	__u8 saddr[16];
	__u8 daddr[16];
	__u8 smac[6];
	__u8 dmac[6];
	__u32 mtu;
	__u32 gateway;	 /* out: a hash of the neighbour's address, 0 if the host does not say */
};
