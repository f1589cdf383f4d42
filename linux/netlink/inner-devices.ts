/** Links of our own, that nobody else's packets come by. */
import { OWN_DEVICE, SERVE_DEVICE } from './own-pair.ts'
import { CHECK_DEVICE, PROBE_DEVICE } from './probe-pair.ts'

const NAMES: readonly string[] = [PROBE_DEVICE, CHECK_DEVICE, OWN_DEVICE, SERVE_DEVICE]

export function isInnerDevice(name: string): boolean {
  return NAMES.includes(name)
}
