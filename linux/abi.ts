/**
 * Numbers of the kernel's interface that more than one file needs, by their names in its headers. What
 * belongs to one subject (SOL_XDP's options, TPACKET, rtnetlink's attributes) stays with that subject.
 */

// <linux/socket.h>
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const AF_NETLINK = 16
export const AF_PACKET = 17
export const AF_XDP = 44

export const SOL_SOCKET = 1
export const SOL_PACKET = 263
export const SOL_NETLINK = 270
export const SOL_XDP = 283

export const MSG_TRUNC = 0x20
export const MSG_DONTWAIT = 0x40

// <linux/net.h>; every socket of ours is closed when a program is started.
const SOCK_CLOEXEC = 0o2000000
export const SOCK_DGRAM_CLOEXEC = 2 | SOCK_CLOEXEC
export const SOCK_RAW_CLOEXEC = 3 | SOCK_CLOEXEC

// <asm-generic/socket.h>
export const SO_ERROR = 4
export const SO_RCVTIMEO = 20
export const SO_SNDTIMEO = 21
export const SO_SNDBUFFORCE = 32
export const SO_RCVBUFFORCE = 33
export const SO_NETNS_COOKIE = 71

// <linux/if.h>
export const IFNAMSIZ = 16
export const IFREQ_SIZE = 40
export const IFF_UP = 0x1
export const IFF_LOOPBACK = 0x8
export const IFF_NOARP = 0x80
export const IFF_LOWER_UP = 0x10000

// <linux/sockios.h>, <linux/ethtool.h>
export const SIOCGIFFLAGS = 0x8913
export const SIOCGIFMTU = 0x8921
export const SIOCGIFHWADDR = 0x8927
export const SIOCETHTOOL = 0x8946
export const ETHTOOL_GDRVINFO = 0x03
export const DRVINFO_SIZE = 196

// <linux/if_ether.h>
export const ETH_P_ALL = 0x0003

// <sched.h>
export const CLONE_NEWNET = 0x40000000

// <asm-generic/mman.h>
export const MAP_SHARED = 0x01
export const MAP_SHARED_FIXED_POPULATE = 0x01 | 0x10 | 0x8000
export const MAP_PRIVATE_ANONYMOUS_FIXED = 0x02 | 0x20 | 0x10
export const PROT_READ = 1
export const PROT_READ_WRITE = 1 | 2
