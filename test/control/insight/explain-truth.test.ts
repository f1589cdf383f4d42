/** What explain says is what then happens to the packet: random packets under random rules, on both planes. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ConnectionTable } from '../../../control/connections/table.ts'
import { Explainer, type HopQuestion } from '../../../control/insight/explain/explain.ts'
import { type LineRead, lineAt } from '../../../control/insight/explain/lines.ts'
import { realAt, realText } from '../../../control/insight/explain/reading.ts'
import { readSnapshot, type Snapshot, takeSnapshot } from '../../../control/insight/explain/snapshot.ts'
import type { Explanation } from '../../../control/insight/explain/told.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import type { Dataplane } from '../../../dataplane/dataplane.ts'
import { XdpAction } from '../../../dataplane/kernel/test-run.ts'
import {
  Action,
  ConnKind,
  PM_VERDICT_MAX,
  Verdict,
  verdictNames,
} from '../../../dataplane/layout/layout.gen.ts'
import { loadModule } from '../../../dataplane/userspace/wasm-file.ts'
import { type NextHop, NextHopResolver } from '../../../linux/netlink/next-hop.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { addressToBytes, readAddress } from '../../../net/address.ts'
import { hex } from '../../../net/packet/bytes.ts'
import { decode } from '../../../net/packet/decode.ts'
import { keyOf, type PacketKey } from '../../../net/packet/key.ts'
import { coarseTicks, ProgramClock, ProgramRun } from '../../differential/program-run.ts'
import { Random } from '../../differential/random.ts'
import { disturbRules, writeRules } from '../../differential/rules.ts'
import { carriesError } from '../../differential/sctp-error.ts'
import { openStage, type Stage } from '../../differential/stage.ts'
import { Traffic } from '../../differential/traffic.ts'
import { BenchRoutes } from '../../packets/bench-routes.ts'
import { unhex } from '../../packets/bytes.ts'
import { SEED } from '../../property.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root, for BPF and network namespaces'
/** 10,000 before a release: POINTSMAN_EXPLAIN_PACKETS. */
const PACKETS = Number(process.env.POINTSMAN_EXPLAIN_PACKETS ?? 1200)
/** Under one set of rules. */
const SEQUENCE = 250

interface Fate {
  readonly verdict: string
  readonly action: Explanation['action']
  /** Of the frame that left. */
  readonly after: string | null
  readonly realServer: string | null
}

/** A plane as packets meet it. */
interface Subject {
  readonly plane: Dataplane
  run(frame: Uint8Array, ifindex: number): Omit<Fate, 'realServer'>
  hop(question: HopQuestion): NextHop
  nowTicks(): number
  /** What the program took for the time of the last packet, where that is known. */
  askedTicks?(): number
}

async function snapshotOf(plane: Dataplane, ticks: number): Promise<Snapshot> {
  const pieces: Uint8Array[] = []
  const facts = { version: 'test', wallMs: 0, interfaces: [], hops: [] }
  for await (const piece of takeSnapshot(plane, facts)) pieces.push(piece)
  return { ...readSnapshot(Buffer.concat(pieces)), ticks }
}

/** Until nothing is asked any more. */
function explained(explainer: Explainer, subject: Subject, frame: Uint8Array, ifindex: number): Explanation {
  for (let round = 0; round < 5; round++) {
    const answer = explainer.explain({ frame, ifindex })
    if (!('asks' in answer)) return answer
    for (const question of answer.asks) explainer.learn(question, subject.hop(question))
    explainer.restore()
  }
  throw new Error('explain asks for ever')
}

/** By looking at all lines: where a key has its place is for the one who explains to know. */
function findByWalking(plane: Dataplane, key: PacketKey, now: number): LineRead | null {
  const table = new ConnectionTable(plane, key.family)
  const source = readAddress(key.source, 0, key.family)
  const destination = readAddress(key.destination, 0, key.family)
  for (let line = 0; line < table.levels.inUse; line++) {
    if (!table.isLive(line) || table.protocol(line) !== key.protocol) continue
    if (table.kind(line) === ConnKind.Template) continue
    const ports = table.ports(line)
    if (ports.source !== key.sourcePort || ports.destination !== key.destinationPort) continue
    const addresses = table.addresses(line)
    if (addresses.source === source && addresses.destination === destination) return lineAt(table, line, now)
  }
  return null
}

function realServerOf(plane: Dataplane, frame: Uint8Array, now: number): string | null {
  const key = keyOf(frame)
  if (key === null) return null
  const line = findByWalking(plane, key, now)
  const real = line === null ? null : realAt(plane, line.real)
  return line === null || real === null ? null : realText(real, line.virtual.port)
}

/** null when it is the same; or when a wrong checksum of SCTP was carried by one that did not see all of the packet. */
function differs(frame: Uint8Array, said: Explanation, is: Fate): string | null {
  const fate = fateOf(said)
  const [one, other] = [JSON.stringify(fate), JSON.stringify(is)]
  if (one === other) return null
  const isCarried =
    JSON.stringify({ ...fate, after: is.after }) === other &&
    carriesError(frame, unhex(is.after ?? ''), unhex(fate.after ?? ''))
  return isCarried ? null : `said ${one}\nis   ${other}`
}

const fateOf = ({ verdict, action, frame: { after }, realServer }: Explanation): Fate => ({
  ...{ verdict, action, after, realServer },
})

describe('explain', { skip }, () => {
  let stage: Stage
  before(async () => {
    stage = await openStage(`pmex${process.pid % 100_000}`)
  })
  after(async () => await stage?.close())

  async function hunt(subject: Subject, seed: number): Promise<Map<string, number>> {
    const module = loadModule(builtFile('pointsman.wasm'))
    const { twin } = stage
    const seeds = new Random(seed)
    const met = new Map<string, number>()
    let explainer: Explainer | null = null
    for (let done = 0; done < PACKETS; done += SEQUENCE) {
      const random = new Random(seeds.word())
      twin.reset(random.word())
      const targets = writeRules(twin.wasm, random)
      twin.copyToKernel()
      twin.stopTimeouts()
      const traffic = new Traffic(random, targets)
      for (let i = 0; i < SEQUENCE; i++) {
        if (random.once(80)) disturbRules(subject.plane, random)
        traffic.next()
        const frame = traffic.frame.slice(0, traffic.length)
        const ifindex = traffic.wire === 'c' ? twin.indices.c0 : twin.indices.r0
        const ticks = subject.nowTicks()
        const snapshot = await snapshotOf(subject.plane, ticks)
        explainer ??= new Explainer({ snapshot, module, words: new Map() })
        explainer.load(snapshot)
        const said = explained(explainer, subject, frame, ifindex)
        const before = subject.nowTicks()
        const was = subject.run(frame, ifindex)
        const after = subject.nowTicks()
        const asked = subject.askedTicks?.()
        const realServer = (explanation: Explanation): string | null =>
          explanation.realServer === null ? null : realServerOf(subject.plane, frame, after)
        const wrong = [differs(frame, said, { ...was, realServer: realServer(said) })]
        // Time has gone by since the question: it is as it would have been said at the time of the packet.
        const times = new Set(asked === undefined ? [before, after] : [asked, before, after])
        for (const now of times) {
          if (wrong.at(-1) === null) break
          explainer.load({ ...snapshot, ticks: now })
          const again = explained(explainer, subject, frame, ifindex)
          wrong.push(differs(frame, again, { ...was, realServer: realServer(again) }))
        }
        assert.equal(wrong.at(-1), null, `seed ${seed}\n${decode(frame).join('\n')}\n${wrong.join('\n')}`)
        met.set(said.verdict, (met.get(said.verdict) ?? 0) + 1)
      }
    }
    return met
  }

  test('says what XDP then does, with the next hops that the kernel knows', async () => {
    const { twin } = stage
    const { kernel } = twin
    const run = new ProgramRun(kernel.programFd)
    const socket = new RequestSocket()
    const resolver = new NextHopResolver(socket, () => 0)
    const clock = new ProgramClock(kernel.programFd)
    const counts = (): bigint[] => {
      const { u64 } = kernel.map('verdicts')
      return Array.from({ length: Verdict.EvictedEnded }, (_, verdict) => {
        let sum = 0n
        for (let cpu = 0; cpu < kernel.sizes.cpus; cpu++) sum += u64[cpu * PM_VERDICT_MAX + verdict]!
        return sum
      })
    }
    const subject: Subject = {
      plane: kernel,
      nowTicks: coarseTicks,
      askedTicks: () => clock.ticks(),
      run(frame, ifindex) {
        const before = counts()
        const action = run.run(frame, frame.length, ifindex)
        const verdict = counts().findIndex((count, i) => count !== before[i])
        const sent = action === XdpAction.Tx || action === XdpAction.Redirect
        return {
          verdict: verdictNames[verdict] ?? 'none was counted',
          action: sent ? 'send' : action === XdpAction.Pass ? 'pass' : 'drop',
          after: sent ? hex(run.output.subarray(0, run.length)) : null,
        }
      },
      hop({ destination, source, ifindex, tos, family }) {
        const bytes = (address: typeof destination): Uint8Array => {
          const all = new Uint8Array(16)
          all.set(addressToBytes(address))
          return all
        }
        return resolver.resolve({ family, ifindex, tos, saddr: bytes(source), daddr: bytes(destination) })
      },
    }
    const met = await hunt(subject, SEED)
    socket.close()
    const forwarded = [...met].reduce(
      (sum, [verdict, count]) => sum + (verdict.startsWith('forward_') ? count : 0),
      0,
    )
    assert.ok(forwarded > PACKETS / 50, `${forwarded} were forwarded`)
    assert.ok(met.size > 15, [...met.keys()].join(' '))
  })

  test('says what the userspace plane then does', async () => {
    const { twin } = stage
    const routes = new BenchRoutes(twin.indices)
    const subject: Subject = {
      plane: twin.wasm,
      nowTicks: () => twin.wasm.nowTicks(),
      run(frame, ifindex) {
        const [out] = twin.wasm.run([{ frame, ifindex, linear: Math.min(frame.length, 128) }])
        assert.ok(out)
        const sent = out.action === Action.Send
        return {
          verdict: verdictNames[out.verdict] ?? String(out.verdict),
          action: sent ? 'send' : out.action === Action.Drop ? 'drop' : 'pass',
          after: sent ? hex(out.frame) : null,
        }
      },
      hop: ({ destination, family }) => {
        const daddr = new Uint8Array(16)
        daddr.set(addressToBytes(destination))
        return routes.lookup({ family, daddr } as Parameters<typeof routes.lookup>[0])
      },
    }
    const met = await hunt(subject, SEED + 1)
    assert.ok(met.size > 15, [...met.keys()].join(' '))
  })
})
