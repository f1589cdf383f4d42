/** How long it takes to move a running director to maps of another layout, and what waits for it. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEFAULT_CAPACITY, sizesFor } from '../control/daemon/choose-plane.ts'
import { Pins } from '../dataplane/kernel/pins.ts'
import { detachPinned, KernelDataplane } from '../dataplane/kernel/plane.ts'
import { attachXdp } from '../dataplane/kernel/xdp.ts'
import { ConnRecord, ConnStatus, PM_CONN_GENERATION } from '../dataplane/layout/layout.gen.ts'
import { type Layout, recordOf } from '../dataplane/layout/version.ts'
import { typescript } from '../lab/client.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { libc } from '../linux/libc.ts'
import { readLinks } from '../linux/links.ts'
import { compileOlder, knowOlder, loadOlder, mapOf, pinOlder } from '../test/dataplane/kernel/older.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../test/dataplane/private-network.ts'
import { type Goal, part, type Reporter, type RunOptions, type Section, Skip } from './section.ts'
import { median } from './statistics.ts'

const CONNECTIONS = 1_048_576
/** Lines of the table: half of them are in use. */
const LINES = 2 * CONNECTIONS
const WITHIN: Goal = { of: 'value', bound: 'most', limit: 3000 }
const TRAFFIC = fileURLToPath(new URL('./upgrade-traffic.ts', import.meta.url))

export const upgrade: Section = {
  name: 'upgrade',
  about: `${CONNECTIONS.toLocaleString('en')} connections in pinned maps of an older layout`,
  secondsMax: 300,
  run: (report, options) => part(report, 'upgrade', () => measure(report, options)),
}

async function measure(report: Reporter, { quick }: RunOptions): Promise<void> {
  if (skipWithoutPrivileges !== false) throw new Skip(skipWithoutPrivileges)
  enterPrivateNetwork()
  ip('link add up0 type veth peer name up1')
  ip('link set up0 up')
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-upgrade-'))
  const older = join(folder, 'older.bpf.o')
  writeFileSync(older, compileOlder())
  const layout = knowOlder()
  try {
    for (const packetsPerSecond of [0, 500_000]) {
      const rounds: Map<string, number>[] = []
      for (let round = 0; round < (quick ? 1 : 3); round++) {
        rounds.push(await upgradeOnce(older, layout, packetsPerSecond))
      }
      report.title(packetsPerSecond === 0 ? 'no packets' : `${packetsPerSecond} packets/s, each another line`)
      for (const name of rounds[0]!.keys()) {
        const value = median(rounds.map((round) => round.get(name)!))
        const best = Math.min(...rounds.map((round) => round.get(name)!))
        report.row({ name, value, best, unit: 'ms', ...(name === 'in all' ? { goal: WITHIN } : {}) })
      }
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Milliseconds by part. */
async function upgradeOnce(
  object: string,
  layout: Layout,
  packetsPerSecond: number,
): Promise<Map<string, number>> {
  const sizes = sizesFor({ ...DEFAULT_CAPACITY, connections4: LINES }, possibleCpus())
  const stop = await startOlder(object, layout, packetsPerSecond)
  const times = new Map<string, number>()
  const began = performance.now()
  let last = began
  const trace = (step: string): void => {
    const now = performance.now()
    const name = PARTS[step] ?? (step.startsWith('replaced') ? 'exchange the programs' : null)
    if (name === null) return
    times.set(name, (times.get(name) ?? 0) + now - last)
    last = now
  }
  try {
    const plane = await KernelDataplane.open({ sizes, trace })
    times.set('in all', performance.now() - began)
    const { view, entrySize } = plane.map('connections4')
    let carried = 0
    for (let line = 0; line < LINES; line++) {
      if ((ConnRecord.getWord(view, line * entrySize) & ConnStatus.Live) !== 0) carried++
    }
    await plane.close()
    if (carried !== CONNECTIONS) throw new Error(`${carried} of ${CONNECTIONS} connections arrived`)
  } finally {
    stop()
    detachPinned()
  }
  return times
}

/** What ends with a step of the migration. */
const PARTS: { readonly [step: string]: string | undefined } = {
  copied: 'load, pin, copy',
  'caught up': 'catch up',
  'moved into place': 'the last pass, new connections waiting',
  'carried the rest': 'grace period and the rest',
}

async function startOlder(object: string, layout: Layout, packetsPerSecond: number): Promise<() => void> {
  const sizes = sizesFor({ ...DEFAULT_CAPACITY, connections4: LINES }, possibleCpus())
  const loaded = loadOlder(object, sizes)
  pinOlder(defaultPinDirectory(), loaded)
  const links = readLinks()
  const link = links.named('up0')
  if (link === null) throw new Error('No interface up0')
  const { fd } = attachXdp(loaded.programFd, link, 'auto')
  new Pins(defaultPinDirectory()).pinLink(link.ifindex, fd, link.name)
  libc.close(fd)
  const table = mapOf(loaded.mapFds.get('connections4')!, 'connections4', layout)
  const conn = recordOf(layout, 'connections4').fields.find(({ name }) => name === 'c')!.offset
  for (let line = 0; line < LINES; line += LINES / CONNECTIONS) {
    const at = line * table.entrySize + conn
    ConnRecord.setWord(table.view, at, PM_CONN_GENERATION | ConnStatus.Live)
    ConnRecord.setReal(table.view, at, line % 1000)
    ConnRecord.setExpires(table.view, at, line)
  }
  const { entrySize } = table
  table.unmap()
  loaded.close()
  if (packetsPerSecond === 0) return () => {}
  const words = [entrySize, conn + ConnRecord.offsets.expires, LINES, LINES / CONNECTIONS, packetsPerSecond]
  const [program, ...args] = typescript(TRAFFIC, words.map(String))
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.once('exit', (status) => reject(new Error(`The traffic ended with ${status}`)))
  })
  return () => void child.kill('SIGKILL')
}
