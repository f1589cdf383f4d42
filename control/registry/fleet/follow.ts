/** A director's part in a fleet: which revision is meant, and telling the others which one it has. */
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdFollower } from '../etcd/follow.ts'
import { EtcdGateway } from '../etcd/gateway.ts'
import { EtcdRegistrar } from '../register/etcd.ts'
import { stayRegistered } from '../register/registrar.ts'
import { keepFollowing, pauseMs } from '../retry.ts'
import type { DirectorReport, FleetRevision } from './document.ts'
import { Fleet } from './fleet.ts'
import type { FleetPlace } from './place.ts'

/** A director that is dead is no longer listed after so long. */
const TTL_MS = 10_000

export class FleetMember {
  readonly #fleet: Fleet
  readonly #changed: () => void
  readonly #stop = new AbortController()
  readonly #registrar: EtcdRegistrar
  #revision: FleetRevision | null = null
  #why = 'nothing has been heard yet'
  #report: DirectorReport
  #told = false
  /** The number that was published last. */
  #meant: number | null = null
  /** Numbers are fetched one after the other. */
  #turn: Promise<void> = Promise.resolve()
  readonly #firsts = new Set<() => void>()

  /** @param changed another revision is meant */
  constructor(place: FleetPlace, version: string, changed: () => void) {
    const director = place.director ?? hostname()
    this.#fleet = new Fleet(place)
    this.#changed = changed
    this.#report = {
      ...{
        director,
        revision: null,
        sinceMs: Date.now(),
        state: 'in force',
        refused: null,
        why: null,
        version,
      },
    }
    this.#registrar = new EtcdRegistrar({
      ...{ address: place.address, key: `${place.prefix}/directors/${director}`, ttlMs: TTL_MS },
      value: () => JSON.stringify(this.#report),
    })
    const follower = new EtcdFollower(new EtcdGateway(place.address), `${place.prefix}/current`, (value) =>
      Number(value),
    )
    void keepFollowing(
      follower,
      {
        heard: (heard) => {
          if (heard.kind === 'current') return
          const number = heard.kind === 'whole' ? heard.entries.get('') : heard.changes.get('')
          const meant = number ?? null
          this.#meant = meant
          this.#turn = this.#turn.then(() => this.#fetch(meant))
        },
        away: (why) => {
          this.#why = why
          this.#settleFirsts()
        },
      },
      this.#stop.signal,
    )
  }

  /** What is meant; null: that is not known, and why. */
  get revision(): FleetRevision | null {
    return this.#revision
  }

  get why(): string {
    return this.#why
  }

  async first(limitMs: number): Promise<void> {
    if (this.#revision !== null) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs)
      this.#firsts.add(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** What became of it here. */
  tell(report: Pick<DirectorReport, 'revision' | 'state' | 'refused' | 'why'>): void {
    const same = this.#report.revision === report.revision && this.#report.state === report.state
    this.#report = { ...this.#report, ...report, sinceMs: same ? this.#report.sinceMs : Date.now() }
    if (this.#told) {
      // What cannot be written now is written when the lease is taken up again.
      void this.#registrar.rewrite().catch(() => {})
      return
    }
    this.#told = true
    const log = { registered: () => {}, lost: () => {} }
    void stayRegistered(this.#registrar, log, this.#stop.signal)
  }

  close(): void {
    this.#stop.abort()
    this.#fleet.close()
    this.#settleFirsts()
  }

  async #fetch(number: number | null): Promise<void> {
    const { signal } = this.#stop
    // Which another one has taken the place of, nobody means any more.
    for (let tries = 1; number !== null && number === this.#meant && !signal.aborted; tries++) {
      try {
        const revision = await this.#fleet.revision(number)
        if (revision === null) this.#why = `revision ${number} is missing, or cannot be read`
        else if (revision.revision !== this.#revision?.revision) {
          this.#revision = revision
          this.#settleFirsts()
          this.#changed()
        }
        break
      } catch (error) {
        this.#why = error instanceof Error ? error.message : String(error)
        await sleep(pauseMs(tries), undefined, { signal }).catch(() => {})
      }
    }
    if (number === null) this.#why = 'nothing has been published there: pointsman apply --to'
    this.#settleFirsts()
  }

  #settleFirsts(): void {
    for (const settle of this.#firsts) settle()
    this.#firsts.clear()
  }
}
