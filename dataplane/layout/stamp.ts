/**
 * Which layout a set of maps has, written in the maps themselves: two facts at fixed places of `settings`
 * that every process which may map the memory can read. Type information says more, but the kernel hands
 * it out by number only to CAP_SYS_ADMIN, which a director does without.
 */
import { LAYOUT_FINGERPRINT, PM_LAYOUT_VERSION, SettingsRecord } from './layout.gen.ts'

export interface LayoutStamp {
  /** PM_LAYOUT_VERSION of the program that made the maps; 0 in maps that nobody has stamped. */
  readonly version: number
  /** 16 hex digits; all 0 before version 6. */
  readonly fingerprint: string
}

/** The layout of this build. */
export const OWN_STAMP: LayoutStamp = { version: PM_LAYOUT_VERSION, fingerprint: LAYOUT_FINGERPRINT }

/** @param settings the map of that name, its first record */
export function stampLayout(settings: DataView): void {
  for (const index of [0, 1]) {
    const digits = LAYOUT_FINGERPRINT.slice(index * 8, index * 8 + 8)
    SettingsRecord.setFingerprint(settings, 0, index, Number.parseInt(digits, 16))
  }
  SettingsRecord.setLayout(settings, 0, PM_LAYOUT_VERSION)
}

export function readStamp(settings: DataView): LayoutStamp {
  const digits = [0, 1].map((index) => SettingsRecord.getFingerprint(settings, 0, index).toString(16))
  return {
    version: SettingsRecord.getLayout(settings, 0),
    fingerprint: digits.map((text) => text.padStart(8, '0')).join(''),
  }
}

/** What tells `found` from this build's layout, or null. */
export function stampDifference(found: LayoutStamp): string | null {
  if (found.version !== OWN_STAMP.version) {
    return `its layout has version ${found.version}, expected ${OWN_STAMP.version}`
  }
  if (found.fingerprint !== OWN_STAMP.fingerprint) {
    return `its layout has fingerprint ${found.fingerprint}, expected ${OWN_STAMP.fingerprint}`
  }
  return null
}
