/**
 * The loop that makes the maps what the rules want, and the only one that writes rules into them. Whatever
 * changed is planned per service, from what the maps hold, and done; what cannot be done yet is tried again
 * by itself, ever more seldom, and as soon as there is room.
 */
import { serviceText } from '../model/identity.ts'
import type { ServiceState } from '../model/service.ts'
import type { PlanView } from '../plan/draft.ts'
import { type Ledger, QUIET_LOOK_MS } from '../plan/ledger.ts'
import type { Operation } from '../plan/operations.ts'
import {
  CapacityError,
  describeLack,
  type Lack,
  planReclaim,
  planRemoval,
  planService,
  type Steps,
} from '../plan/plan.ts'
import { type Change, LOOK_AT_ALL, together } from '../rules/changes.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { Rules } from '../rules/rules.ts'
import type { Clock } from './clock.ts'
import type { Quiet } from './quiet.ts'
import { Turns } from './turns.ts'

/** Between two tries at what nobody knows when it can be done. */
const RETRY_MS_MIN = 100
const RETRY_MS_MAX = 10_000
/** A command waits no longer than this for packets to be through (ms): a busy machine says late that they are. */
const PATIENCE_MS = 60_000
/** Nor than this when the plane cannot say it. */
const PATIENCE_UNSAID_MS = 5000

export interface ReconcilerOptions {
  readonly rules: Rules
  readonly ledger: Ledger
  readonly clock: Clock
  readonly quiet: Quiet
  view(): PlanView
  /** Does one step in the maps. */
  execute(operation: Operation): void
  /** A service made anew is in force: what an earlier one of its identity has counted is not its own. */
  created(service: ServiceEntry): void
  /** The maps are as they should be: what follows from them outside is brought in line. */
  publish(): Promise<void>
  /** A try in the background has failed in a way that no rule can cause. */
  failed(error: unknown): void
}

interface Pending {
  change: Change
  state: 'waiting' | 'refused'
  why: string
  /** When it can be tried with success (ms); null if nobody knows. */
  dueMs: number | null
  lack: Lack | null
}

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #pending = new Map<string, Pending>()
  /** Services changed in the maps since what follows from them was last brought in line. */
  readonly #unpublished = new Set<string>()
  /** Why that failed. */
  #unpublishedWhy: Error | null = null
  #running: Promise<void> | null = null
  #next: Promise<void> | null = null
  #retry: (() => void) | null = null
  #backoffMs = RETRY_MS_MIN
  #stopped = false
  /** What has been put right without anybody having asked for a change, by what was wrong. */
  readonly repairs = new Map<string, number>()
  readonly #repairing = new Map<string, string>()

  constructor(options: ReconcilerOptions) {
    this.#options = options
  }

  isPending(service: string): boolean {
    return this.#pending.has(service) || this.#options.rules.changes.has(service)
  }

  /** Not in force, or not with all that is wanted. */
  states(): Map<string, ServiceState> {
    const states = new Map<string, ServiceState>()
    const { changes } = this.#options.rules
    for (const key of changes.keys()) states.set(key, { state: 'waiting', why: 'a change is on its way' })
    const why = this.#unpublishedWhy?.message
    if (why !== undefined) {
      for (const key of this.#unpublished) states.set(key, { state: 'waiting', why })
    }
    for (const [key, { state, why }] of this.#pending) states.set(key, { state, why })
    return states
  }

  /** Whether the service was made anew and is not in force yet. */
  created(service: string): boolean {
    return this.#pending.get(service)?.change.created ?? false
  }

  /** Something else than a change of the rules makes a look worthwhile: room has been made, say. */
  soon(): void {
    if (this.#pending.size === 0 && this.#unpublishedWhy === null) return
    this.#backoffMs = RETRY_MS_MIN
    this.#retryIn(0)
  }

  /** What follows from the machine rather than from the rules has changed: to be brought in force, too. */
  lookAgain(): void {
    this.#retryIn(0)
  }

  /** The maps are not what is wanted, for no reason that the rules know. */
  repair(service: string, difference: string): void {
    const pending = this.#pending.get(service)
    this.#repairing.set(service, difference)
    this.#wait(
      service,
      together(pending?.change, { ...LOOK_AT_ALL, reschedule: difference === 'schedule' }),
      {
        why: `its ${difference} in the maps was not as wanted`,
        dueMs: this.#options.clock.nowMs(),
      },
    )
    this.#retryIn(0)
  }

  /** An entry of the index leads nowhere. */
  withdraw(at: number): void {
    this.#options.execute({ op: 'index', at, entry: 0n })
    this.#repaired('index entry')
  }

  #repaired(difference: string): void {
    this.repairs.set(difference, (this.repairs.get(difference) ?? 0) + 1)
  }

  /** Nothing is written to the maps any more; returns when a pass that is under way is through. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#retry?.()
    this.#retry = null
    await this.#running?.catch(() => {})
  }

  async settle(own?: readonly string[]): Promise<void> {
    const { clock, quiet } = this.#options
    const beganMs = clock.nowMs()
    for (;;) {
      await this.run()
      const untilMs = beganMs + (quiet.unsaid ? PATIENCE_UNSAID_MS : PATIENCE_MS)
      // Between two turns of a pass that somebody else asked for, what it has not come to yet has no time.
      while (this.#running !== null && clock.nowMs() < untilMs) await this.#running
      const due = this.#soonest(own)
      if (due === null || due > untilMs) break
      await new Promise<void>((resolve) => void clock.after(Math.max(1, due - clock.nowMs()), resolve))
    }
    this.#report(own)
  }

  #soonest(own: readonly string[] | undefined): number | null {
    let soonest: number | null = null
    for (const key of own ?? this.#pending.keys()) {
      const dueMs = this.#pending.get(key)?.dueMs ?? null
      if (dueMs !== null && (soonest === null || dueMs < soonest)) soonest = dueMs
    }
    return soonest
  }

  #report(own: readonly string[] | undefined): void {
    for (const key of own ?? this.#pending.keys()) {
      const pending = this.#pending.get(key)
      if (pending !== undefined) throw new CapacityError(pending.why)
    }
    if (this.#unpublishedWhy === null) return
    if (own === undefined || own.some((key) => this.#unpublished.has(key))) throw this.#unpublishedWhy
  }

  /** One pass over all that has changed until now: one at a time, and one for all who ask meanwhile. */
  run(): Promise<void> {
    if (this.#stopped) return Promise.resolve()
    if (this.#running === null) return this.#start()
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = null
        return this.#stopped ? undefined : this.#start()
      })
    return this.#next
  }

  #start(): Promise<void> {
    const pass = this.#pass().finally(() => {
      if (this.#running === pass) this.#running = null
    })
    this.#running = pass
    return pass
  }

  async #pass(): Promise<void> {
    const { rules } = this.#options
    const turns = new Turns()
    const before = this.#pending.size
    const removed: string[] = []
    const lacking: string[] = []
    for (const key of new Set([...this.#pending.keys(), ...rules.changes.keys()])) {
      if (turns.over) await turns.pass()
      if (rules.findKey(key) === undefined) removed.push(key)
      else if (!(await this.#bringWhole(key, false, turns))) lacking.push(key)
    }
    for (const key of removed) {
      if (turns.over) await turns.pass()
      this.#remove(key)
    }
    // What was removed has made room, or will when packets have left it.
    for (const key of lacking) {
      if (turns.over) await turns.pass()
      this.#reclaimFor(key)
      if (await this.#bringWhole(key, true, turns)) continue
      const pending = this.#pending.get(key)
      if (pending !== undefined) pending.dueMs = this.#reclaimFor(key, 0)
    }
    await this.#publish()
    this.#retryLater(before)
  }

  async #publish(): Promise<void> {
    try {
      await this.#options.publish()
      this.#unpublished.clear()
      this.#unpublishedWhy = null
    } catch (error) {
      this.#unpublishedWhy = error instanceof Error ? error : new Error(String(error))
    }
  }

  /** A service with very many new real servers comes in several plans, with turns for others between them. */
  async #bringWhole(key: string, partly: boolean, turns: Turns): Promise<boolean> {
    for (;;) {
      const brought = this.#bring(key, partly)
      if (brought !== 'unfinished') return brought
      if (turns.over) await turns.pass()
    }
  }

  /** True if nothing is left to do for the service but to wait a moment; false if there is no room for it. */
  #bring(key: string, partly: boolean): boolean | 'unfinished' {
    const { rules, ledger, clock, quiet } = this.#options
    const service = rules.findKey(key)
    if (service === undefined) {
      this.#remove(key)
      return true
    }
    const noted = rules.changes.take(key)
    const earlier = this.#pending.get(key)?.change
    const change = noted === undefined ? earlier : together(earlier, noted)
    if (change === undefined) return true
    const nowMs = clock.nowMs()
    ledger.release(quiet.ms)
    // The idle schedule is not rewritten while a packet can be reading it; nor is anything written before
    // what a daemon that died has done a moment ago is seen by every packet.
    const switchedAtMs = ledger.serviceOfKey(key)?.switchedAtMs ?? Number.NEGATIVE_INFINITY
    if (switchedAtMs >= quiet.ms) {
      this.#wait(key, change, { why: 'packets may be reading it', dueMs: nowMs + QUIET_LOOK_MS })
      return true
    }
    const plan = planService(this.#options.view(), service, change, partly)
    switch (plan.kind) {
      case 'wait':
        this.#wait(key, change, { why: 'packets may be reading what it needs', dueMs: nowMs + plan.waitMs })
        return true
      case 'lacks':
        this.#wait(key, change, { why: describeLack(service, plan.lack), lack: plan.lack })
        return false
      case 'steps':
        if (plan.unfinished) {
          this.#wait(key, change, { why: 'its real servers are being filled in', dueMs: nowMs })
          this.apply(plan)
          return 'unfinished'
        }
        this.#pending.delete(key)
        this.apply(plan)
        this.#done(service, change, plan)
        return plan.lack === null
      default:
        return plan satisfies never
    }
  }

  #done(service: ServiceEntry, change: Change, plan: Steps): void {
    if (change.created) this.#options.created(service)
    if (plan.operations.length > 0) this.#unpublished.add(service.key)
    const repaired = this.#repairing.get(service.key)
    this.#repairing.delete(service.key)
    if (repaired !== undefined && plan.operations.length > 0) this.#repaired(repaired)
    if (plan.lack === null) return
    const there = service.servers.length - (plan.lack.wanted - plan.lack.free)
    this.#wait(service.key, LOOK_AT_ALL, {
      why: `Service "${serviceText(service.value.id)}" is in force with ${there} of its ${service.servers.length} real servers: all ${plan.lack.size} are in use, removed ones for as long as they have connections`,
      lack: plan.lack,
    })
  }

  #wait(
    key: string,
    change: Change,
    reason: { readonly why: string; readonly dueMs?: number; readonly lack?: Lack },
  ): void {
    const { why, dueMs = null, lack = null } = reason
    const state = lack !== null && lack.wanted > lack.size ? 'refused' : 'waiting'
    this.#pending.set(key, { change, state, why, dueMs, lack })
  }

  #remove(key: string): void {
    const { ledger, rules, view, quiet } = this.#options
    rules.changes.take(key)
    this.#pending.delete(key)
    const holding = ledger.serviceOfKey(key)
    if (holding === undefined || holding.state === 'gone') return
    ledger.release(quiet.ms)
    this.apply(planRemoval(view(), holding))
    this.#unpublished.add(key)
  }

  /**
   * Frees what nobody refers to any more, as far as the service lacks it.
   * @returns when more can be freed (ms), null if nobody knows
   */
  #reclaimFor(key: string, most = Number.POSITIVE_INFINITY): number | null {
    const lack = this.#pending.get(key)?.lack ?? null
    if (lack === null || (lack.what !== 'real servers' && lack.what !== 'services')) return null
    const services = lack.what === 'services'
    const count = Math.min(most, services ? Number.POSITIVE_INFINITY : lack.wanted - lack.free)
    const reclaim = planReclaim(this.#options.view(), count, services)
    this.apply(reclaim)
    return reclaim.waitMs === null ? null : this.#options.clock.nowMs() + reclaim.waitMs
  }

  /** Does what a plan says, and takes what it claims; nobody gets a turn between the two. */
  apply(steps: Steps): void {
    for (const operation of steps.operations) this.#options.execute(operation)
    const { ledger, clock, quiet } = this.#options
    ledger.commit(steps.claims, clock.nowMs())
    if (steps.claims.length > 0) quiet.await()
  }

  #retryLater(before: number): void {
    if (this.#pending.size === 0 && this.#unpublishedWhy === null) {
      this.#backoffMs = RETRY_MS_MIN
      return
    }
    if (this.#pending.size < before) this.#backoffMs = RETRY_MS_MIN
    const due = this.#soonest(undefined)
    const left = due === null ? this.#backoffMs : due - this.#options.clock.nowMs()
    if (due === null) this.#backoffMs = Math.min(this.#backoffMs * 2, RETRY_MS_MAX)
    this.#retryIn(Math.max(1, Math.min(left, RETRY_MS_MAX)))
  }

  #retryIn(ms: number): void {
    if (this.#stopped) return
    this.#retry?.()
    this.#retry = this.#options.clock.after(ms, () => {
      this.#retry = null
      this.run().catch((error: unknown) => this.#options.failed(error))
    })
  }
}
