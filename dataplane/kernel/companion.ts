/**
 * A program of traffic control beside the packet program, at interfaces where it sees what that does not. At the egress
 * it is what the host's own sockets send: answers of real servers that are this host (bpf/outgoing.h) at all of them,
 * since they leave by whatever leads to the client; requests to virtual services (bpf/own-way.h) at `lo`. At the ingress
 * of interfaces with XDP it is what that cannot send (bpf/relay.h), and what is larger than its path (bpf/cut-mark.h).
 * Loaded and attached only while it is wanted, on links and pins like those of the others.
 */
import { netDeviceName } from '../../linux/device.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc } from '../../linux/libc.ts'
import type { Links } from '../../linux/links.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { isInnerDevice } from '../../linux/netlink/inner-devices.ts'
import { HARDWARE_ETHERNET, type Link } from '../../linux/netlink/rtnetlink.ts'
import type { TcPlace } from '../../linux/netlink/traffic-control.ts'
import type { Answers } from '../dataplane.ts'
import { linkInfo, linkInfoLater, programInfo } from './object-info.ts'
import type { OpenedPrograms } from './pinned-program.ts'
import { type CompanionHook, type Pins, placeOf } from './pins.ts'
import { dropFilter, filterProgram, linkTc, putFilter } from './tc.ts'

interface Way {
  /** null: a filter, which no descriptor holds. */
  readonly fd: number | null
  /** What leaves there comes to our program, as the kernel said at the last comparison. */
  holds: boolean
}

/** The program of a filter of ours; null if that is not known yet. */
export type AskFilter = (ifindex: number, place: TcPlace) => Promise<number | null>

/** Which interfaces it belongs at. */
export type IsPlace = (link: Link, links: Links) => boolean

/** A program that was refused: the verifier takes seconds to say so, and will mostly say the same. */
const RETRY_MS_MIN = 10_000
const RETRY_MS_MAX = 600_000

export class Companion {
  readonly #hook: CompanionHook
  readonly #place: TcPlace
  readonly #isPlace: IsPlace
  readonly #pins: Pins | null
  readonly #opened: OpenedPrograms
  readonly #tcLinks: boolean
  /** By ifindex. */
  readonly #ways = new Map<number, Way>()
  /** Where it could not be attached, and why. */
  #refused: string[] = []
  #wanted = false
  #programId = 0
  /** How long it was last waited, and until when now (performance.now), before it is loaded after it was refused. */
  #waitMs = 0
  #againMs = 0

  constructor(
    hook: CompanionHook,
    isPlace: IsPlace,
    pins: Pins | null,
    opened: OpenedPrograms,
    tcLinks: boolean,
  ) {
    this.#hook = hook
    this.#place = placeOf(hook)
    this.#isPlace = isPlace
    this.#pins = pins
    this.#opened = opened
    this.#tcLinks = tcLinks
  }

  /** Goes on with what an earlier process has left. */
  adopt(): void {
    const pins = this.#pins
    if (pins === null) return
    for (const { hook, ifindex, isFilter } of pins.attachments()) {
      if (hook !== this.#hook) continue
      const fd = isFilter ? null : pins.openLink(ifindex, hook)
      this.#wanted = true
      this.#ways.set(ifindex, { fd, holds: true })
      try {
        this.#adopt(ifindex, fd)
      } catch (error) {
        if (!(error instanceof MachineError)) throw error
        // It is tried again like any other: what stands beside the packet program keeps no director from starting.
        this.#removeWay(ifindex)
      }
    }
  }

  #adopt(ifindex: number, fd: number | null): void {
    const programId = fd === null ? filterProgram(ifindex, this.#place) : linkInfo(fd).programId
    const name = netDeviceName(ifindex)
    if (name === null || programId === 0 || (fd !== null && linkInfo(fd).ifindex !== ifindex)) {
      this.#removeWay(ifindex)
    } else if (programId !== this.#loaded()) {
      const programFd = this.#opened.program(this.#hook)
      if (fd === null) putFilter(programFd, { ifindex, name }, this.#place)
      else
        need(
          libbpf().bpf_link_update(fd, programFd, null),
          `replace the program at the ${this.#place} of ${name}`,
        )
    }
  }

  want(isWanted: boolean, links: () => Links): void {
    if (!isWanted) {
      this.remove()
      return
    }
    this.#wanted = true
    this.bringInLine(links())
  }

  /** Whether it is there, or it is time to load it. */
  get isDue(): boolean {
    return this.#opened.has(this.#hook) || performance.now() >= this.#againMs
  }

  /** It is wanted, and cannot be had for now. */
  refuse(why: string): void {
    this.#wanted = true
    this.#refused = [why]
    this.#waitMs = Math.min(Math.max(2 * this.#waitMs, RETRY_MS_MIN), RETRY_MS_MAX)
    this.#againMs = performance.now() + this.#waitMs
  }

  /**
   * Attaches it to links that have come; those that went have taken theirs with them. What the kernel refuses is
   * in `state`: it keeps no packet from being taken.
   */
  bringInLine(links: Links): void {
    if (!this.#wanted || !this.isDue) return
    this.#refused = []
    let programFd: number
    try {
      programFd = this.#opened.program(this.#hook)
      this.#loaded()
      this.#waitMs = 0
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      this.refuse(error.message)
      return
    }
    const places = new Map(
      links.all().flatMap((link) => (this.#isPlace(link, links) ? [[link.ifindex, link]] : [])),
    )
    for (const [ifindex, { holds }] of this.#ways) {
      if (!holds || !places.has(ifindex)) this.#removeWay(ifindex)
    }
    for (const link of places.values()) {
      if (!this.#ways.has(link.ifindex)) this.#attach(programFd, link)
    }
  }

  #attach(programFd: number, link: Link): void {
    try {
      const fd = this.#tcLinks ? linkTc(programFd, link, this.#place) : null
      if (fd === null) {
        this.#pins?.noteFilter(link.ifindex, link.name, this.#hook)
        putFilter(programFd, link, this.#place)
      } else {
        this.#pin(fd, link)
      }
      this.#ways.set(link.ifindex, { fd, holds: true })
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      // One that has gone meanwhile says so itself.
      if (netDeviceName(link.ifindex) !== null) this.#refused.push(error.message)
    }
  }

  /** What has no file goes: nobody would find it. */
  #pin(fd: number, { ifindex, name }: Link): void {
    try {
      this.#pins?.pinLink(ifindex, fd, name, this.#hook)
    } catch (error) {
      libc.close(fd)
      throw error
    }
  }

  /** Asks the kernel which attachments hold. */
  async look(askFilter: AskFilter): Promise<void> {
    await Promise.all(
      [...this.#ways].map(async ([ifindex, way]) => {
        if (way.fd === null) {
          const programId = await askFilter(ifindex, this.#place)
          if (programId !== null) way.holds = programId === this.#programId
          return
        }
        const info = await linkInfoLater(way.fd)
        if (info !== null) way.holds = info.ifindex === ifindex && info.programId === this.#programId
      }),
    )
  }

  /** ifindex of the links that it is at. */
  at(): ReadonlySet<number> {
    return new Set([...this.#ways].flatMap(([ifindex, { holds }]) => (holds ? [ifindex] : [])))
  }

  /** null: it is not wanted. */
  state(): Answers | null {
    if (!this.#wanted) return null
    return {
      seen: this.#programId !== 0,
      interfaces: [...this.at()].map(netDeviceName).filter((name) => name !== null),
      refused: this.#refused,
    }
  }

  remove(): void {
    this.#wanted = false
    this.#refused = []
    for (const ifindex of [...this.#ways.keys()]) this.#removeWay(ifindex)
    if (this.#opened.has(this.#hook)) this.#opened.drop(this.#hook)
    this.#programId = 0
    this.#waitMs = 0
    this.#againMs = 0
  }

  /** Lets go of this process's handles. */
  close(): void {
    for (const [ifindex, { fd }] of this.#ways) {
      if (fd !== null) libc.close(fd)
      else if (this.#pins === null) dropFilter(ifindex, this.#place)
    }
    this.#ways.clear()
  }

  #loaded(): number {
    if (this.#programId === 0) this.#programId = programInfo(this.#opened.program(this.#hook)).id
    return this.#programId
  }

  #removeWay(ifindex: number): void {
    const way = this.#ways.get(ifindex)
    if (way === undefined) return
    this.#ways.delete(ifindex)
    if (way.fd === null) {
      if (netDeviceName(ifindex) !== null) dropFilter(ifindex, this.#place)
      this.#pins?.forgetFilter(ifindex, this.#hook)
    } else {
      this.#pins?.unpinLink(ifindex, this.#hook)
      libc.close(way.fd)
    }
  }
}

/** Whether packets of the host leave by a link as they are: by a part of a bond or bridge they have left already. */
export function sends(link: Link, links: Links): boolean {
  if (link.loopback || link.hardware !== HARDWARE_ETHERNET) return false
  if (isInnerDevice(link.name)) return false
  return link.master === 0 || links.at(link.master)?.kind === 'vrf'
}
