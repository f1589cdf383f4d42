/** Who records packets: one at a time, on whatever data plane there is. */
import { type Dataplane, DataplaneError } from '../../dataplane/dataplane.ts'
import type { Tape } from '../../dataplane/recording.ts'
import { netDeviceName } from '../../linux/device.ts'
import type { Capture, CaptureAsked } from '../front/api/route.ts'
import { Recording } from '../insight/record/recording.ts'

export class Recordings {
  readonly #plane: () => Dataplane | null
  /** One that is being begun is there already. */
  #current: Recording | 'begins' | null = null

  constructor(plane: () => Dataplane | null) {
    this.#plane = plane
  }

  async begin(asked: CaptureAsked, ended: (words: string) => void): Promise<Capture> {
    const plane = this.#plane()
    if (plane?.record === undefined) throw new DataplaneError('Cannot record: no packets come to this daemon')
    if (this.#current !== null)
      throw new DataplaneError('Cannot record: somebody does already, see pointsman events; one at a time')
    this.#current = 'begins'
    let tape: Tape | null = null
    try {
      tape = await plane.record(asked.wanted)
      const recording = new Recording({
        ...{ plane, tape, asked, nameOf: netDeviceName },
        ended: (words) => {
          if (this.#current === recording) this.#current = null
          ended(words)
        },
      })
      this.#current = recording
      return recording
    } catch (error) {
      this.#current = null
      await tape?.close()
      throw error
    }
  }

  /** Returns when packets meet the usual program again; whether there was a recording. */
  async end(why: string): Promise<boolean> {
    const recording = this.#current
    if (recording === null || recording === 'begins') return false
    await recording.finish(why)
    return true
  }
}
