/** Brings marking rules in force: fills the half of their maps that is not in use, and has it switched to. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { anyMarks, fillMarks, halfOf, type MarkMaps, markMaps } from '../compile/marks.ts'
import type { MarkRule } from '../model/mark.ts'
import type { Host } from '../rules/host.ts'
import type { Clock } from './clock.ts'
import type { Quiet } from './quiet.ts'

/** A change waits no longer than this for packets under way; then it is tried again by itself. */
const PATIENCE_MS = 5000
const LOOK_MS = 2

export class MarkTables {
  readonly #dataplane: Dataplane
  readonly #host: Pick<Host, 'interfaces'>
  readonly #maps: MarkMaps
  readonly #quiet: Quiet
  readonly #clock: Clock
  /** When packets began to leave the half that is not in use. */
  #switchedMs: number
  #rules: readonly MarkRule[] = []
  #dirty = false
  /** The interfaces of the rules in force, as they were numbered then. */
  #numbers = ''
  #word: number
  #filled = false

  constructor(dataplane: Dataplane, host: Pick<Host, 'interfaces'>, quiet: Quiet, clock: Clock) {
    this.#dataplane = dataplane
    this.#host = host
    this.#quiet = quiet
    this.#clock = clock
    this.#switchedMs = clock.nowMs()
    this.#maps = markMaps(dataplane)
    // Whoever was here before may have died between filling and switching: packets know which half it is.
    this.#word = this.#inUse()
  }

  #inUse(): number {
    return this.#dataplane.map('settings').u32[SettingsRecord.offsets.marks / 4]!
  }

  /** Of the settings: the half that packets are to look at. */
  get word(): number {
    return this.#word
  }

  want(rules: readonly MarkRule[]): void {
    this.#rules = rules
    // Who has no rules, and had none, has nothing to wait for.
    this.#dirty = rules.length > 0 || anyMarks(this.#word)
  }

  /** Interfaces may have come, gone, or have other numbers now; whether that matters. */
  linksChanged(): boolean {
    if (this.#rules.length === 0 || this.#numbersNow() === this.#numbers) return false
    this.#dirty = true
    return true
  }

  #ifindexOf(name: string): number | null {
    return this.#host.interfaces().find((nic) => nic.name === name)?.ifindex ?? null
  }

  #numbersNow(): string {
    const names = new Set(this.#rules.map((rule) => rule.interface))
    return [...names].map((name) => (name === null ? '' : `${name} ${this.#ifindexOf(name)}`)).join(',')
  }

  /**
   * What is wanted stands ready when this returns: the settings, with `word` in them, switch over to it, and
   * that is then to be said (`switched`). Rejects, and is to be tried again, while packets look at the half
   * that was left last.
   */
  async fill(): Promise<void> {
    const untilMs = this.#clock.nowMs() + PATIENCE_MS
    while (this.#dirty && this.#quiet.ms <= this.#switchedMs) {
      if (this.#clock.nowMs() >= untilMs) {
        throw new Error('Marking rules wait: packets may be looking at earlier ones still')
      }
      await new Promise<void>((resolve) => void this.#clock.after(LOOK_MS, resolve))
    }
    if (!this.#dirty) return
    this.#dirty = false
    this.#numbers = this.#numbersNow()
    const idle = halfOf(this.#inUse()) === 0 ? 1 : 0
    this.#word = fillMarks(this.#maps, idle, this.#rules, (name) => this.#ifindexOf(name))
    this.#filled = true
  }

  /** The settings have been published. */
  switched(): void {
    if (!this.#filled) return
    this.#filled = false
    this.#switchedMs = this.#clock.nowMs()
    this.#quiet.await()
  }
}
