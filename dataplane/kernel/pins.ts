/**
 * The pin directory: what the packet program needs to go on without us. It is complete or absent: a
 * new one is filled beside it (`DIRECTORY-new`; the file system keeps dots to itself) and moved into place.
 *
 *     settings ... locals   the maps
 *     program               the program
 *     link-IFINDEX          one attachment; forwarding lasts as long as this file
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

const PROGRAM = 'program'
const LINK = /^link-(\d+)$/
const NAME = /^name-(\d+)(-new)?$/

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
    return existsSync(this.#path(PROGRAM))
  }

  make(): void {
    makePinDirectory(this.directory)
    this.#trace(`made ${basename(this.directory)}`)
  }

  pinMap(name: string, fd: number): void {
    this.#pin(fd, name)
  }

  openMap(name: string): number {
    return this.#open(name)
  }

  openProgram(): number {
    return this.#open(PROGRAM)
  }

  /** Pins the program, in place of another if there is one: at no moment there is none. */
  pinProgram(fd: number): void {
    const fresh = `${PROGRAM}-new`
    if (existsSync(this.#path(fresh))) this.#unlink(fresh)
    this.#pin(fd, fresh)
    renameSync(this.#path(fresh), this.#path(PROGRAM))
    this.#trace('renamed the program')
  }

  /** ifindex of every pinned link. */
  links(): number[] {
    return this.#names().flatMap((name) => {
      const match = LINK.exec(name)
      return match === null ? [] : [Number(match[1])]
    })
  }

  /** Of the interface as `wanted`; its name is there before it and goes after it. */
  pinLink(ifindex: number, fd: number, wanted: string): void {
    this.name(ifindex, wanted)
    this.#pin(fd, `link-${ifindex}`)
  }

  /** By which name the interface of a link was wanted; null where nobody has said. */
  nameOf(ifindex: number): string | null {
    try {
      return readlinkSync(this.#path(`name-${ifindex}`))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }

  name(ifindex: number, wanted: string): void {
    if (this.nameOf(ifindex) === wanted) return
    const fresh = `name-${ifindex}-new`
    if (this.#names().includes(fresh)) this.#unlink(fresh)
    symlinkSync(wanted, this.#path(fresh))
    renameSync(this.#path(fresh), this.#path(`name-${ifindex}`))
    this.#trace(`named link-${ifindex} in ${basename(this.directory)}`)
  }

  /** Removes names that no link has, and unfinished ones. */
  forgetNames(): void {
    const links = this.links()
    for (const name of this.#names()) {
      const match = NAME.exec(name)
      if (match !== null && (match[2] !== undefined || !links.includes(Number(match[1])))) this.#unlink(name)
    }
  }

  openLink(ifindex: number): number {
    return this.#open(`link-${ifindex}`)
  }

  /** The link itself goes with its last file descriptor. */
  unpinLink(ifindex: number): void {
    this.#unlink(`link-${ifindex}`)
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
    const order = (name: string) => (LINK.test(name) ? 0 : name.startsWith(PROGRAM) ? 1 : 2)
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
