/** Keeps the one record of settings as the director wants it, and as the machine it runs on makes it. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { defence, type InUse, publishSettings, settingsWords } from '../compile/settings.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { Host } from '../rules/host.ts'
import type { Rules } from '../rules/rules.ts'

export class Settings {
  readonly #dataplane: Dataplane
  readonly #host: Host
  readonly #rules: Rules
  readonly #followNat: (on: boolean) => void
  readonly #use: () => InUse
  #timeouts: Timeouts | null = null
  #sysctls: Readonly<Record<string, number>> = {}

  /**
   * @param followNat keeps, or no longer, what nat_icmp_send and persistence engines need
   * @param use what else packets are asked for at the moment
   */
  constructor(
    dataplane: Dataplane,
    host: Host,
    rules: Rules,
    followNat: (on: boolean) => void,
    use: () => InUse,
  ) {
    this.#dataplane = dataplane
    this.#host = host
    this.#rules = rules
    this.#followNat = followNat
    this.#use = use
  }

  get sysctls(): Readonly<Record<string, number>> {
    return this.#sysctls
  }

  want(timeouts: Timeouts, sysctls: Readonly<Record<string, number>>): void {
    this.#timeouts = timeouts
    this.#sysctls = sysctls
  }

  /** Whether settings follow the free memory, which changes by itself. */
  get watchesMemory(): boolean {
    return [this.#sysctls.drop_packet, this.#sysctls.secure_tcp].some((mode) => mode === 1 || mode === 2)
  }

  /** Publishes timeouts, sysctls and defence; also once in a while, because some of it changes by itself. */
  publish(): void {
    if (this.#timeouts === null) return
    const state = defence(this.#sysctls, this.watchesMemory ? this.#host.availablePages() : null)
    const settings = this.#dataplane.map('settings')
    const { offsets } = SettingsRecord
    // The first packet under a new rate is the one to drop.
    if (settings.u32[offsets.dropRate / 4] !== state.dropRate)
      Atomics.store(settings.u32, offsets.dropCount / 4, 0)
    const { kinds } = this.#rules
    const words = settingsWords(this.#timeouts, this.#sysctls, kinds, state, this.#host, this.#use())
    // The program looks for NAT real servers from the moment the setting is published until it is not.
    const nat = (this.#sysctls.nat_icmp_send ?? 0) !== 0 || kinds.engines > 0
    if (nat) this.#followNat(true)
    publishSettings(settings, words)
    if (!nat) this.#followNat(false)
  }
}
