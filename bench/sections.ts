import { checks } from './checks.ts'
import { control } from './control.ts'
import { cpus } from './cpus.ts'
import { e2e } from './e2e.ts'
import { floor } from './floor.ts'
import { guest } from './guest.ts'
import { page } from './page.ts'
import { recording } from './recording.ts'
import { registries } from './registries.ts'
import type { Section } from './section.ts'
import { site } from './site.ts'
import { storm } from './storm.ts'
import { tc } from './tc.ts'
import { upgrade } from './upgrade.ts'
import { userspace } from './userspace.ts'
import { wasm } from './wasm.ts'
import { xdp } from './xdp.ts'

/** In the order they run. */
export const SECTIONS: readonly Section[] = [
  floor,
  xdp,
  recording,
  wasm,
  e2e,
  cpus,
  tc,
  userspace,
  control,
  page,
  site,
  registries,
  checks,
  storm,
  upgrade,
  guest,
]
