import type { Section } from './section.ts'
import { xdp } from './xdp.ts'

/** In the order they run. */
export const SECTIONS: readonly Section[] = [xdp]
