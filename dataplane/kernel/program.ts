/** Loading the packet program with its maps: new ones, or those of a program that runs already. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { basename } from 'node:path'
import { possibleCpus } from '../../linux/cpus.ts'
import { type Handle, libbpf, loadLater, loadNow, need, needPointer, takeLog } from '../../linux/libbpf.ts'
import { addressOf, Errno } from '../../linux/libc.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { DataplaneError, type Sizes } from '../dataplane.ts'
import { btfOfElf } from '../layout/btf.ts'
import { layoutDifference } from '../layout/check.ts'
import { type Elf, parseElf } from '../layout/elf.ts'
import { LimitsRecord, MAP_NAMES, MAPS, type MapName } from '../layout/layout.gen.ts'
import { limitsOf, mapEntries } from '../sizes.ts'
import type { Hook } from './pins.ts'
import { readOnlyData } from './read-only-data.ts'

const PROGRAM = 'pointsman'
const LIMITS = 'pm_limits'

/**
 * Maps of no layout that programs of one build share: datagrams that are not whole yet, which one that takes another's
 * place goes on with. Objects that have no use for them have none.
 */
export const SHARED_MAPS = ['gather_rows', 'gather_bytes'] as const
export type SharedMap = (typeof SHARED_MAPS)[number]
/** Whose programs have them. What is pinned of one build alone is another's to begin anew. */
export const SHARING: readonly Hook[] = ['tc', 'cut']

/** Where the objects of the hooks' programs lie. */
export type Objects = Readonly<Record<Hook, string>>

/** Programs of several hooks on the same maps. */
export interface LoadedPrograms {
  readonly programFds: ReadonlyMap<Hook, number>
  /** What each was made of: see `ObjectFile`. */
  readonly digests: ReadonlyMap<Hook, string>
  readonly mapFds: ReadonlyMap<MapName, number>
  readonly sharedFds: ReadonlyMap<SharedMap, number>
  close(): void
}

/** An object as it was read once, whatever its path names meanwhile: what is loaded is what was looked at. */
export interface ObjectFile {
  readonly what: string
  readonly bytes: Uint8Array
  /** The same for the same bytes with the same constants: loading them gives the same program. */
  readonly digest: string
}

export function readObjectFile(objectPath: string, sizes: Sizes): ObjectFile {
  const what = basename(objectPath)
  try {
    const bytes = readFileSync(objectPath)
    const constants = JSON.stringify(constantsOf(sizes))
    return { what, bytes, digest: createHash('sha256').update(bytes).update(constants).digest('hex') }
  } catch (cause) {
    throw new DataplaneError(`Cannot read ${objectPath}: build it first with npm run build`, { cause })
  }
}

/** `struct bpf_object_open_opts` of libbpf.h as far as the name, which maps of constants are named after. */
function openOptions(name: Buffer): Uint8Array {
  const options = new BigUint64Array([16n, addressOf(name)])
  return new Uint8Array(options.buffer)
}

/** File descriptors of maps that a program is to run on. */
export type MapFds = ReadonlyMap<MapName | SharedMap, number>

/**
 * @param hooks at least one
 * @param isNeeded of a hook: whose program the kernel refuses, and that is not, is left out
 */
export function loadPrograms(
  hooks: readonly Hook[],
  objects: Objects,
  sizes: Sizes,
  reuse: MapFds,
  isNeeded: (hook: Hook) => boolean = () => true,
): LoadedPrograms {
  const loaded: LoadedProgram[] = []
  const taken: Hook[] = []
  const close = () => {
    for (const one of loaded) one.close()
  }
  try {
    for (const hook of hooks) {
      const maps = loaded[0]?.mapFds ?? reuse
      try {
        loaded.push(loadProgram(objects[hook], sizes, new Map([...maps, ...sharedOf(loaded)])))
        taken.push(hook)
      } catch (error) {
        if (isNeeded(hook) || !(error instanceof MachineError)) throw error
      }
    }
  } catch (error) {
    close()
    throw error
  }
  return {
    programFds: new Map(taken.map((hook, at) => [hook, loaded[at]!.programFd])),
    digests: new Map(taken.map((hook, at) => [hook, loaded[at]!.digest])),
    mapFds: loaded[0]!.mapFds,
    sharedFds: sharedOf(loaded),
    close,
  }
}

/** What the first of them that has one brought along, or was given. */
export function sharedOf(loaded: Iterable<Pick<LoadedProgram, 'sharedFds'>>): Map<SharedMap, number> {
  const all = new Map<SharedMap, number>()
  for (const { sharedFds } of loaded)
    for (const [name, fd] of sharedFds) if (!all.has(name)) all.set(name, fd)
  return all
}

/** A program in the kernel; its file descriptors live until `close`. */
export interface LoadedProgram {
  readonly programFd: number
  readonly digest: string
  readonly mapFds: ReadonlyMap<MapName, number>
  /** Those of them that the object has. */
  readonly sharedFds: ReadonlyMap<SharedMap, number>
  /** Of a map that is not among those that all programs share. */
  otherMap(name: string): number
  close(): void
}

/** @param reuse maps to run on; those that are not named are made */
export function loadProgram(objectPath: string, sizes: Sizes, reuse: MapFds): LoadedProgram {
  const file = readObjectFile(objectPath, sizes)
  checkLayout(file)
  return loadObject(file, sizes, reuse)
}

/** Loads an object whose layout is the caller's business. */
export function loadObject(file: ObjectFile, sizes: Sizes, reuse: MapFds): LoadedProgram {
  const opened = new OpenedObject(file, sizes, reuse)
  return opened.loaded(loadNow(opened.object))
}

/** The other thread may get a signal, which interrupts the verifier: that says nothing of the program. */
const LATER_TRIES = 5

/** The same without holding up this thread: the verifier takes seconds. */
export async function loadProgramLater(
  objectPath: string,
  sizes: Sizes,
  reuse: MapFds,
): Promise<LoadedProgram> {
  const file = readObjectFile(objectPath, sizes)
  checkLayout(file)
  for (let left = LATER_TRIES; ; left--) {
    const opened = new OpenedObject(file, sizes, reuse)
    const result = await loadLater(opened.object)
    if (result !== -Errno.EAGAIN || left <= 1) return opened.loaded(result)
    // An object that was not loaded cannot be loaded any more.
    libbpf().bpf_object__close(opened.object)
  }
}

/** An object that is made ready to be loaded. */
class OpenedObject {
  readonly object: Handle
  readonly #file: ObjectFile
  readonly #handles = new Map<MapName, Handle>()
  readonly #shared = new Map<SharedMap, Handle>()

  constructor(file: ObjectFile, sizes: Sizes, reuse: MapFds) {
    const { what, bytes } = file
    this.#file = file
    takeLog()
    const name = Buffer.from(`${what.replace(/\.o$/, '')}\0`)
    this.object = needPointer(
      libbpf().bpf_object__open_mem(bytes, bytes.length, openOptions(name)),
      `open ${what}`,
    )
    try {
      const entries = mapEntries(sizes)
      for (const name of MAP_NAMES) {
        const map = this.#find(name)
        this.#handles.set(name, map)
        const fd = reuse.get(name)
        if (fd === undefined) {
          need(libbpf().bpf_map__set_max_entries(map, entries[name]), `size map ${name}`)
        } else {
          need(libbpf().bpf_map__reuse_fd(map, fd), `reuse map ${name}`)
        }
      }
      for (const name of SHARED_MAPS) {
        const map = libbpf().bpf_object__find_map_by_name(this.object, name)
        if (map === null || map === 0n) continue
        this.#shared.set(name, map)
        const fd = reuse.get(name)
        if (fd !== undefined) need(libbpf().bpf_map__reuse_fd(map, fd), `reuse map ${name}`)
      }
      writeLimits(this.object, parseElf(bytes), sizes)
    } catch (error) {
      libbpf().bpf_object__close(this.object)
      throw error
    }
  }

  #find(name: string): Handle {
    const map = libbpf().bpf_object__find_map_by_name(this.object, name)
    return needPointer(map, `find map ${name} in ${this.#file.what}`)
  }

  /** @param result of loading it */
  loaded(result: number): LoadedProgram {
    const { object } = this
    const { what, digest } = this.#file
    try {
      need(result, `load ${what}`, loadRemedy)
      const program = needPointer(
        libbpf().bpf_object__find_program_by_name(object, PROGRAM),
        `find program ${PROGRAM} in ${what}`,
      )
      const fdOf = (map: Handle, name: string): number => need(libbpf().bpf_map__fd(map), `open map ${name}`)
      return {
        programFd: need(libbpf().bpf_program__fd(program), `open program ${PROGRAM}`),
        digest,
        mapFds: new Map([...this.#handles].map(([name, map]) => [name, fdOf(map, name)])),
        sharedFds: new Map([...this.#shared].map(([name, map]) => [name, fdOf(map, name)])),
        otherMap: (name) => fdOf(this.#find(name), name),
        close: () => libbpf().bpf_object__close(object),
      }
    } catch (error) {
      libbpf().bpf_object__close(object)
      throw error
    }
  }
}

function loadRemedy(number: number, log: string): string {
  if (number === Errno.EPERM) {
    return 'the packet program takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run as root, or use --dataplane userspace'
  }
  if (number === Errno.EAGAIN) return 'signals have interrupted the verifier: try again'
  if (log.includes('PROG LOAD LOG')) {
    return `the verifier of Linux ${release()} refuses the program, for the reason below: Linux 6.1 or newer is expected to take it; --dataplane userspace does without`
  }
  if (number === Errno.ENOMEM) return 'there is not enough memory for maps of this size: choose smaller ones'
  return 'Linux 6.1 or newer with BPF is expected; --dataplane userspace does without'
}

/** Refuses an object whose records differ from the codecs'. */
function checkLayout({ what, bytes }: ObjectFile): void {
  const records = Object.values(MAPS)
    .map(({ record }) => record)
    .filter((record) => record.startsWith('pm_'))
  const difference = layoutDifference(btfOfElf(bytes), records)
  if (difference !== null) {
    throw new DataplaneError(
      `Cannot attach ${what}: ${difference}; object and daemon are of different builds: npm run build`,
    )
  }
}

function constantsOf(sizes: Sizes): LimitsRecord {
  return limitsOf(sizes, ownRows(sizes.cpus))
}

/** Of so many rows, those of one CPU each: where more CPUs may come than there are rows, they share the last. */
function ownRows(rows: number): number {
  return rows < possibleCpus() ? rows - 1 : rows
}

/** Fills `pm_limits` in the read-only data, where the verifier takes it for a constant. */
function writeLimits(object: Handle, elf: Elf, sizes: Sizes): void {
  const symbol = elf.symbols.find(({ name, section }) => name === LIMITS && section === '.rodata')
  if (symbol === undefined || symbol.size !== LimitsRecord.size) {
    throw new DataplaneError(
      `Cannot set ${LIMITS}: the object's .rodata holds ${symbol?.size ?? 0} bytes of it, expected ${LimitsRecord.size}`,
    )
  }
  LimitsRecord.write(readOnlyData(object), symbol.offset, constantsOf(sizes))
}
