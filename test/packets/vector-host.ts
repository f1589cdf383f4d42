/** What a recorded vector is played against: a director between the two wires, however it is made. */
import type { Captured, CommandResult } from './compare.ts'
import type { InjectStep, Setup, Vector } from './vectors.ts'

export interface Answer {
  readonly frames: readonly Captured[]
  /**
   * The packet program left the frame to the director's own stack, and there is none behind it: what the
   * stack would have sent is unknown. The verdict's name, else null.
   */
  readonly leftToStack: string | null
}

export interface VectorHost {
  /** Why a vector cannot be played here, or null. */
  refuses(vector: Vector): string | null
  /** A fresh director: no rules, no connections, default settings, MTU 1500. */
  reset(): Promise<void>
  /** One entry of `setup`. */
  setup(step: Setup): Promise<void>
  /** All of `setup` is in force when this returns. */
  settle(): Promise<void>
  run(argv: readonly string[]): Promise<CommandResult>
  inject(step: InjectStep): Promise<Answer>
  wait(milliseconds: number): Promise<void>
  close(): Promise<void>
}
