/**
 * Programs at the ingress of an interface, or at its egress (linux/pkt_sched.h, pkt_cls.h): the classifier "bpf" in a qdisc
 * "clsact" of ours. A classic one, the userspace plane's, needs CAP_NET_ADMIN and no bpf(2); one that was loaded
 * by bpf(2) is the packet program itself, where the kernel has no links for that (before 6.6).
 */
import { ETH_P_ALL } from '../abi.ts'
import { Errno } from '../libc.ts'
import {
  decodeAttributes,
  encodeAttributes,
  NLM_F_CREATE,
  NLM_F_EXCL,
  textOf,
  u32Value,
  viewOf,
} from './message.ts'
import type { Query } from './rtnetlink.ts'
import { EventSocket, NetlinkError, type RequestSocket } from './socket.ts'

const RTNLGRP_TC = 4
const RTM_NEWQDISC = 36
const RTM_DELQDISC = 37
const RTM_GETQDISC = 38
const RTM_NEWTFILTER = 44
const RTM_DELTFILTER = 45
const RTM_GETTFILTER = 46

const TCA_KIND = 1
const TCA_OPTIONS = 2
const TCA_BPF_OPS_LEN = 4
const TCA_BPF_OPS = 5
const TCA_BPF_FD = 6
const TCA_BPF_NAME = 7
const TCA_BPF_FLAGS = 8
const TCA_BPF_ID = 11
/** What the program returns is the verdict (enum TC_ACT_*). */
const TCA_BPF_FLAG_ACT_DIRECT = 1
const NLA_F_NESTED = 0x8000

const TC_HEADER = 20
const TC_IFINDEX = 4
const CLSACT_HANDLE = 0xffff_0000
const CLSACT_PARENT = 0xffff_fff1
const INGRESS = 0xffff_fff2
const EGRESS = 0xffff_fff3
/** Ours is told from others by it; filters that an administrator adds beside it usually go first. Programs are behind it. */
const PREFERENCE = 0x706d
const INSTRUCTION_BYTES = 8

/**
 * What comes in by an interface, or what leaves by it; and what comes in, beside a program that takes it otherwise: to be
 * sent as it is, or to be cut.
 */
export type TcPlace = 'ingress' | 'egress' | 'relay' | 'beside'
const PARENT: Readonly<Record<TcPlace, number>> = {
  ...{ ingress: INGRESS, egress: EGRESS },
  ...{ relay: INGRESS, beside: INGRESS },
}
/** Each of ours at one hook has its own, so that one can go while another comes. */
const PROGRAM_PREFERENCE: Readonly<Record<TcPlace, number>> = {
  ingress: 0x706e,
  egress: 0x706e,
  beside: 0x706f,
  relay: 0x7070,
}

/** Verdicts (enum TC_ACT_*): drop the frame, or ask whoever comes next. */
export const TcAction = { SHOT: 2, UNSPEC: 0xffff_ffff } as const

/**
 * Makes a place for a program of ours at an interface's ingress, or finds the one an earlier process
 * left. False where somebody else filters already. Throws where the kernel knows no such filters, or the
 * interface is gone.
 */
export function openIngress(socket: RequestSocket, ifindex: number): boolean {
  try {
    socket.change(qdiscQuery(RTM_NEWQDISC, ifindex), 'make a qdisc "clsact"', NLM_F_CREATE | NLM_F_EXCL)
    return true
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.errno !== Errno.EEXIST) throw error
    return filters(socket, ifindex, INGRESS) !== 'others'
  }
}

/**
 * Puts a program in force at an open ingress, in place of an earlier one of ours. `code`: records of
 * struct sock_filter; what it returns is a verdict, `TcAction`.
 */
export function setIngressProgram(socket: RequestSocket, ifindex: number, code: Uint8Array): void {
  const options = [
    { type: TCA_BPF_OPS_LEN, value: u16Value(code.length / INSTRUCTION_BYTES) },
    { type: TCA_BPF_OPS, value: code },
    { type: TCA_BPF_FLAGS, value: u32Value(TCA_BPF_FLAG_ACT_DIRECT) },
  ]
  const query = {
    type: RTM_NEWTFILTER,
    header: filterHeader(ifindex, 1),
    attributes: [kind('bpf'), { type: TCA_OPTIONS | NLA_F_NESTED, value: encodeAttributes(options) }],
  }
  socket.change(query, 'put a filter at the ingress', NLM_F_CREATE)
}

/**
 * Puts a loaded program in force at an interface, beside what others filter there, in place of an earlier one of
 * ours. It stays until it is taken off, or the interface goes.
 */
export function setPacketProgram(
  socket: RequestSocket,
  ifindex: number,
  programFd: number,
  name: string,
  place: TcPlace,
): void {
  try {
    socket.change(qdiscQuery(RTM_NEWQDISC, ifindex), 'make a qdisc "clsact"', NLM_F_CREATE | NLM_F_EXCL)
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.errno !== Errno.EEXIST) throw error
  }
  const options = [
    { type: TCA_BPF_FD, value: u32Value(programFd) },
    { type: TCA_BPF_NAME, value: new TextEncoder().encode(`${name}\0`) },
    { type: TCA_BPF_FLAGS, value: u32Value(TCA_BPF_FLAG_ACT_DIRECT) },
  ]
  const query = {
    type: RTM_NEWTFILTER,
    header: filterHeader(ifindex, 1, PROGRAM_PREFERENCE[place], place),
    attributes: [kind('bpf'), { type: TCA_OPTIONS | NLA_F_NESTED, value: encodeAttributes(options) }],
  }
  socket.change(query, `put a program at the ${place}`, NLM_F_CREATE)
}

/** What `packetProgramOf` has to ask. */
export function packetProgramQuery(ifindex: number, place: TcPlace): Query {
  return { type: RTM_GETTFILTER, header: tcHeader(ifindex, 0, PARENT[place], 0), attributes: [] }
}

/** The id of the packet program among the filters of a place; null if it is none of them. */
export function packetProgramOf(
  messages: readonly { readonly body: Uint8Array }[],
  place: TcPlace,
): number | null {
  for (const { body } of messages) {
    if (viewOf(body).getUint32(16, true) >>> 16 !== PROGRAM_PREFERENCE[place]) continue
    const options = decodeAttributes(body, TC_HEADER).get(TCA_OPTIONS)
    const id = options === undefined ? undefined : decodeAttributes(options, 0).get(TCA_BPF_ID)
    if (id !== undefined) return viewOf(id).getUint32(0, true)
  }
  return null
}

/** The same, asked now. */
export function readPacketProgram(socket: RequestSocket, ifindex: number, place: TcPlace): number | null {
  try {
    return packetProgramOf(socket.dump(packetProgramQuery(ifindex, place), 'read filters'), place)
  } catch (error) {
    if (error instanceof NetlinkError) return null
    throw error
  }
}

/** Takes the packet program off; whether it was there. */
export function removePacketProgram(socket: RequestSocket, ifindex: number, place: TcPlace): boolean {
  const was = readPacketProgram(socket, ifindex, place) !== null
  if (was) removeFilter(socket, ifindex, PROGRAM_PREFERENCE[place], place)
  return was
}

/** Interfaces that a packet program may be at. */
export function packetProgramPlaces(socket: RequestSocket): number[] {
  return clsacts(socket)
}

/** Of one that was opened: takes the program off, and the qdisc if nobody else has put filters there. */
export function closeIngress(socket: RequestSocket, ifindex: number): void {
  removeFilter(socket, ifindex, PREFERENCE, 'ingress')
}

function removeFilter(socket: RequestSocket, ifindex: number, preference: number, place: TcPlace): void {
  const query = {
    type: RTM_DELTFILTER,
    header: filterHeader(ifindex, 0, preference, place),
    attributes: [kind('bpf')],
  }
  succeeds(() => socket.change(query, 'remove a filter', 0))
  const used = [INGRESS, EGRESS].some((parent) => filters(socket, ifindex, parent) !== 'none')
  if (!used) succeeds(() => socket.change(qdiscQuery(RTM_DELQDISC, ifindex), 'remove a qdisc', 0))
}

/** Interfaces with a program of ours, this process's or an earlier one's. */
export function openIngresses(socket: RequestSocket): number[] {
  return clsacts(socket).filter((ifindex) => filters(socket, ifindex, INGRESS) === 'ours')
}

function clsacts(socket: RequestSocket): number[] {
  return socket
    .dump({ type: RTM_GETQDISC, header: tcHeader(0, 0, 0, 0), attributes: [] }, 'read qdiscs')
    .filter(({ body }) => {
      const name = decodeAttributes(body, TC_HEADER).get(TCA_KIND)
      return name !== undefined && textOf(name) === 'clsact'
    })
    .map(({ body }) => viewOf(body).getInt32(TC_IFINDEX, true))
}

/** Whose filters stand at the ingress of an interface. */
export function ingressFilters(socket: RequestSocket, ifindex: number): 'none' | 'ours' | 'others' {
  return filters(socket, ifindex, INGRESS)
}

/** Tells when qdiscs or filters of any interface have changed. */
export function watchFilters(onChange: (ifindex: number) => void): EventSocket {
  return new EventSocket(
    [RTNLGRP_TC],
    (messages) => {
      const changed = new Set(messages.map(({ body }) => viewOf(body).getInt32(TC_IFINDEX, true)))
      for (const ifindex of changed) onChange(ifindex)
    },
    () => onChange(0),
  )
}

function filters(socket: RequestSocket, ifindex: number, parent: number): 'none' | 'ours' | 'others' {
  const header = tcHeader(ifindex, 0, parent, 0)
  let found: 'none' | 'ours' | 'others' = 'none'
  succeeds(() => {
    for (const { body } of socket.dump({ type: RTM_GETTFILTER, header, attributes: [] }, 'read filters')) {
      const info = viewOf(body).getUint32(16, true)
      if (info >>> 16 === PREFERENCE) found = 'ours'
      else if (found === 'none') found = 'others'
    }
  })
  return found
}

function succeeds(action: () => void): boolean {
  try {
    action()
    return true
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    return false
  }
}

function qdiscQuery(type: number, ifindex: number): Query {
  return {
    type,
    header: tcHeader(ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0),
    attributes: [kind('clsact')],
  }
}

function filterHeader(
  ifindex: number,
  handle: number,
  preference = PREFERENCE,
  place: TcPlace = 'ingress',
): Uint8Array {
  return tcHeader(ifindex, handle, PARENT[place], ((preference << 16) | (ETH_P_ALL << 8)) >>> 0)
}

/** struct tcmsg */
function tcHeader(ifindex: number, handle: number, parent: number, info: number): Uint8Array {
  const header = new Uint8Array(TC_HEADER)
  const view = viewOf(header)
  view.setInt32(TC_IFINDEX, ifindex, true)
  view.setUint32(8, handle, true)
  view.setUint32(12, parent, true)
  view.setUint32(16, info, true)
  return header
}

function kind(name: string): { readonly type: number; readonly value: Uint8Array } {
  return { type: TCA_KIND, value: new TextEncoder().encode(`${name}\0`) }
}

function u16Value(value: number): Uint8Array {
  const bytes = new Uint8Array(2)
  viewOf(bytes).setUint16(0, value, true)
  return bytes
}
