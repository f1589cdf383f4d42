/**
 * Intake by AF_XDP: a small XDP program sends claimed frames to the workers' sockets and leaves all others
 * to the stack. Faster than packet sockets, and needs what XDP needs, CAP_BPF above all.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Handle, libbpf, loadNow, need, needPointer } from '../../../linux/libbpf.ts'
import { Errno, libc, memoryAt, SystemError, words } from '../../../linux/libc.ts'
import type { Link } from '../../../linux/netlink/rtnetlink.ts'
import { addressToBytes } from '../../../net/address.ts'
import { prefixText } from '../../../net/prefix.ts'
import { PROTOCOL_NUMBERS } from '../../../net/protocol.ts'
import { builtFile } from '../../assets.ts'
import { DataplaneError } from '../../dataplane.ts'
import { attachXdp } from '../../kernel/xdp.ts'
import { PM_CHUNK } from '../../layout/layout.gen.ts'
import type { Region } from '../../wasm/region.ts'
import { hullsOf, type SpanBox } from '../claims/spans.ts'
import { type Claim, claimKey, type EndClaim, ERROR_TYPES } from '../claims/tracker.ts'
import type { Intake, Plane, Tap } from '../intake.ts'
import { closeXskQueue, openXskQueue, RINGS_BYTES, type XskQueue } from './socket.ts'
import { FRAMES_BYTES } from './source.ts'

/** QUEUES_MAX of bpf/steer.bpf.c */
const QUEUES_MAX = 64
/** The kernel keeps 256 bytes of every chunk free before the frame (XDP_PACKET_HEADROOM). */
const FRAME_BYTES_MAX = PM_CHUNK - 256
const ETHERNET = 14
const BUSY_MS = 20
const BUSY_ATTEMPTS = 100
/** struct steer_key */
const KEY = { size: 20, address: 0, port: 16, protocol: 18, side: 19 } as const
const SIDE = { to: 0, from: 1, error: 2 } as const
/** With `to` or `from`: fragments. */
const PIECE = 4
/** struct steer_prefix: its length counts the bits behind that, PREFIX_HEAD of them before the address. */
const PREFIX = { size: 24, family: 4, protocol: 5, piece: 6, address: 8 } as const
const PREFIX_HEAD = 32
const ICMP = { 4: 1, 6: 58 } as const

interface Steering {
  readonly programFd: number
  readonly socketsFd: number
  close(): void
}

interface Queue {
  readonly cpu: number
  /** Number of the worker's tap. */
  readonly number: number
  readonly xsk: XskQueue
}

interface Open {
  readonly steering: Steering
  linkFd: number
  readonly queues: Queue[]
}

/** Frames of one worker thread and the sockets over them. */
interface Frames {
  readonly region: Region
  readonly sockets: Set<number>
}

/** A key in the map of this file descriptor, and what is there. */
interface Steered {
  readonly fd: number
  readonly key: Uint8Array
  readonly value: number
}

export class XskIntake implements Intake {
  readonly #plane: Plane
  /** By ifindex, which stays when an interface is renamed. */
  readonly #open = new Map<number, Open>()
  /** By the worker's row. */
  readonly #frames: (Frames | undefined)[] = []
  readonly #claimsFd: number
  readonly #closeClaims: () => void
  readonly #spansFd: number
  /** Keys in the maps, by what they are of. */
  readonly #claims = new Map<string, Steered>()

  constructor(plane: Plane) {
    this.#plane = plane
    // The maps outlive the programs of interfaces: they belong to one that is never attached.
    const { object, claims, spans } = loadSteering(null, new Uint8Array(6))
    this.#claimsFd = need(libbpf().bpf_map__fd(claims), 'open the map of claims')
    this.#spansFd = need(libbpf().bpf_map__fd(spans), 'open the map of destinations')
    this.#closeClaims = () => libbpf().bpf_object__close(object)
  }

  setClaims(claims: readonly Claim[]): void {
    const wanted = this.#steered(claims)
    for (const [name, { fd, key }] of this.#claims) {
      if (wanted.has(name)) continue
      this.#claims.delete(name)
      libbpf().bpf_map_delete_elem(fd, key)
    }
    for (const [name, steered] of wanted) {
      if (this.#claims.get(name)?.value === steered.value) continue
      need(libbpf().bpf_map_update_elem(steered.fd, steered.key, words(steered.value), 0), `claim ${name}`)
      this.#claims.set(name, steered)
    }
  }

  #steered(claims: readonly Claim[]): ReadonlyMap<string, Steered> {
    const wanted = new Map<string, Steered>()
    const plain = { fd: this.#claimsFd, value: 1 }
    if (claims.length > 0) for (const [name, key] of ERROR_KEYS) wanted.set(name, { ...plain, key })
    for (const claim of claims)
      if (claim.of !== 'spans') wanted.set(claimKey(claim), { ...plain, key: steerKey(claim) })
    for (const box of hullsOf(claims.filter((claim) => claim.of === 'spans'))) {
      const { from, to } = box.ports ?? { from: 0, to: 0 }
      const what = box.ports === null ? 'fragments' : 'ports'
      wanted.set(`${box.protocol} ${prefixText(box.prefix)} ${what}`, {
        ...{ fd: this.#spansFd, key: prefixKey(box), value: ((to << 16) | from) >>> 0 },
      })
    }
    return wanted
  }

  /** The program goes with us, and nobody else can take it off. */
  mend(): void {}

  async start(tap: Tap): Promise<void> {
    if (tap.link.mtu + ETHERNET > FRAME_BYTES_MAX) {
      throw new DataplaneError(
        `Cannot take packets from ${tap.link.name} over AF_XDP: its MTU is ${tap.link.mtu}, expected at most ${FRAME_BYTES_MAX - ETHERNET}; packet sockets do without that`,
      )
    }
    const { object, sockets } = loadSteering({ claims: this.#claimsFd, spans: this.#spansFd }, tap.link.mac)
    const program = needPointer(
      libbpf().bpf_object__find_program_by_name(object, 'steer'),
      'find program steer',
    )
    const open: Open = {
      steering: {
        programFd: need(libbpf().bpf_program__fd(program), 'open program steer'),
        socketsFd: need(libbpf().bpf_map__fd(sockets), 'open the map of sockets'),
        close: () => libbpf().bpf_object__close(object),
      },
      linkFd: -1,
      queues: [],
    }
    this.#open.set(tap.link.ifindex, open)
    await this.#openQueues(tap, open)
    open.linkFd = attachXdp(open.steering.programFd, tap.link, 'auto').fd
  }

  async #openQueues(tap: Tap, open: Open): Promise<void> {
    const workers = this.#plane.workers()
    for (let queue = 0; queue < QUEUES_MAX; queue++) {
      const cpu = queue % workers.length
      const xsk = await this.#openQueue(tap, cpu, queue)
      if (xsk === null) break
      const number = this.#plane.tapNumbers.take()
      open.queues.push({ cpu, number, xsk })
      const { stackIfindex } = tap
      await workers[cpu]!.order({
        kind: 'add-tap',
        tap: number,
        source: { kind: 'xsk', queue: xsk },
        stackIfindex,
      })
      need(
        libbpf().bpf_map_update_elem(open.steering.socketsFd, words(queue), words(xsk.fd), 0),
        `steer queue ${queue} of ${tap.link.name}`,
      )
    }
  }

  async #openQueue(tap: Tap, cpu: number, queue: number): Promise<XskQueue | null> {
    const rings = this.#plane.allocate(RINGS_BYTES)
    try {
      const xsk = await this.#openQueueIn(rings, tap, cpu, queue)
      if (xsk === null) this.#plane.free(rings)
      return xsk
    } catch (error) {
      this.#plane.free(rings)
      throw error
    }
  }

  async #openQueueIn(rings: Region, tap: Tap, cpu: number, queue: number): Promise<XskQueue | null> {
    const frames = this.#frames[cpu] ?? { region: this.#plane.allocate(FRAMES_BYTES), sockets: new Set() }
    this.#frames[cpu] = frames
    for (let attempt = 1; ; attempt++) {
      const [shared] = frames.sockets
      try {
        const { memory } = this.#plane
        const xsk = openXskQueue(memory, rings, frames.region, shared ?? null, tap.link.ifindex, queue)
        if (xsk !== null) frames.sockets.add(xsk.fd)
        return xsk
      } catch (error) {
        // The kernel lets go of a closed socket's queue some time later.
        const isBusy = error instanceof SystemError && error.errno === Errno.EBUSY
        if (!isBusy || attempt === BUSY_ATTEMPTS) throw error
        await sleep(BUSY_MS)
      }
    }
  }

  async stop(tap: Tap): Promise<void> {
    const open = this.#open.get(tap.link.ifindex)
    if (open === undefined) return
    this.#open.delete(tap.link.ifindex)
    if (open.linkFd >= 0) libc.close(open.linkFd)
    for (const { cpu, number, xsk } of open.queues) {
      await this.#plane
        .workers()
        [cpu]?.order({ kind: 'remove-tap', tap: number })
        .catch(() => {})
      this.#plane.tapNumbers.give(number)
      this.#closeQueue(cpu, xsk)
    }
    open.steering.close()
  }

  #closeQueue(cpu: number, xsk: XskQueue): void {
    closeXskQueue(this.#plane.memory, xsk)
    this.#plane.free(xsk.rings)
    const frames = this.#frames[cpu]
    if (frames?.region.base === xsk.frames.base) frames.sockets.delete(xsk.fd)
  }

  /** The old thread's frames are nobody's: the new one gets others, tap by tap. */
  async restartWorker(tap: Tap, cpu: number): Promise<void> {
    const isOld = this.#open
      .get(tap.link.ifindex)
      ?.queues.some((queue) => queue.cpu === cpu && this.#frames[cpu]?.sockets.has(queue.xsk.fd))
    if (isOld === true) this.#frames[cpu] = undefined
    await this.stop(tap)
    await this.start(tap)
  }

  async follow(tap: Tap, before: Link): Promise<void> {
    // The program knows the address of its interface.
    if (Buffer.compare(before.mac, tap.link.mac) === 0) return
    await this.stop(tap)
    await this.start(tap)
  }

  close(): void {
    this.#closeClaims()
  }
}

interface Steerer {
  readonly object: Handle
  readonly claims: Handle
  readonly spans: Handle
  readonly sockets: Handle
}

/** Loads the XDP program for an interface with this MAC address, over maps that exist or not. */
function loadSteering(
  maps: { readonly claims: number; readonly spans: number } | null,
  mac: Uint8Array,
): Steerer {
  const object = needPointer(
    libbpf().bpf_object__open_file(builtFile('steer.bpf.o'), null),
    'open steer.bpf.o',
  )
  try {
    const find = (name: string) =>
      needPointer(libbpf().bpf_object__find_map_by_name(object, name), `find map ${name} in steer.bpf.o`)
    const [claims, spans] = [find('claims'), find('spans')]
    if (maps !== null) {
      need(libbpf().bpf_map__reuse_fd(claims, maps.claims), 'reuse the map of claims')
      need(libbpf().bpf_map__reuse_fd(spans, maps.spans), 'reuse the map of destinations')
    }
    const size = new BigUint64Array(1)
    const variables = needPointer(libbpf().bpf_map__initial_value(find('.bss'), size), 'find the MAC address')
    new Uint8Array(memoryAt(variables, Number(size[0]))).set(mac)
    need(loadNow(object), 'load steer.bpf.o', remedy)
    return { object, claims, spans, sockets: find('sockets') }
  } catch (error) {
    libbpf().bpf_object__close(object)
    throw error
  }
}

function remedy(number: number): string {
  return number === Errno.EPERM
    ? 'AF_XDP needs CAP_BPF, packet sockets do without'
    : 'the packet sockets of the userspace plane does without XDP'
}

/** The claim as `struct steer_key`. */
export function steerKey(claim: EndClaim): Uint8Array {
  const side = SIDE[claim.side] | (claim.of === 'fragments' ? PIECE : 0)
  const key = emptyKey(side, PROTOCOL_NUMBERS[claim.protocol], claim.port)
  key.set(addressToBytes(claim.address), KEY.address)
  return key
}

/** Its destinations as `struct steer_prefix`. */
export function prefixKey({ protocol, prefix, ports }: SpanBox): Uint8Array {
  const key = new Uint8Array(PREFIX.size)
  new DataView(key.buffer).setUint32(0, PREFIX_HEAD + prefix.length, true)
  key[PREFIX.family] = prefix.family
  key[PREFIX.protocol] = PROTOCOL_NUMBERS[protocol]
  key[PREFIX.piece] = ports === null ? 1 : 0
  key.set(addressToBytes(prefix.address), PREFIX.address)
  return key
}

function emptyKey(side: number, protocol: number, port: number): Uint8Array {
  const key = new Uint8Array(KEY.size)
  key[KEY.side] = side
  key[KEY.protocol] = protocol
  new DataView(key.buffer).setUint16(KEY.port, port, false)
  return key
}

/**
 * The steering program does not look into errors: all of them come here, and those that are not about a
 * claim go back to the stack. With this process the program ends too.
 */
const ERROR_KEYS = ([4, 6] as const).flatMap((family) =>
  ERROR_TYPES[family].map(
    (type) => [`error ${family} ${type}`, emptyKey(SIDE.error, ICMP[family], type)] as const,
  ),
)
