/** The kernel's own IPVS on wires of their own, where this kernel has it: the same rules, the same frames. */
import { existsSync } from 'node:fs'
import { must, run } from '../lab/command.ts'
import { Skip } from './section.ts'
import { fromClients } from './traffic.ts'
import { within } from './triangle.ts'
import { type Contender, REAL, type Scene, SERVICES, WIRE_METHODS, type WireMethod } from './wire.ts'

/** Debian's, whatever a command of the same name in PATH may be. */
const IPVSADM = '/usr/sbin/ipvsadm'
const FLAG: Readonly<Record<WireMethod, string>> = { DR: '-g', TUN: '-i', NAT: '-m' }

async function needIpvs(): Promise<void> {
  // What it needs comes with the first rule; without the table none will do.
  await run(['modprobe', '--quiet', 'ip_vs']).catch(() => undefined)
  if (!existsSync('/proc/net/ip_vs')) {
    throw new Skip('this kernel has no IPVS: npm run bench -- guest measures in an emulated machine that has')
  }
  if (!existsSync(IPVSADM)) throw new Skip('ipvsadm is not installed: apt-get install ipvsadm')
}

/** One wire for each method, with one real server by `rr`. */
export async function ipvs(scene: Scene): Promise<Contender[]> {
  await needIpvs()
  const contenders: Contender[] = []
  for (const method of WIRE_METHODS) {
    const wire = await scene.wire(`ipvs-${method.toLowerCase()}`, 'stack')
    const { address, port } = SERVICES[method]
    const command = (argv: readonly string[]) => must(within(wire.director, argv))
    await command(['ip', 'addr', 'add', `${address}/32`, 'dev', 'lo'])
    const at = `${address}:${port}`
    // Only NAT maps ports.
    const real = `${REAL.address}:${method === 'NAT' ? REAL.port : port}`
    await command([IPVSADM, '-A', '-u', at, '-s', 'rr'])
    await command([IPVSADM, '-a', '-u', at, '-r', real, FLAG[method], '-w', '1'])
    contenders.push({
      name: `kernel IPVS ${method}`,
      ...wire,
      traffic: fromClients(SERVICES[method], { protocol: 'udp' }),
    })
  }
  return contenders
}
