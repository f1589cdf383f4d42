/** A forwarder between two wires, for one suite of tests. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before } from 'node:test'
import type { ManagedDirector } from '../../../control/apply/open.ts'
import type { ProbeWays } from '../../../control/apply/probe-way.ts'
import type { Director } from '../../../control/model/director.ts'
import type { RealServer } from '../../../control/model/server.ts'
import type { VirtualService } from '../../../control/model/service.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { PM_VERDICT_MAX, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { Forwarder } from '../../../dataplane/userspace/forwarder/forwarder.ts'
import { MapsFile } from '../../../dataplane/userspace/maps-file.ts'
import { parseAddress } from '../../../net/address.ts'
import { openDirector } from '../../control/opened-director.ts'
import * as support from '../../control/support.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutPrivileges } from '../private-network.ts'
import { fromClient, fromServer, heard, layTwoWires, REAL, SOURCE, VIP } from '../two-wires.ts'

export const INTAKES = ['packet', 'xdp'] as const
export type Intake = (typeof INTAKES)[number]

/** The packet filter of the network the tests are in. */
export const nft = (): string => execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' })

/** Why no forwarder can be had here, for `skip`; false if one can. */
export const skip = skipWithoutPrivileges || (!isBuilt() && 'needs npm run build')

function isBuilt(): boolean {
  try {
    return builtFile('pointsman.wasm') !== ''
  } catch {
    return false
  }
}

export const service = (port: number, protocol: 'tcp' | 'udp' = 'tcp'): VirtualService =>
  support.service(`${protocol} ${VIP}:${port}`, { scheduler: 'rr' })

export const server = (method: RealServer['method'], port: number): RealServer =>
  support.server(`${REAL}:${port}`, { method })

export class ForwarderStage {
  readonly log: string[] = []
  /** Other ends of the director's interfaces; a test that makes a link again listens there again. */
  c!: PacketSocket
  r!: PacketSocket
  #plane: Forwarder | null = null
  #managed: ManagedDirector | null = null
  readonly #intake: Intake
  readonly #folder = mkdtempSync(join(tmpdir(), 'pointsman-userspace-'))

  /** Made before the tests of the suite that is being described, taken away after them. */
  constructor(intake: Intake) {
    this.#intake = intake
    // As in its own process, something else keeps the loop going while it waits for its threads.
    let life: NodeJS.Timeout
    before(async () => {
      life = setInterval(() => {}, 60_000)
      layTwoWires()
      this.c = new PacketSocket('wire-c', { vnet: true })
      this.r = new PacketSocket('wire-r', { vnet: true })
      await this.open()
      await this.attach()
    })
    after(async () => {
      await this.plane.detach()
      await this.close()
      this.c.close()
      this.r.close()
      rmSync(this.#folder, { recursive: true })
      clearInterval(life)
    })
  }

  get plane(): Forwarder {
    assert.ok(this.#plane)
    return this.#plane
  }

  get director(): Director {
    assert.ok(this.#managed)
    return this.#managed.director
  }

  get probeWays(): ProbeWays {
    assert.ok(this.#managed)
    return this.#managed.applier.probeWays
  }

  /** A forwarder over the maps that the one before it has left, and a director over it. */
  async open(workers = 1): Promise<void> {
    const path = join(this.#folder, 'maps')
    const found = MapsFile.open(path)
    const maps = found instanceof MapsFile ? found : MapsFile.create(path, SMALL_SIZES)
    this.#plane = await Forwarder.open({
      sizes: SMALL_SIZES,
      workers,
      intake: this.#intake,
      maps,
      ringBytes: 1 << 20,
      log: (message) => this.log.push(message),
    })
    const host = fixedHost({ sources: { [REAL]: parseAddress(SOURCE)! } })
    this.#managed = openDirector({ dataplane: this.#plane, host })
  }

  /** The director first: what it still has to do is not done to maps that are gone. */
  async close(): Promise<void> {
    await this.#managed?.applier.stop()
    await this.plane.close()
  }

  /** What the daemon does when it hears of a link. */
  linksChanged(): void {
    this.#managed?.applier.networkChanged({ links: true, addresses: true, routes: true, neighbours: true })
  }

  attach(): ReturnType<Forwarder['attach']> {
    return this.plane.attach(['c0', 'r0'])
  }

  async add(virtual: VirtualService, real: RealServer): Promise<void> {
    assert.ok(this.director.addService(virtual).ok)
    assert.ok(this.director.addServer(virtual.id, real).ok)
    await this.director.settle()
  }

  /** NAT for port 80, and a connection through it. */
  async establish(sport: number): Promise<void> {
    await this.add(service(80), server('nat', 8080))
    this.c.send(fromClient(sport, 80, 'S'))
    assert.equal((await heard(this.r)).length, 1, this.verdicts())
    this.r.send(fromServer(sport, 'SA'))
    assert.equal((await heard(this.c)).length, 1, this.verdicts())
  }

  /** Sends a first packet again and again, as a client does, until the real server hears of it. */
  async reaches(sport: number): Promise<void> {
    for (const late = performance.now() + 60_000; ; ) {
      this.c.send(fromClient(sport, 80, 'S'))
      if ((await heard(this.r, 0)).length > 0) return
      assert.ok(performance.now() < late, `${this.verdicts()} ${this.words}`)
    }
  }

  verdict(number: number): bigint {
    let sum = 0n
    for (let cpu = 0; cpu < SMALL_SIZES.cpus; cpu++)
      sum += this.plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + number]!
    return sum
  }

  /** What has become of all packets, to say when a test fails. */
  verdicts(): string {
    return Object.entries(verdictNames)
      .map(([number, name]) => [name, this.verdict(Number(number))] as const)
      .filter(([, count]) => count > 0n)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ')
  }

  /** What the forwarder said so far. */
  get words(): string {
    return this.log.join('; ')
  }
}
