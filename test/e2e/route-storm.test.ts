/** A director in the middle of somebody's routing table: routes flap by the thousand, requests go on. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { must } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { missingFor } from './scene.ts'
import { Wires } from './wires.ts'

const SERVERS = 20_000
const ROUTES = 5000
/**
 * Processor time of the daemon's own thread from a request to its answer, of every other one: what it does before it
 * comes to a request, whatever else the machine does, and however often another machine takes the processor away, which
 * counts as ours. It is 8 ms, and was 169 ms when requests had to wait for routes.
 */
const LIMIT_MS = 60
const REQUESTS = 40
const STORM_MS = 3000

const serverAddress = (i: number): string => `10.${100 + (i >> 14)}.${(i >> 8) & 63}.${i & 255}`

describe('a storm of routes', { skip: missingFor('xdp') }, () => {
  const wires = new Wires()

  before(async () => {
    await wires.make()
    await wires.start('--dataplane', 'xdp', '--interface', 'c0', '--interface', 's0')
    await wires.ip(wires.director, 'route add 10.96.0.0/11 via 10.0.2.11')
    const lines = [
      '-A -t 192.0.2.102:80 -s rr',
      ...Array.from({ length: SERVERS }, (_, i) => `-a -t 192.0.2.102:80 -r ${serverAddress(i)}:80 -i`),
    ]
    await must(inNamespace(wires.director, [executable('ipvsadm'), '-R']), {
      input: `${lines.join('\n')}\n`,
      env: wires.environment(),
    })
  })
  after(() => wires.remove())

  /** What each of some requests took of the daemon's thread, the longest last. */
  const requests = async (ms: number): Promise<number[]> => {
    const took: number[] = []
    const end = performance.now() + ms
    while (performance.now() < end || took.length < REQUESTS) {
      const before = wires.busyMs()
      await wires.call('GET', '/v1/timeouts')
      took.push(wires.busyMs() - before)
    }
    return took.sort((a, b) => a - b)
  }
  const at = (sorted: readonly number[], share: number): number =>
    sorted[Math.floor(sorted.length * share)] ?? 0

  for (const [name, prefix] of [
    ['elsewhere', (i: number) => `198.18.${i >> 8}.${i & 255}/32`],
    ['to the real servers', (i: number) => `10.${100 + (i >> 14)}.${(i >> 8) & 63}.${i & 255}/32`],
  ] as const) {
    test(`requests do not wait while routes ${name} flap`, async (t) => {
      const quiet = await requests(500)
      const batch = (verb: string): string =>
        Array.from({ length: ROUTES }, (_, i) => `route ${verb} ${prefix(i)} via 10.0.2.11`).join('\n')
      const flap = `while :; do printf '%s\\n' "$A" | ip -batch -; sleep 0.1; printf '%s\\n' "$D" | ip -batch -; sleep 0.1; done`
      const storm = spawn('nsenter', [`--net=/run/netns/${wires.director}`, 'sh', '-c', flap], {
        env: { ...process.env, A: batch('add').slice(0, 120_000), D: batch('del').slice(0, 120_000) },
        stdio: 'ignore',
        detached: true,
      })
      try {
        const loud = await requests(STORM_MS)
        t.diagnostic(
          `quiet: median ${at(quiet, 0.5).toFixed(1)} ms, 99 % ${at(quiet, 0.99).toFixed(1)} ms; storm: median ${at(loud, 0.5).toFixed(1)} ms, 99 % ${at(loud, 0.99).toFixed(1)} ms of ${loud.length}`,
        )
        assert.ok(at(loud, 0.5) < LIMIT_MS, `${at(loud, 0.5)} ms`)
      } finally {
        process.kill(-storm.pid!, 'SIGKILL')
      }
    })
  }

  test('memory does not grow with the routes', () => {
    const memory = wires.memoryMiB()
    assert.ok(memory < 400, `${memory} MiB`)
  })
})
