/**
 * The host's own sockets as clients of its virtual services (`Dataplane.serveOwn`): for as long as there are any.
 * The setting that leads their packets to the program is published after the way is there, and taken back before
 * it goes.
 */
import type { Dataplane, OwnClients as State } from '../../dataplane/dataplane.ts'

export class OwnClients {
  readonly #dataplane: Dataplane
  readonly #warn: (message: string) => void
  #wanted = false
  /** What was last told of: the same is not told again. */
  #told = ''

  constructor(dataplane: Dataplane, warn: (message: string) => void) {
    this.#dataplane = dataplane
    this.#warn = warn
    this.#wanted = dataplane.ownClients?.() != null
  }

  get areServed(): boolean {
    return this.#wanted && this.state?.served === true
  }

  /** As it is at this moment; null: nobody has asked for it. */
  get state(): State | null {
    const { plane, serveOwn } = this.#dataplane
    if (serveOwn !== undefined) return this.#dataplane.ownClients?.() ?? null
    if (!this.#wanted) return null
    const why = `the ${plane} data plane has no place for that, xdp and tc have: pointsman dataplane tc`
    return { served: false, refused: [why] }
  }

  /** To be called before settings are published. */
  before(isWanted: boolean): void {
    const isNew = isWanted && !this.#wanted
    this.#wanted = isWanted
    if (!isNew) return
    this.#dataplane.serveOwn?.(true)
    const refused = this.state?.refused.join('; ') ?? ''
    if (refused !== '' && refused !== this.#told) {
      this.#warn(`Clients on this host itself are not served: ${refused}`)
    }
    this.#told = refused
  }

  /** To be called when they are. */
  after(): void {
    if (this.#wanted || this.#dataplane.ownClients?.() == null) return
    this.#dataplane.serveOwn?.(false)
  }
}
