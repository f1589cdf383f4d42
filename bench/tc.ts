/** The program in traffic control beside XDP and nftables: small packets, and bulk TCP on devices that XDP cannot see. */
import { cpus } from 'node:os'
import { goAhead, stayOnCpu } from './bpf.ts'
import { BULK_PORT, bulk, congestionControls, useCongestionControl } from './bulk.ts'
import { Daemon } from './daemon.ts'
import { addDnat } from './dnat.ts'
import { dnat } from './e2e.ts'
import { nativeProgram } from './native.ts'
import { Namespaces } from './network.ts'
import { goals, ratios } from './ratios.ts'
import { type Goal, part, type Reporter, type Section, Skip } from './section.ts'
import { fromClients } from './traffic.ts'
import { makeTriangle, Processes, type Stack, TRIANGLE, type Triangle, within } from './triangle.ts'
import { type Contender, pointsman, Scene, SERVICES } from './wire.ts'

const BULK_LIKE_DNAT: Goal = { of: 'ratio', bound: 'least', limit: 0.9 }
const BETTER_THAN_DNAT: Goal = { of: 'ratio', bound: 'least', limit: 1.5 }
const OF_XDP: Goal = { of: 'ratio', bound: 'least', limit: 0.35 }

// ---- small packets

const ROUNDS = 9
const ROUNDS_QUICK = 5
/** Packets of one round of one contender. */
const PACKETS = 65_536
const FLOWS = [1, 65_536] as const
const LINES = 1_048_576

/** The least that sends a frame back from traffic control: what is missing to it is the path, not the program. */
async function swapping(scene: Scene): Promise<Contender> {
  const wire = await scene.wire('swap', 'stack', { sink: 'xdp' })
  scene.attachTc(wire, scene.wrapper.references.swapTc)
  const traffic = fromClients(SERVICES.NAT, { protocol: 'udp' })
  return { name: 'MAC swap, traffic control', ...wire, traffic }
}

async function smallPackets(report: Reporter, rounds: number): Promise<void> {
  stayOnCpu(cpus().length - 1)
  const scene = new Scene()
  try {
    const methods = ['NAT'] as const
    const inXdp = await pointsman(scene, { methods, lines: LINES })
    // Frames end alike: it is the directors that are compared.
    const inTc = await pointsman(scene, { methods, lines: LINES, hook: 'tc', sink: 'xdp' })
    const [xdp, tc, kernel] = [inXdp.contenders[0]!, inTc.contenders[0]!, await dnat(scene, 'xdp')]
    const ceiling = await swapping(scene)
    const contenders = [kernel, tc, ceiling, xdp]
    for (const flows of FLOWS) {
      const title = `64-byte UDP through NAT, ${flows.toLocaleString('en')} flows`
      report.title(title)
      await part(report, title, () => {
        for (const { rules } of [inXdp, inTc]) rules.forgetConnections()
        // Connections that the rounds meet; connection tracking has as many.
        for (const one of contenders) scene.send(one, { flows, random: false }, Math.max(flows, 1024))
        const results = new Map<Contender, number[]>(contenders.map((one) => [one, []]))
        for (let round = 0; round < rounds; round++) {
          for (const one of contenders)
            results.get(one)!.push(scene.send(one, { flows, random: true }, PACKETS))
        }
        ratios(report, results, kernel, contenders, 'packets/s', goals([tc, BETTER_THAN_DNAT]))
        ratios(report, results, xdp, [ceiling, tc], 'packets/s', goals([tc, OF_XDP]))
      })
    }
  } finally {
    await scene.close()
  }
}

// ---- bulk TCP

const BULK_ROUNDS = 7
const BULK_ROUNDS_QUICK = 3
const STACKS: Readonly<Record<Exclude<Stack, 'wire'>, string>> = {
  macvlan: 'a macvlan',
  vlan: 'a VLAN device',
}

interface Director {
  readonly name: string
  readonly triangle: Triangle
}

/** Clients come by a device stacked on the wire; segments are merged below it. */
class BulkStage {
  readonly #namespaces = new Namespaces()
  readonly #processes = new Processes()
  readonly #daemons: Daemon[] = []

  async triangle(stack: Stack, label: string, program: string): Promise<Triangle> {
    const triangle = await makeTriangle(this.#namespaces, `${label}-${stack}`, stack).catch(
      (cause: unknown) => {
        if (!/Unknown device type/.test(String(cause))) throw cause
        throw new Skip(`this kernel has no such device: modprobe ${stack === 'vlan' ? '8021q' : stack}`)
      },
    )
    await this.#processes.start(within(triangle.server, [program, 'server', String(BULK_PORT)]))
    return triangle
  }

  async daemon({ director }: Triangle, dataplane: 'xdp' | 'tc'): Promise<void> {
    const daemon = new Daemon({
      ...{ namespace: director, interfaces: ['c0', 'r0'], dataplane },
      options: ['--connections', '65536', '--connections6', '1024'],
    })
    this.#daemons.push(daemon)
    await daemon.start()
    const { vip, server } = TRIANGLE
    await daemon.restore([
      `-A -t ${vip}:${BULK_PORT} -s rr`,
      `-a -t ${vip}:${BULK_PORT} -r ${server.address}:${BULK_PORT} -m -w 1`,
    ])
  }

  async end(): Promise<void> {
    for (const daemon of this.#daemons.splice(0)) await daemon.stop()
    await this.#processes.stop()
    await this.#namespaces.remove()
  }
}

async function bulkTcp(report: Reporter, stack: keyof typeof STACKS, rounds: number): Promise<void> {
  const stage = new BulkStage()
  try {
    const program = await nativeProgram('bulk')
    const { vip, server } = TRIANGLE
    const kernel: Director = { name: 'nftables DNAT', triangle: await stage.triangle(stack, 'dnat', program) }
    const to = { address: server.address, port: BULK_PORT }
    await addDnat(kernel.triangle.director, [{ protocol: 'tcp', at: { address: vip, port: BULK_PORT }, to }])
    const tc: Director = {
      name: 'pointsman, all in traffic control',
      triangle: await stage.triangle(stack, 'tc', program),
    }
    await stage.daemon(tc.triangle, 'tc')
    // Answers come in by a wire that XDP takes, and leave by the device that it cannot send to.
    const auto: Director = {
      name: 'pointsman, XDP where it is whole',
      triangle: await stage.triangle(stack, 'auto', program),
    }
    await stage.daemon(auto.triangle, 'xdp')
    const directors = [kernel, tc, auto]
    for (const control of congestionControls()) {
      for (const { triangle } of directors) useCongestionControl(triangle, control)
      for (const { triangle } of directors) await bulk(triangle, program)
      const results = new Map<Director, number[]>(directors.map((one) => [one, []]))
      for (let round = 0; round < rounds; round++) {
        for (const one of directors) results.get(one)!.push(await bulk(one.triangle, program))
      }
      report.title(
        `bulk TCP, one connection through NAT, clients behind ${STACKS[stack]}, congestion control ${control}`,
      )
      ratios(
        report,
        results,
        kernel,
        directors,
        'Mbit/s',
        goals([tc, BULK_LIKE_DNAT], [auto, BULK_LIKE_DNAT]),
      )
    }
  } finally {
    await stage.end()
  }
}

export const tc: Section = {
  name: 'tc',
  about:
    'the program in traffic control beside XDP and nftables: small packets, and bulk TCP on a macvlan and a VLAN device',
  secondsMax: 180,
  async run(report, { quick }) {
    if (process.getuid?.() !== 0) throw new Skip('traffic control and namespaces take root')
    goAhead()
    for (const stack of ['macvlan', 'vlan'] as const) {
      await part(report, `bulk TCP, ${STACKS[stack]}`, () =>
        bulkTcp(report, stack, quick ? BULK_ROUNDS_QUICK : BULK_ROUNDS),
      )
    }
    // Last: whatever is started from now on would stay on one CPU, too.
    await part(report, 'small packets', () => smallPackets(report, quick ? ROUNDS_QUICK : ROUNDS))
  },
}
