/** A long race on every host of the packet program: small, middling and roomy tables in turn. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../dataplane/private-network.ts'
import { layNetwork, type RaceResult, raceKernel, raceWasm } from './race.ts'

const LINES = [16, 128, 2048, 16_384]
const run = promisify(execFile)

interface Total {
  packets: number
  good: boolean
}

/** Of a race for a number of packets; they differ in their seeds. */
const ROUND_SECONDS = 600
let isLaid = false

/** True if counts were what lines say everywhere, and no packet went to another connection's real server. */
export async function raceEverywhere(seconds: number, seed: number): Promise<Readonly<Total>> {
  const totals = [await raceNative(seconds / 3, seed), await raceHost('wasm', raceWasm, seconds / 3, seed)]
  if (skipWithoutPrivileges === false) {
    if (!isLaid) {
      enterPrivateNetwork()
      layNetwork()
      isLaid = true
    }
    totals.push(await raceHost('kernel', raceKernel, seconds / 3, seed))
  } else {
    console.log(`kernel: ${skipWithoutPrivileges}`)
  }
  const packets = totals.reduce((sum, total) => sum + total.packets, 0)
  const good = totals.every((total) => total.good)
  console.log(
    `${packets.toLocaleString('en')} packets in all: ${good ? 'nothing found' : 'SOMETHING WAS FOUND'}`,
  )
  return { packets, good }
}

/** The same, again and again, until so many packets have been sent or something was found. */
export async function raceFor(packets: number, seed: number, roundSeconds = ROUND_SECONDS): Promise<boolean> {
  let sent = 0
  for (let round = 0; sent < packets; round++) {
    const total = await raceEverywhere(roundSeconds, seed + round)
    sent += total.packets
    console.log(`${sent.toLocaleString('en')} of ${packets.toLocaleString('en')} packets`)
    if (!total.good) return false
  }
  return true
}

async function raceNative(seconds: number, seed: number): Promise<Total> {
  const folder = mkdtempSync(join(tmpdir(), 'pm-race-'))
  const program = join(folder, 'race')
  const source = fileURLToPath(new URL('race.c', import.meta.url))
  const total: Total = { packets: 0, good: true }
  try {
    execFileSync('clang', ['-O2', '-g', '-pthread', source, '-o', program])
    for (const lines of LINES) {
      const each = Math.max(1, Math.round(seconds / LINES.length))
      const result = await run(program, [String(each), String(lines), String(seed)]).catch((error) => error)
      if (result instanceof Error) total.good = false
      const said = (result as { stdout: string }).stdout.trim()
      total.packets += Number(/(\d+) packets in all/.exec(said)?.[1] ?? 0)
      console.log(`native: ${said}`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  return total
}

async function raceHost(host: string, race: typeof raceWasm, seconds: number, seed: number): Promise<Total> {
  const total: Total = { packets: 0, good: true }
  for (const lines of LINES) {
    const threads = Math.min(4, availableParallelism())
    const result = await race({ seconds: seconds / LINES.length, lines, seed, threads })
    total.packets += result.packets
    total.good &&= isGood(result)
    console.log(`${host}: ${lines} lines: ${JSON.stringify(result)}`)
  }
  return total
}

function isGood({ wrong, repaired, differences, claimed, held }: RaceResult): boolean {
  return wrong === 0 && repaired === 0 && differences.length === 0 && claimed + held === 0
}
