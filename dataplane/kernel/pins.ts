/**
 * The pin directory: what the packet program needs to go on without us. It is complete or absent: a
 * new one is filled beside it (`DIRECTORY-new`; the file system keeps dots to itself) and moved into place.
 *
 *     settings ... locals   the maps
 *     gather_rows, _bytes   datagrams that are not whole yet, of programs that put them together
 *     program               the XDP program
 *     program-tc            that for traffic control
 *     program-out           that for what the host's own sockets send
 *     program-own           that which leads what they send to virtual services to the others
 *     program-cut           that which cuts what XDP cannot
 *     program-relay         that which sends what XDP has made ready and cannot send
 *     object, object-tc ... symbolic links to nowhere: of which object a program was made, and with what tag
 *     link-IFINDEX          one attachment of XDP; forwarding lasts as long as this file
 *     tc-IFINDEX            the same of traffic control
 *     out-IFINDEX           the same at the egress
 *     own-IFINDEX           the same at the egress of lo
 *     cut-IFINDEX           the same at the ingress, beside XDP; relay-IFINDEX, too
 *     filter-IFINDEX        before Linux 6.6: a symbolic link to nowhere that says that a filter of ours is there
 *     filter-out-IFINDEX    the same at the egress; filter-own-IFINDEX at that of lo; filter-cut-IFINDEX
 *                           and filter-relay-IFINDEX beside XDP
 *     name-IFINDEX          a symbolic link to nowhere: the name by which that interface was wanted
 */
import {
  existsSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { makePinDirectory } from '../../linux/bpffs.ts'
import { exchangePaths } from '../../linux/exchange.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import type { TcPlace } from '../../linux/netlink/traffic-control.ts'

/** Where in the kernel packets come to the program. */
export type TakingHook = 'xdp' | 'tc'
/**
 * Where it sees what they do not: what the host itself sends, its answers by out, its requests by own; and of that which
 * XDP has taken what is to be cut, and what it cannot send.
 */
export type CompanionHook = 'out' | 'own' | 'cut' | 'relay'
export type Hook = TakingHook | CompanionHook
export const HOOKS: readonly Hook[] = ['xdp', 'tc', 'out', 'own', 'cut', 'relay']

export function isTaking(hook: Hook): hook is TakingHook {
  return hook === 'xdp' || hook === 'tc'
}

/** Where in traffic control a hook's program is. */
export function placeOf(hook: Hook): TcPlace {
  if (hook === 'cut') return 'beside'
  if (hook === 'relay') return 'relay'
  return isTaking(hook) ? 'ingress' : 'egress'
}

/** Whose filter notes are about: XDP has no filters. */
export function filterOf(hook: Hook): FilterHook {
  return hook === 'xdp' ? 'tc' : hook
}

type FilterHook = Exclude<Hook, 'xdp'>

/** One attachment that outlives us. `isFilter`: a filter of a qdisc, which no file holds. */
export interface PinnedLink {
  readonly hook: Hook
  readonly ifindex: number
  readonly isFilter: boolean
}

const PROGRAM: Readonly<Record<Hook, string>> = {
  xdp: 'program',
  tc: 'program-tc',
  out: 'program-out',
  own: 'program-own',
  cut: 'program-cut',
  relay: 'program-relay',
}
const OBJECT: Readonly<Record<Hook, string>> = {
  xdp: 'object',
  tc: 'object-tc',
  out: 'object-out',
  own: 'object-own',
  cut: 'object-cut',
  relay: 'object-relay',
}
const LINK: Readonly<Record<Hook, string>> = {
  ...{ xdp: 'link', tc: 'tc' },
  ...{ out: 'out', own: 'own', cut: 'cut', relay: 'relay' },
}
const FILTER = {
  tc: 'filter',
  ...{ out: 'filter-out', own: 'filter-own', cut: 'filter-cut', relay: 'filter-relay' },
} as const
const ATTACHMENT = /^(link|tc|(?:filter-)?(?:out|own|cut|relay)|filter)-(\d+)$/
const HOOK_OF: Readonly<Record<string, Hook>> = {
  link: 'xdp',
  tc: 'tc',
  out: 'out',
  own: 'own',
  cut: 'cut',
  relay: 'relay',
  [FILTER.tc]: 'tc',
  [FILTER.out]: 'out',
  [FILTER.own]: 'own',
  [FILTER.cut]: 'cut',
  [FILTER.relay]: 'relay',
}
const NAME = /^name-(\d+)(-new)?$/

/** What a program was made of (`digestOf`), and the kernel's hash of its instructions. */
export interface ProgramNote {
  readonly digest: string
  readonly tag: string
}

/** Told of every change of the file system after it was made. */
export type Trace = (step: string) => void

export class Pins {
  readonly directory: string
  readonly #trace: Trace

  constructor(directory: string, trace: Trace = () => {}) {
    this.directory = directory
    this.#trace = trace
  }

  /** Where the next directory is prepared; what lies there is unfinished, or the last one's rest. */
  beside(): Pins {
    return new Pins(`${this.directory}-new`, this.#trace)
  }

  exists(): boolean {
    return existsSync(this.directory)
  }

  /** True when a program with all its maps was pinned here. */
  complete(): boolean {
    return this.hooks().some(isTaking)
  }

  /** Whose programs are pinned. */
  hooks(): readonly Hook[] {
    return HOOKS.filter((hook) => existsSync(this.#path(PROGRAM[hook])))
  }

  make(): void {
    makePinDirectory(this.directory)
    this.#trace(`made ${basename(this.directory)}`)
  }

  pinMap(name: string, fd: number): void {
    this.#pin(fd, name)
  }

  has(name: string): boolean {
    return existsSync(this.#path(name))
  }

  /** Those of these names that are there. */
  forgetMaps(names: readonly string[]): void {
    for (const name of names) if (this.has(name)) this.#unlink(name)
  }

  openMap(name: string): number {
    return this.#open(name)
  }

  openProgram(hook: Hook = 'xdp'): number {
    return this.#open(PROGRAM[hook])
  }

  /** Pins the program, in place of another if there is one: at no moment there is none. */
  pinProgram(fd: number, hook: Hook = 'xdp'): void {
    const name = PROGRAM[hook]
    const fresh = `${name}-new`
    if (existsSync(this.#path(fresh))) this.#unlink(fresh)
    this.#pin(fd, fresh)
    renameSync(this.#path(fresh), this.#path(name))
    this.#trace(hook === 'xdp' ? 'renamed the program' : `renamed the program of ${hook}`)
  }

  /** What was noted of the program of a hook: the object it came of and the tag it had; null without a note. */
  noteOf(hook: Hook): ProgramNote | null {
    const [digest, tag] = this.#readNote(OBJECT[hook])?.split('/') ?? []
    return digest === undefined || tag === undefined ? null : { digest, tag }
  }

  /** That loading this object gives a program with this tag: true of whatever is pinned, now and later. */
  note(hook: Hook, { digest, tag }: ProgramNote): void {
    this.#writeNote(OBJECT[hook], `${digest}/${tag}`, () => `noted the object of ${hook}`)
  }

  /**
   * Removes programs of companions that are at no interface: who was to attach them, or had taken them off, was killed.
   * And what somebody was killed at who was pinning a program.
   */
  forgetUnattached(): void {
    const attached = new Set(this.attachments().map(({ hook }) => hook))
    for (const hook of this.hooks()) if (!isTaking(hook) && !attached.has(hook)) this.unpinProgram(hook)
    for (const hook of HOOKS) if (this.has(`${PROGRAM[hook]}-new`)) this.#unlink(`${PROGRAM[hook]}-new`)
  }

  /** Another hook has all links. */
  unpinProgram(hook: Hook): void {
    this.#unlink(PROGRAM[hook])
  }

  /** Every attachment, whatever holds it. */
  attachments(): PinnedLink[] {
    return this.#names().flatMap((name) => {
      const match = ATTACHMENT.exec(name)
      if (match === null) return []
      const [, by = '', ifindex] = match
      return [{ hook: HOOK_OF[by]!, ifindex: Number(ifindex), isFilter: by.startsWith(FILTER.tc) }]
    })
  }

  /** ifindex of every pinned link of XDP. */
  links(): number[] {
    return this.attachments().flatMap(({ hook, ifindex }) => (hook === 'xdp' ? [ifindex] : []))
  }

  /**
   * Of the interface as `wanted`; its name is there before it and goes after it. Interfaces of companions are
   * wanted by no name.
   */
  pinLink(ifindex: number, fd: number, wanted: string, hook: Hook = 'xdp'): void {
    if (isTaking(hook)) this.name(ifindex, wanted)
    this.#pin(fd, `${LINK[hook]}-${ifindex}`)
  }

  /** Written down before the filter is made, and forgotten after it is gone. */
  noteFilter(ifindex: number, wanted: string, hook: FilterHook = 'tc'): void {
    if (isTaking(hook)) this.name(ifindex, wanted)
    const name = `${FILTER[hook]}-${ifindex}`
    if (this.#names().includes(name)) return
    symlinkSync(wanted, this.#path(name))
    this.#trace(`noted ${name} in ${basename(this.directory)}`)
  }

  /** By which name the interface of a link was wanted; null where nobody has said. */
  nameOf(ifindex: number): string | null {
    return this.#readNote(`name-${ifindex}`)
  }

  name(ifindex: number, wanted: string): void {
    this.#writeNote(`name-${ifindex}`, wanted, () => `named link-${ifindex}`)
  }

  /** Removes names that no link has, and unfinished ones. */
  forgetNames(): void {
    const attached = new Set(
      this.attachments().flatMap(({ hook, ifindex }) => (isTaking(hook) ? [ifindex] : [])),
    )
    for (const name of this.#names()) {
      const match = NAME.exec(name)
      if (match !== null && (match[2] !== undefined || !attached.has(Number(match[1])))) this.#unlink(name)
    }
  }

  openLink(ifindex: number, hook: Hook = 'xdp'): number {
    return this.#open(`${LINK[hook]}-${ifindex}`)
  }

  /** The link itself goes with its last file descriptor. */
  unpinLink(ifindex: number, hook: Hook = 'xdp'): void {
    this.#unlink(`${LINK[hook]}-${ifindex}`)
    this.forgetNames()
  }

  forgetFilter(ifindex: number, hook: FilterHook = 'tc'): void {
    this.#unlink(`${FILTER[hook]}-${ifindex}`)
    this.forgetNames()
  }

  /** Puts the directory beside into this one's place; what was here lies beside it afterwards. */
  replace(): void {
    const fresh = this.beside()
    if (this.exists()) exchangePaths(fresh.directory, this.directory)
    else renameSync(fresh.directory, this.directory)
    this.#trace('moved into place')
  }

  /** Removes everything: links first, so that forwarding stops before its state goes. */
  remove(): boolean {
    const names = this.#names()
    const order = (name: string) => (ATTACHMENT.test(name) ? 0 : name.startsWith(PROGRAM.xdp) ? 1 : 2)
    for (const name of names.sort((a, b) => order(a) - order(b))) this.#unlink(name)
    if (this.exists()) {
      rmdirSync(this.directory)
      this.#trace(`removed ${basename(this.directory)}`)
    }
    const parent = dirname(this.directory)
    // The folder of the default directories, once no other namespace has one.
    if (basename(parent) === 'pointsman' && existsSync(parent) && readdirSync(parent).length === 0) {
      rmdirSync(parent)
    }
    return names.length > 0
  }

  #path(name: string): string {
    return join(this.directory, name)
  }

  #names(): string[] {
    return this.exists() ? readdirSync(this.directory) : []
  }

  #readNote(name: string): string | null {
    try {
      return readlinkSync(this.#path(name))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }

  #writeNote(name: string, text: string, step: () => string): void {
    if (this.#readNote(name) === text) return
    const fresh = `${name}-new`
    if (this.#names().includes(fresh)) this.#unlink(fresh)
    symlinkSync(text, this.#path(fresh))
    renameSync(this.#path(fresh), this.#path(name))
    this.#trace(`${step()} in ${basename(this.directory)}`)
  }

  #pin(fd: number, name: string): void {
    need(libbpf().bpf_obj_pin(fd, this.#path(name)), `pin ${this.#path(name)}`)
    this.#trace(`pinned ${name} in ${basename(this.directory)}`)
  }

  #unlink(name: string): void {
    unlinkSync(this.#path(name))
    this.#trace(`unpinned ${name} in ${basename(this.directory)}`)
  }

  #open(name: string): number {
    return need(libbpf().bpf_obj_get(this.#path(name)), `open ${this.#path(name)}`)
  }
}
