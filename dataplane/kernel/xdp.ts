/** Attaching a program to an interface through a bpf_link, and saying why when the kernel refuses. */

import { driverOf } from '../../linux/device.ts'
import { libbpf, takeLog } from '../../linux/libbpf.ts'
import { Errno, errno, libc } from '../../linux/libc.ts'
import type { Link } from '../../linux/netlink/rtnetlink.ts'
import { DataplaneError } from '../dataplane.ts'
import { programInfo } from './object-info.ts'

export type XdpMode = 'native' | 'generic'
/** auto: native, and generic where the driver refuses that. */
export type XdpModeChoice = XdpMode | 'auto'

export interface XdpLink {
  readonly fd: number
  readonly mode: XdpMode
  /** Why native mode was not to be had, when `auto` fell back. */
  readonly note: string | null
}

const BPF_XDP = 37
const XDP_FLAGS_UPDATE_IF_NOEXIST = 1
const XDP_FLAGS = { generic: 2, native: 4 } as const
/** sizeof(struct bpf_link_create_opts) in libbpf 1.1; newer ones take it for the fields they share. */
const LINK_OPTIONS_SIZE = 64

/** Refusals that generic mode would meet as well. */
const FINAL: readonly number[] = [Errno.EPERM, Errno.EBUSY, Errno.EEXIST, Errno.ENODEV]

type Device = Pick<Link, 'name' | 'ifindex' | 'mtu' | 'kind'>

/** Attaches; throws `DataplaneError` with the kernel's words and what mends it. */
export function attachXdp(programFd: number, device: Device, choice: XdpModeChoice): XdpLink {
  const first = choice === 'auto' ? 'native' : choice
  const attempt = createLink(programFd, device, first)
  if (attempt.fd !== null) return { fd: attempt.fd, mode: first, note: null }
  const refusal = explainRefusal({ device: withDriver(device), mode: first, ...attempt })
  if (choice !== 'auto' || FINAL.includes(attempt.errno)) throw new DataplaneError(refusal)

  const fallback = createLink(programFd, device, 'generic')
  if (fallback.fd !== null) return { fd: fallback.fd, mode: 'generic', note: refusal }
  throw new DataplaneError(
    `${explainRefusal({ device: withDriver(device), mode: 'generic', ...fallback })}\n${refusal}`,
  )
}

/** Native mode, or why it is not to be had and traffic control may do. Throws as above where that would not either. */
export function attachNative(programFd: number, device: Device): XdpLink | { readonly instead: string } {
  const attempt = createLink(programFd, device, 'native')
  if (attempt.fd !== null) return { fd: attempt.fd, mode: 'native', note: null }
  const refusal = { device: withDriver(device), mode: 'native', ...attempt } as const
  if (FINAL.includes(attempt.errno)) throw new DataplaneError(explainRefusal(refusal))
  return { instead: cause(refusal) }
}

function withDriver(device: Device): Refusal['device'] {
  return { ...device, driver: driverOf(device.name) }
}

type Attempt =
  | { readonly fd: number }
  | { readonly fd: null; readonly errno: number; readonly message: string; readonly occupant: string | null }

function createLink(programFd: number, device: Device, mode: XdpMode): Attempt {
  const options = Buffer.alloc(LINK_OPTIONS_SIZE)
  options.writeBigUInt64LE(BigInt(LINK_OPTIONS_SIZE), 0)
  options.writeUInt32LE(XDP_FLAGS[mode], 8)
  takeLog()
  const result = libbpf().bpf_link_create(programFd, device.ifindex, BPF_XDP, options)
  if (result >= 0) return { fd: result }
  const number = result === -1 ? errno() : -result
  const message = number === Errno.EPERM ? '' : askWhy(programFd, device, mode)
  return { fd: null, errno: number, message, occupant: occupantOf(device) }
}

/**
 * Creating a link brings back only a number; the same request by netlink brings the driver's sentence,
 * which libbpf writes to its log.
 */
function askWhy(programFd: number, device: Device, mode: XdpMode): string {
  const flags = XDP_FLAGS[mode] | XDP_FLAGS_UPDATE_IF_NOEXIST
  const result = libbpf().bpf_xdp_attach(device.ifindex, programFd, flags, null)
  const log = takeLog().join('\n')
  if (result >= 0) libbpf().bpf_xdp_detach(device.ifindex, XDP_FLAGS[mode], null)
  return /Kernel error message: (.+)/.exec(log)?.[1]?.trim() ?? ''
}

/** sizeof(struct bpf_xdp_query_opts) */
const QUERY_SIZE = 32
const ATTACHED_NATIVE = 1
const ATTACHED_GENERIC = 2

/** The XDP program on an interface and its mode, whoever attached it. */
export function queryXdp(ifindex: number): { readonly programId: number; readonly mode: XdpMode | null } {
  const query = Buffer.alloc(QUERY_SIZE)
  query.writeBigUInt64LE(BigInt(QUERY_SIZE), 0)
  if (libbpf().bpf_xdp_query(ifindex, 0, query) < 0) return { programId: 0, mode: null }
  const attached = query.readUInt8(24)
  return {
    programId: query.readUInt32LE(8),
    mode: attached === ATTACHED_NATIVE ? 'native' : attached === ATTACHED_GENERIC ? 'generic' : null,
  }
}

function occupantOf(device: Device): string | null {
  const { programId } = queryXdp(device.ifindex)
  if (programId === 0) return null
  const fd = libbpf().bpf_prog_get_fd_by_id(programId)
  if (fd < 0) return `program ${programId}`
  try {
    return `program ${programId} (${programInfo(fd).name || 'without a name'})`
  } finally {
    libc.close(fd)
  }
}

interface Refusal {
  readonly device: Pick<Link, 'name' | 'mtu' | 'kind'> & { readonly driver: string }
  readonly mode: XdpMode
  readonly errno: number
  /** The driver's or the kernel's sentence, '' if there was none. */
  readonly message: string
  /** What holds the interface's XDP hook at present. */
  readonly occupant: string | null
}

/** Links without a driver of hardware, and what to name instead. */
const STACKED: Readonly<Record<string, (name: string) => string>> = {
  vlan: (name) =>
    `${name} is a VLAN device, which has no XDP of its own, and its parent interface sees tagged frames, which are passed: use --dataplane tc`,
  macvlan: (name) =>
    `${name} is a macvlan, which has no XDP of its own: give pointsmand the interface below it, whose program takes frames for the MAC of ${name} as well (ip -d link show ${name} names it)`,
  ipvlan: (name) =>
    `${name} is an ipvlan, which has no XDP of its own: give pointsmand the interface below it (ip -d link show ${name} names it)`,
  bridge: (name) =>
    `${name} is a bridge, which has no XDP of its own: give pointsmand its member interfaces (bridge link), or use --dataplane tc`,
  bond: (name) =>
    `${name} is a bond, and a member has no native XDP, or the bond's mode has none: see cat /proc/net/bonding/${name}, or use --dataplane tc`,
  team: (name) =>
    `${name} is a team, which has no XDP of its own: give pointsmand its member interfaces (teamdctl ${name} state), or use --dataplane tc`,
}

/** The kernel's refusal in words, with the command that mends it. */
export function explainRefusal(refusal: Refusal): string {
  const { device, mode, message } = refusal
  const reason = `${libc.strerror(refusal.errno)} (errno ${refusal.errno})`
  const said = message === '' ? reason : `${reason}, "${message}"`
  return `Cannot attach to ${device.name} in ${mode} XDP mode: ${said}; ${remedy(refusal)}`
}

/** Why the driver does not run the program, without what mends it: something else does it instead. */
function cause({ device: { name, kind, driver }, errno: number, message }: Refusal): string {
  const stacked = STACKED[kind]?.(name).split(/[:,]/)
  if (stacked !== undefined) return `${stacked[0]}, which has no native XDP`
  const said = message === '' ? `${libc.strerror(number)} (errno ${number})` : `"${message}"`
  return `${driver === '' ? `the driver of ${name}` : `driver ${driver} of ${name}`} does not run XDP natively: ${said}`
}

function remedy({ device, mode, errno: number, message, occupant }: Refusal): string {
  const { name, driver, kind } = device
  if (number === Errno.EPERM) return 'it takes CAP_NET_ADMIN and CAP_BPF: run as root'
  if (occupant !== null && (number === Errno.EBUSY || number === Errno.EEXIST)) {
    return `${occupant} is attached there: take it off with pointsman detach if it is ours, else ip link set dev ${name} xdp off`
  }
  if (number === Errno.ENODEV) return 'the interface is gone: see ip link'
  const stacked = STACKED[kind]
  if (stacked !== undefined && mode === 'native') return stacked(name)
  if (/GRO_HW|LRO|CSUM|GUEST/i.test(message)) {
    return `switch off offloads that merge or alter packets: ethtool -K ${name} lro off rx-gro-hw off (virtio without these switches: guest_tso4, guest_tso6, guest_ecn, guest_ufo and guest_csum off in the definition of the VM)`
  }
  if (/MTU|page|linear|too large|too big/i.test(message)) {
    const peer = /peer/i.test(message) ? `the peer of ${name}` : name
    return `lower the MTU (it is ${device.mtu}): ip link set dev ${peer} mtu 1500`
  }
  if (/queue|ring/i.test(message)) {
    return driver === 'veth'
      ? `give ${name} as many receive queues as its peer has transmit queues: ip link add ... numrxqueues N`
      : `give it spare transmit queues: ethtool -L ${name} combined N with N at most half of the maximum that ethtool -l ${name} shows (virtio: queues in the definition of the VM, two for each CPU)`
  }
  if (mode === 'native') {
    const which = driver === '' ? 'the driver' : `driver ${driver}`
    return `${which} cannot or will not run XDP itself: use --dataplane tc`
  }
  return 'the kernel refuses generic mode too: use --dataplane tc'
}
