/** Plays one recorded vector against a host and judges it. */

import { unhex } from './bytes.ts'
import { compareFrames, compareRun, Generated } from './compare.ts'
import { decode } from './decode.ts'
import { Fragments } from './reassembly.ts'
import type { VectorHost } from './vector-host.ts'
import { isInject, isRun, type Step, type Vector } from './vectors.ts'

export type Outcome = 'passed' | 'failed' | 'skipped'

export interface Result {
  readonly name: string
  readonly area: string
  readonly outcome: Outcome
  /** The difference, decoded, or the reason for the skip. */
  readonly lines: readonly string[]
}

export async function play(vector: Vector, host: VectorHost): Promise<Result> {
  const result = (outcome: Outcome, lines: readonly string[]): Result => ({
    name: vector.name,
    area: vector.area,
    outcome,
    lines,
  })
  const refusal = host.refuses(vector)
  if (refusal !== null) return result('skipped', [refusal])
  try {
    await host.reset()
    for (const step of vector.setup) await host.setup(step)
    await host.settle()
    const generated = new Generated()
    const fragments = new Fragments()
    for (const [index, step] of vector.steps.entries()) {
      const problem = await playStep(vector, step, index, host, generated, fragments)
      if (problem !== null)
        return result(problem.outcome, [`step ${index}: ${describe(step)}`, ...problem.lines])
    }
    return result('passed', [])
  } catch (error) {
    const words = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return result('failed', words.split('\n'))
  }
}

interface Problem {
  readonly outcome: Outcome
  readonly lines: readonly string[]
}

async function playStep(
  vector: Vector,
  step: Step,
  index: number,
  host: VectorHost,
  generated: Generated,
  fragments: Fragments,
): Promise<Problem | null> {
  if (isInject(step)) {
    const answer = await host.inject(step)
    if (answer.leftToStack !== null) {
      if (step.expect.length === 0) return null
      return {
        outcome: 'skipped',
        lines: [`${answer.leftToStack}: the answer of the director's own stack is part of the recording`],
      }
    }
    const masks = (vector.volatile ?? []).filter((entry) => entry.step === index)
    const lines = fragments.concerns(step.expect, answer.frames)
      ? fragments.compare(step.expect, answer.frames)
      : compareFrames(step.expect, answer.frames, masks, generated)
    if (lines.length === 0) return null
    const sent = decode(unhex(step.inject.frame)).map((line) => `    ${line}`)
    return { outcome: 'failed', lines: [`  sent on wire ${step.inject.wire}:`, ...sent, ...lines] }
  }
  if (isRun(step)) {
    const lines = compareRun(step, await host.run(step.run))
    return lines.length === 0 ? null : { outcome: 'failed', lines }
  }
  await host.wait(step.wait_ms)
  return null
}

function describe(step: Step): string {
  if (isInject(step))
    return `frame on wire ${step.inject.wire}${step.note === undefined ? '' : ` (${step.note})`}`
  if (isRun(step)) return step.run.join(' ')
  return `wait ${step.wait_ms} ms`
}
