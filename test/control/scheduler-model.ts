/** rr and wrr of IPVS, slow and obvious: a list, a pointer, three numbers. */
export interface ModelServer {
  readonly key: string
  weight: number
}

export class SchedulerModel {
  /** Newest first. */
  list: ModelServer[] = []
  /** Chosen last; null is the head of the list. */
  last: ModelServer | null = null
  cw = 0
  mw = 0
  di = 1
  scheduler: 'rr' | 'wrr'

  constructor(scheduler: 'rr' | 'wrr') {
    this.scheduler = scheduler
  }

  #steps(): void {
    const weights = this.list.map(({ weight }) => weight).filter((weight) => weight > 0)
    const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
    this.di = weights.reduce(gcd, 0) || 1
    this.mw = Math.max(0, ...weights) - (this.di - 1)
  }

  bind(scheduler: 'rr' | 'wrr'): void {
    this.scheduler = scheduler
    this.last = null
    this.#steps()
    this.cw = this.mw
  }

  #changed(): void {
    if (this.scheduler !== 'wrr') return
    this.#steps()
    this.last = null
    if (this.cw > this.mw || this.cw === 0) this.cw = this.mw
    else if (this.di > 1) this.cw = Math.floor(this.cw / this.di) * this.di + 1
  }

  add(key: string, weight: number): void {
    this.list.unshift({ key, weight })
    this.#changed()
  }

  edit(key: string, weight: number): void {
    this.list.find((server) => server.key === key)!.weight = weight
    this.#changed()
  }

  delete(key: string): void {
    const at = this.list.findIndex((server) => server.key === key)
    const [server] = this.list.splice(at, 1)
    if (this.scheduler === 'rr' && this.last === server) this.last = this.list[at - 1] ?? null
    this.#changed()
  }

  choose(): string | null {
    return this.scheduler === 'rr' ? this.#rr() : this.#wrr()
  }

  #rr(): string | null {
    const start = this.last === null ? 0 : this.list.indexOf(this.last) + 1
    for (let i = 0; i < this.list.length; i++) {
      const server = this.list[(start + i) % this.list.length]!
      if (server.weight <= 0) continue
      this.last = server
      return server.key
    }
    return null
  }

  #wrr(): string | null {
    if (this.mw === 0) return null
    let at = this.last === null ? 0 : this.list.indexOf(this.last) + 1
    for (let passes = 0; passes < 100_000; passes++) {
      for (; at < this.list.length; at++) {
        const server = this.list[at]!
        if (server.weight < this.cw) continue
        this.last = server
        return server.key
      }
      this.cw -= this.di
      if (this.cw <= 0) this.cw = this.mw
      at = 0
    }
    throw new Error('the model runs in circles')
  }
}
