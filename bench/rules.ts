/**
 * Rules put straight into the maps of a data plane, by the control plane's own record codecs: services
 * with real servers that nobody will edit again. 100,000 of them take a second.
 */

import { writeHop } from '../control/apply/hop-record.ts'
import { bracketLength, bracketMatches, bracketOrder } from '../control/compile/bracket.ts'
import { realImage, SERVICE_WORDS, schedulerNumber, serviceImage } from '../control/compile/images.ts'
import { mhTable } from '../control/compile/lookup-table.ts'
import { planEntry } from '../control/compile/service-index.ts'
import { SETTLED, settlingFields } from '../control/compile/untracked.ts'
import type { SchedulerName } from '../control/model/scheduler.ts'
import type { ForwardingMethod } from '../control/model/server.ts'
import { execute, type RuleMaps, ruleMaps } from '../control/plan/operations.ts'
import type { HostHop } from '../control/rules/host.ts'
import { weightSteps } from '../control/rules/scheduler-state.ts'
import type { Dataplane } from '../dataplane/dataplane.ts'
import {
  LiveRecord,
  MAP_NAMES,
  PM_TICK_SHIFT,
  PM_TIMEOUTS,
  PM_VERDICT_MAX,
  ScheduleRecord,
  Setting,
  SettingsRecord,
  verdictNames,
} from '../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../net/address.ts'
import { familyOf, parseAddress } from '../net/address.ts'
import { macBytes } from '../test/packets/bytes.ts'
import { type Endpoint, MAC } from './traffic.ts'

export interface BenchServer extends Endpoint {
  /** 1 unless it says otherwise. */
  readonly weight?: number
  /** Above its upper threshold, and stays so. */
  readonly overloaded?: true
}

export interface BenchService {
  readonly at: Endpoint
  readonly protocol?: 'tcp' | 'udp'
  readonly scheduler?: SchedulerName
  readonly method: ForwardingMethod
  readonly servers: readonly BenchServer[]
  /** Outer source of tunnels. */
  readonly source?: string
  /** Just enough tracking: the scheduler is mh. */
  readonly untracked?: true
}

/** Out by this interface of the director's, to the frames' address of whoever is there. */
export const hopTo = (ifindex: number, dmac: string = MAC.server): HostHop => ({
  ifindex,
  smac: macBytes(MAC.director),
  dmac: macBytes(dmac),
  mtu: 1500,
})

/** Long enough that nothing expires while it is measured. */
const TIMEOUT_S = 900
/** PM_EPOCH_SHIFT of bpf/next-hop.h: the epoch is the daemon's number plus the ticks shifted by this. */
const EPOCH_SHIFT = 12
const EPOCH_HELD = 1
const TICKS_PER_SECOND = 1e9 / 2 ** PM_TICK_SHIFT

export class BenchRules {
  readonly #plane: Dataplane
  readonly #maps: RuleMaps
  /** Those whose bracket does not depend on counts. */
  readonly #steady = new Set<number>()
  #hop: (server: Endpoint) => HostHop | null = () => null
  #services = 0
  #reals = 0
  #members = 0

  constructor(plane: Dataplane) {
    this.#plane = plane
    this.#maps = ruleMaps(plane)
  }

  /** No rules, no connections, no counts; the interfaces stay. */
  clear(): void {
    for (const name of MAP_NAMES) {
      if (name !== 'settings' && name !== 'interfaces') this.#plane.map(name).bytes.fill(0)
    }
    this.#steady.clear()
    this.#services = 0
    this.#reals = 0
    this.#members = 0
    const { view } = this.#plane.map('settings')
    const settings = SettingsRecord.read(view, 0)
    SettingsRecord.write(view, 0, {
      ...settings,
      flags: Setting.Ready | Setting.V4 | Setting.V6 | Setting.Interest,
      reuseMode: 1,
      timeouts: new Array<number>(PM_TIMEOUTS).fill(Math.round(TIMEOUT_S * TICKS_PER_SECOND)),
      unprivilegedPort: 1024,
    })
  }

  /** Where real servers of services that are added from now on are reached, as a daemon keeps it. */
  reachBy(hop: (server: Endpoint) => HostHop): void {
    this.#hop = hop
  }

  /**
   * Keeps next hops valid that connections have: the program asks for them again every 34 s, and a million
   * flows at once after a pause would be measured as if that were their usual price. And looks like a daemon that
   * is there. To be called before every run.
   */
  holdNextHops(): void {
    const { view } = this.#plane.map('settings')
    const now = this.#plane.nowTicks()
    SettingsRecord.setNextHopEpoch(view, 0, (EPOCH_HELD - (now >>> EPOCH_SHIFT)) >>> 0)
    SettingsRecord.setSwept(view, 0, now)
  }

  forgetConnections(family: 4 | 6 = 4): void {
    this.#plane.map(family === 4 ? 'connections4' : 'connections6').bytes.fill(0)
    const live = this.#plane.map('live')
    for (let base = 0; base < this.#reals * live.entrySize; base += live.entrySize) {
      const { seat, overloaded } = LiveRecord.read(live.view, base)
      live.bytes.fill(0, base, base + live.entrySize)
      LiveRecord.setSeat(live.view, base, seat)
      LiveRecord.setOverloaded(live.view, base, overloaded)
    }
    const { view } = this.#plane.map('schedules')
    for (let slot = 0; slot < this.#services; slot++) {
      if (this.#steady.has(slot)) continue
      const base = slot * 2 * ScheduleRecord.size
      ScheduleRecord.setUnplayed(view, base, bracketMatches(ScheduleRecord.getBracket(view, base)))
    }
  }

  add(service: BenchService): void {
    const slot = this.#services++
    const first = this.#members
    const address = parsed(service.at.address)
    service.servers.forEach((server, index) => {
      const image = realImage(
        {
          id: {
            address: parsed(server.address),
            family: familyOf(parsed(server.address)),
            port: server.port,
          },
          method: service.method,
          tunnel: { type: 'ipip' },
          weight: server.weight ?? 1,
          upperThreshold: 0,
          lowerThreshold: 0,
        },
        { slot, anyPort: false },
        { source: service.source === undefined ? null : parsed(service.source), local: false },
      )
      const real = this.#reals++
      execute(this.#maps, { op: 'fill-real', real, image })
      writeHop(this.#plane, real, this.#hop(server))
      const words = Uint32Array.of(real, server.weight ?? 1)
      execute(this.#maps, { op: 'fill-members', first: first + index, words })
      if (server.overloaded) execute(this.#maps, { op: 'mark-overload', real, overloaded: true })
      this.#members++
    })
    const count = service.servers.length
    const scheduler = service.untracked ? 'mh' : (service.scheduler ?? 'rr')
    const bracket = bracketOrder(scheduler, count)
    if (scheduler === 'rr' || scheduler === 'wrr') this.#steady.add(slot)
    const { max, step } = weightSteps(new Map(service.servers.map(({ weight = 1 }) => [weight, 1])))
    const table = scheduler === 'mh' ? this.#table(service) : new Uint32Array(0)
    const words = Uint32Array.from({ length: table.length * 2 }, (_, at) =>
      at % 2 === 0 ? this.#maps.members.u32[(first + table[at / 2]!) * 2]! : 1,
    )
    if (words.length > 0) execute(this.#maps, { op: 'fill-members', first: this.#members, words })
    const schedule = new Uint32Array(ScheduleRecord.size / 4)
    ScheduleRecord.write(new DataView(schedule.buffer), 0, {
      first,
      count,
      tableFirst: this.#members,
      tableCount: table.length + bracketLength(bracket),
      weightMax: max,
      weightStep: step,
      cursor: 0n,
      bracket,
      how: 0,
      ...settlingFields(SETTLED),
      unplayed: bracketMatches(bracket),
      released: 0,
      nobody: 0,
    })
    this.#members += table.length + bracketLength(bracket)
    execute(this.#maps, { op: 'seat', first, count, order: bracket, seated: 0, scheduler })
    execute(this.#maps, { op: 'fill-schedule', schedule: slot * 2, image: schedule })
    const image = serviceImage(
      {
        id: {
          kind: 'address',
          protocol: service.protocol ?? 'tcp',
          address,
          family: familyOf(address),
          port: service.at.port,
        },
        scheduler,
        schedulerFlags: 0,
        onePacket: false,
        untracked: service.untracked ?? false,
        persistenceTimeoutS: 0,
        netmask: familyOf(address) === 4 ? 0xffffffff : 128,
        persistenceEngine: null,
      },
      slot,
      schedulerNumber(scheduler),
    )
    if (image.length !== SERVICE_WORDS) throw new Error('Unexpected size of a service')
    const stores = planEntry(this.#maps.serviceIndex, this.#maps.services, slot, image)
    if (stores === null) throw new Error(`No index entry left for service ${slot}`)
    execute(this.#maps, { op: 'fill-service', slot, image })
    for (const store of stores) execute(this.#maps, { op: 'index', ...store })
    const { view } = this.#plane.map('settings')
    if (service.untracked)
      SettingsRecord.setFlags(view, 0, SettingsRecord.getFlags(view, 0) | Setting.Untracked)
  }

  #table({ at, servers }: BenchService): Uint32Array {
    const entries = servers.map(({ address, port }) => ({
      address: parsed(address),
      port,
      weight: 1,
      lastWeight: 1,
    }))
    return mhTable(entries, familyOf(parsed(at.address)))
  }
}

/** Total of every verdict so far, over all CPUs. */
export function readVerdicts(plane: Dataplane): bigint[] {
  const { u64 } = plane.map('verdicts')
  const totals = new Array<bigint>(PM_VERDICT_MAX).fill(0n)
  for (let at = 0; at < u64.length; at++) totals[at % PM_VERDICT_MAX]! += u64[at]!
  return totals
}

/** Share of packets that may fare otherwise: connections for which both sets of the table were full. */
const STRAY_SHARE_MAX = 0.003

/**
 * Throws unless the packets since `before` got the expected verdict; a number about other packets would
 * mean nothing.
 */
export function expectVerdict(
  plane: Dataplane,
  before: readonly bigint[],
  verdict: number,
  packets: number,
): void {
  const counts = readVerdicts(plane).map((count, index) => Number(count - before[index]!))
  const got = counts[verdict]!
  const others = counts
    .map((count, index) => (index === verdict || count === 0 ? '' : `${count} ${verdictNames[index]}`))
    .filter((text) => text !== '')
  const strays = counts.reduce((sum, count) => sum + count, 0) - got
  if (got < packets * (1 - STRAY_SHARE_MAX) || strays > packets * STRAY_SHARE_MAX) {
    throw new Error(
      `expected ${packets} packets with verdict ${verdictNames[verdict]}, counted ${got}${others.length > 0 ? ` and ${others.join(', ')}` : ''}`,
    )
  }
}

function parsed(text: string): IpAddress {
  const address = parseAddress(text)
  if (address === null) throw new TypeError(`Cannot parse address "${text}"`)
  return address
}
