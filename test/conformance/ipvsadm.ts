/**
 * `npm run conformance -- ipvsadm FILE… [options]`: plays recorded ipvsadm sessions and compares exit
 * status, stdout and stderr byte for byte.
 *
 * By default in a network and mount namespace of its own, with the recording's interfaces and names,
 * through `bin/ipvsadm` and a daemon that it starts there; with `--in-process` without daemon and root. Where
 * clients send packets, the program in the kernel is given them, or with `--in-process` that in wasm.
 * The last line reads `N passed, N failed, N skipped`; the exit status is 1 if one failed.
 */
import { parseArgs } from 'node:util'
import { playInProcess } from '../control/front/ipvsadm/in-process.ts'
import { playOnStage } from '../control/front/ipvsadm/on-stage.ts'
import { openKernelPlayer, openWasmPlayer, playWithPackets } from '../control/front/ipvsadm/packet-player.ts'
import { needsPackets, type Result, select } from '../control/front/ipvsadm/play.ts'
import { loadRecording } from '../control/front/ipvsadm/scenario.ts'

const USAGE = `usage: npm run conformance -- ipvsadm FILE… [--area NAME] [--name PATTERN] [--in-process] [--json]

  --area NAME      only this area; may be given more than once
  --name PATTERN   only scenarios whose name matches this regular expression
  --in-process     without daemon, namespaces and root: the grammar and the rules alone
  --json           one JSON document with every result and a table of areas`

interface Tally {
  passed: number
  failed: number
  skipped: number
}

function tally(results: readonly Result[]): Tally {
  const counts: Tally = { passed: 0, failed: 0, skipped: 0 }
  for (const result of results) counts[result.outcome]++
  return counts
}

function tallyByArea(results: readonly Result[]): Record<string, Tally> {
  const areas = [...new Set(results.map((result) => result.area))].sort()
  return Object.fromEntries(
    areas.map((area) => [area, tally(results.filter((result) => result.area === area))]),
  )
}

function print(result: Result): void {
  if (result.outcome === 'passed') return
  console.log(`${result.outcome}: ${result.name}`)
  for (const line of result.lines) console.log(`    ${line}`)
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      area: { type: 'string', multiple: true },
      name: { type: 'string' },
      'in-process': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  })
}

/** @returns the exit status: 0 all passed or skipped, 1 one failed, 2 wrong use */
export async function main(args: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(args)
    if (parsed.positionals.length === 0) throw new Error('No file of recorded sessions is named')
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${USAGE}`)
    return 2
  }
  const { values, positionals } = parsed
  const results: Result[] = []
  for (const path of positionals) {
    const recording = select(loadRecording(path), {
      areas: values.area ?? [],
      ...(values.name === undefined ? {} : { name: new RegExp(values.name) }),
    })
    const report = values.json ? () => {} : print
    const play = values['in-process'] ? playInProcess : playOnStage
    const open = values['in-process'] ? openWasmPlayer : openKernelPlayer
    const { scenarios } = recording
    const quiet = scenarios.filter((scenario) => !needsPackets(scenario))
    const packets = scenarios.filter(needsPackets)
    if (quiet.length > 0) results.push(...(await play({ ...recording, scenarios: quiet }, report)))
    if (packets.length > 0)
      results.push(...(await playWithPackets({ ...recording, scenarios: packets }, open, report)))
  }
  const total = tally(results)
  if (values.json) console.log(JSON.stringify({ ...total, areas: tallyByArea(results), results }, null, 2))
  else console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed > 0 ? 1 : 0
}
