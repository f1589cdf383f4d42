/** Plays recorded sessions on anything that runs commands. */
import { setTimeout as wait } from 'node:timers/promises'
import {
  differences,
  isCommand,
  type Output,
  type Recording,
  type Scenario,
  type Traffic,
} from './scenario.ts'

export interface Result {
  readonly name: string
  readonly area: string
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** Why: differences, or the reason for skipping. */
  readonly lines: readonly string[]
}

export interface Player {
  /** Programs it can run; scenarios with others are skipped. */
  readonly programs: readonly string[]
  /** Back to a clean table: no rules, default timeouts, no daemons. */
  reset(): Promise<void>
  run(argv: readonly string[], stdin: string): Promise<Output>
  /** Without it, scenarios that need packets are skipped. */
  send?(traffic: Traffic): void
}

export interface Selection {
  readonly areas: readonly string[]
  readonly name?: RegExp
}

export function select(recording: Recording, { areas, name }: Selection): Recording {
  return {
    ...recording,
    scenarios: recording.scenarios.filter(
      (scenario) =>
        (areas.length === 0 || areas.includes(scenario.area)) &&
        (name === undefined || name.test(scenario.name)),
    ),
  }
}

/** Areas whose scenarios are about packets, even where no step sends one. */
const PACKET_AREAS = ['traffic', 'scheduling']

export function needsPackets({ area, steps }: Scenario): boolean {
  return PACKET_AREAS.includes(area) || steps.some((step) => 'traffic' in step)
}

function reasonToSkip(scenario: Scenario, player: Player): string | null {
  if (needsPackets(scenario) && player.send === undefined) return 'needs packets from clients'
  for (const step of scenario.steps) {
    if (isCommand(step) && !player.programs.includes(step.argv[0]!)) return `runs ${step.argv[0]}`
  }
  return null
}

function quote(word: string): string {
  return /^[\w@%+=:,./[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

export async function playScenario(scenario: Scenario, player: Player): Promise<Result> {
  const { name, area } = scenario
  const reason = reasonToSkip(scenario, player)
  if (reason !== null) return { name, area, outcome: 'skipped', lines: [reason] }
  await player.reset()
  for (const step of scenario.steps) {
    if ('sleep' in step) await wait(step.sleep * 1000)
    if ('traffic' in step) player.send?.(step.traffic)
    if (!isCommand(step)) continue
    const found = differences(step, await player.run(step.argv, step.stdin ?? ''))
    // What follows a step that went wrong says nothing new.
    if (found.length > 0) {
      return { name, area, outcome: 'failed', lines: [`$ ${step.argv.map(quote).join(' ')}`, ...found] }
    }
  }
  return { name, area, outcome: 'passed', lines: [] }
}

export async function playAll(
  recording: Recording,
  player: Player,
  report: (result: Result) => void,
): Promise<Result[]> {
  const results: Result[] = []
  for (const scenario of recording.scenarios) {
    const result = await playScenario(scenario, player)
    report(result)
    results.push(result)
  }
  return results
}
