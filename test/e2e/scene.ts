/** The lab as the tests use it: made before, removed after, also when the test fails. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { typescript } from '../../lab/client.ts'
import { sleep, until } from '../../lab/command.ts'
import { type DirectorOptions, executable } from '../../lab/director.ts'
import { createLab, type Lab } from '../../lab/lab.ts'
import { hex } from '../packets/bytes.ts'

/** Beside a lab that someone keeps (`pm-`), and beside another test run's. */
const PREFIX = `pmt${process.pid}-`

/** Data planes the end-to-end cases run on. */
export const PLANES = ['xdp', 'userspace'] as const
/** The same with traffic control, for what is another there than with XDP, whose maps and pins it has. */
export const ALL_PLANES = ['xdp', 'tc', 'userspace'] as const
export type Plane = (typeof ALL_PLANES)[number]

/** Why namespaces cannot be used here, for `skip`; false when they can. */
export function missingForLab(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: network namespaces and BPF'
  if (!existsSync('/run/netns') && !existsSync('/proc/self/ns/net')) return 'needs network namespaces'
  return false
}

/** Why an end-to-end case cannot run on this plane; false when it can. */
export function missingFor(plane: Plane): string | false {
  const missing = missingForLab()
  if (missing !== false) return missing
  if (!existsSync(executable('ipvsadm'))) return 'bin/ipvsadm is not built: npm run build'
  if (plane === 'userspace' && !userspacePlaneIsBuilt()) return 'this version has no userspace plane'
  return false
}

function userspacePlaneIsBuilt(): boolean {
  return existsSync(fileURLToPath(new URL('../../dist/packet-worker.js', import.meta.url)))
}

/** A lab without a running director. */
export async function withLab(body: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await createLab({ prefix: PREFIX })
  try {
    await body(lab)
  } finally {
    await lab.destroy()
  }
}

/** A lab whose director forwards on the given plane. A failure carries the daemon's last words. */
export async function withDirector(
  plane: Plane,
  body: (lab: Lab) => Promise<void>,
  options: DirectorOptions = {},
): Promise<void> {
  await withLab(async (lab) => {
    await lab.director.start({ dataplane: plane, ...options })
    try {
      await body(lab)
    } catch (error) {
      if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
      throw error
    }
  })
}

const FRAMES = fileURLToPath(new URL('../../lab/frames.ts', import.meta.url))

/** Sends raw Ethernet frames out of an interface of a host. Returns how many the kernel took. */
export async function sendFrames(
  lab: Lab,
  host: string,
  device: string,
  frames: readonly Uint8Array[],
): Promise<number> {
  const lines = frames.map((frame) => `${hex(frame)}\n`).join('')
  const result = await lab.exec(host, typescript(FRAMES, [device]), lines)
  assert.equal(result.status, 0, result.stderr)
  return Number(/^(\d+) sent/.exec(result.stdout)?.[1])
}

/** Packets a host sent from an address and port on the wires between two readings. */
export async function packetsSent(
  lab: Lab,
  match: {
    readonly host?: string
    readonly wire?: 'clients' | 'servers'
    readonly source: string
    readonly port: number
  },
): Promise<number> {
  return (await lab.sent())
    .filter(
      (count) =>
        count.source === match.source &&
        count.port === match.port &&
        (match.host === undefined || count.host === match.host) &&
        (match.wire === undefined || count.wire === match.wire),
    )
    .reduce((sum, count) => sum + count.packets, 0)
}

/** Without the counters of connections that stand beside verdicts of frames (docs/verdicts.md). */
export function ofFrames(verdicts: Readonly<Record<string, bigint>>): Record<string, bigint> {
  const names = Object.keys(verdicts).filter((name) => /^(pass|forward|answer|drop)_/.test(name))
  return Object.fromEntries(names.map((name) => [name, verdicts[name]!]))
}

/** Frames delivered to the director and packets in its verdicts, to be compared with a later `Account`. */
export interface Account {
  readonly frames: bigint
  readonly verdicts: Readonly<Record<string, bigint>>
}

/** A worker of the userspace plane that waits for a core counts what has come only then. */
const STILL_MS = 50
const STILL_WITHIN_MS = 60_000

/** Both counts at one moment: waits for one at which nothing moves. */
export async function takeAccount(lab: Lab): Promise<Account> {
  const look = async (): Promise<Account> => ({
    frames: await lab.framesToDirector(),
    verdicts: ofFrames(await lab.director.verdicts()),
  })
  let last = await look()
  return until('a moment without traffic', STILL_WITHIN_MS, async () => {
    await sleep(STILL_MS)
    const before = last
    last = await look()
    return isDeepStrictEqual(before, last) ? last : undefined
  })
}

export function textOf(counts: Readonly<Record<string, bigint>>): string {
  return JSON.stringify(counts, (_, value) => String(value))
}

/** What each verdict got of what the body does, and nothing that was under way before it. */
export async function countedIn(lab: Lab, body: () => Promise<void>): Promise<Record<string, bigint>> {
  const { verdicts: before } = await takeAccount(lab)
  await body()
  const { verdicts } = await takeAccount(lab)
  const counted = Object.entries(verdicts).map(([name, packets]) => [name, packets - (before[name] ?? 0n)])
  return Object.fromEntries(counted.filter(([, packets]) => packets !== 0n))
}

/**
 * Waits until no connection of TCP is open or being closed, and what closed the last has been counted: an answer
 * has come when the real server may not have had its turn to close yet.
 */
export async function connectionsOver(lab: Lab): Promise<void> {
  await until('the connections to be over', STILL_WITHIN_MS, async () => {
    const listed = (await lab.director.rule('-Lnc')).split('\n').filter((line) => line.startsWith('TCP '))
    return listed.every((line) => / (TIME_WAIT|CLOSE) /.test(line)) ? true : undefined
  })
  await takeAccount(lab)
}

/**
 * Waits until every frame that came since `before` is in a verdict: each frame in one, none twice.
 * Returns what each verdict got.
 */
export async function everyFrameHasVerdict(lab: Lab, before: Account): Promise<Record<string, bigint>> {
  let frames = 0n
  let counted: Record<string, bigint> = {}
  await until('all frames to be in a verdict', STILL_WITHIN_MS, async () => {
    const now = await takeAccount(lab)
    frames = now.frames - before.frames
    counted = Object.fromEntries(
      Object.entries(now.verdicts)
        .map(([name, packets]) => [name, packets - (before.verdicts[name] ?? 0n)] as const)
        .filter(([, packets]) => packets > 0n),
    )
    return Object.values(counted).reduce((sum, packets) => sum + packets, 0n) === frames ? true : undefined
  }).catch(() =>
    assert.fail(
      `${frames} frames came, verdicts have ${JSON.stringify(counted, (_, v) => (typeof v === 'bigint' ? Number(v) : v))}`,
    ),
  )
  return counted
}

const UNIT = new URL('../../deploy/pointsmand.service', import.meta.url)

/** `net_admin` and so on, as the unit's bounding set names them. */
export function capabilitiesOfUnit(): string[] {
  const line = /^CapabilityBoundingSet=(.+)$/m.exec(readFileSync(UNIT, 'utf8'))?.[1] ?? ''
  const names = [...line.matchAll(/CAP_(\w+)/g)].map((match) => match[1]!.toLowerCase())
  assert.ok(names.includes('net_admin'), line)
  return names
}
