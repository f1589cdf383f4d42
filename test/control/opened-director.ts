/** Directors over maps of a test's own, whose hash seeds are the same in every run. */
import {
  type ManagedDirector,
  type OpenDirectorOptions,
  openDirector as open,
} from '../../control/apply/open.ts'
import { hashSeed } from '../property.ts'

let drawn = 0

export function openDirector(options: OpenDirectorOptions): ManagedDirector {
  return open({ drawSeed: () => hashSeed(drawn++), ...options })
}
