/** Requests to the daemon while somebody else's routes flap by the hundred thousand. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { call } from '../control/front/api/client.ts'
import { run, sleep } from '../lab/command.ts'
import type { Daemon } from './daemon.ts'
import { DIRECTOR } from './network.ts'
import { type Goal, part, type Section } from './section.ts'
import { median, quantile } from './statistics.ts'
import { withDaemon } from './with-daemon.ts'

const SERVERS = 20_000
const ROUTES = 100_000
const ROUNDS = 5
const STRETCH_MS = 4000
/** Between two requests: a health checker, not a load. */
const PAUSE_MS = 5
const SHARE = 0.99
const MORE: Goal = { of: 'value', bound: 'most', limit: 10 }

/** 10.64.0.0/12, behind one gateway. */
const serverAt = (i: number): string => `10.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`
const elsewhereAt = (i: number): string => `198.${18 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`

const STORMS = {
  'to elsewhere': elsewhereAt,
  'a fifth of them to the real servers': (i: number) => (i % 5 === 0 ? serverAt(i / 5) : elsewhereAt(i)),
} as const

/** Routes that come and go until it is ended. */
class Storm {
  readonly #folder = mkdtempSync(join(tmpdir(), 'pmstorm-'))
  readonly #child: ChildProcess
  /** Times that all of them came or went. */
  turns = 0

  constructor(prefixes: readonly string[], gateway: string) {
    for (const verb of ['add', 'del']) {
      const lines = prefixes.map((prefix) => `route ${verb} ${prefix}/32 via ${gateway}\n`)
      writeFileSync(join(this.#folder, verb), lines.join(''))
    }
    const flap = 'while :; do for verb in add del; do ip -force -batch $verb 2>&-; echo; done; done'
    const stdio = ['ignore', 'pipe', 'ignore'] as const
    this.#child = spawn('sh', ['-c', flap], { cwd: this.#folder, stdio: [...stdio], detached: true })
    this.#child.stdout?.on('data', () => this.turns++)
  }

  async end(): Promise<void> {
    const gone = once(this.#child, 'close')
    process.kill(-this.#child.pid!, 'SIGKILL')
    await gone
    await run(['ip', '-force', '-batch', join(this.#folder, 'del')])
    rmSync(this.#folder, { recursive: true })
  }
}

/** Milliseconds of requests, one after the other. */
async function requests(daemon: Daemon): Promise<number[]> {
  const took: number[] = []
  const end = performance.now() + STRETCH_MS
  while (performance.now() < end) {
    const began = performance.now()
    await call(daemon.socket, 'GET', '/v1/timeouts')
    took.push(performance.now() - began)
    await sleep(PAUSE_MS)
  }
  return took
}

export const storm: Section = {
  name: 'storm',
  about: 'requests with 20,000 tunnel servers while 100,000 routes flap',
  secondsMax: 300,
  run: (report) =>
    withDaemon('storm', [], async (running) => {
      await running.restore([
        '-A -t 192.0.2.102:80 -s rr',
        ...Array.from({ length: SERVERS }, (_, i) => `-a -t 192.0.2.102:80 -r ${serverAt(i)}:80 -i`),
      ])
      await requests(running)
      for (const [which, prefix] of Object.entries(STORMS)) {
        await part(report, `routes ${which}`, async () => {
          const prefixes = Array.from({ length: ROUTES }, (_, i) => prefix(i))
          const [quiet, loud]: [number[], number[]] = [[], []]
          let turns = 0
          for (let round = 0; round < ROUNDS; round++) {
            quiet.push(quantile(await requests(running), SHARE))
            const blowing = new Storm(prefixes, DIRECTOR.real[4])
            try {
              loud.push(quantile(await requests(running), SHARE))
              turns += blowing.turns
            } finally {
              await blowing.end()
            }
            await sleep(1000)
          }
          report.row({
            name: `99 of 100 requests while 100,000 routes flap, ${which}`,
            unit: 'ms',
            value: median(loud),
            best: Math.min(...loud),
            reference: { name: 'without', value: median(quiet) },
            note: `all of them came or went ${turns} times in ${(ROUNDS * STRETCH_MS) / 1000} s`,
          })
          report.row({
            name: 'more than without',
            unit: 'ms',
            value: median(loud) - median(quiet),
            best: Math.min(...loud) - Math.min(...quiet),
            goal: MORE,
          })
        })
      }
    }),
}
