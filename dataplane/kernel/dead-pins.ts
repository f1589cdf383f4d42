/**
 * What directors of network namespaces that are no more have left pinned. Their maps would hold memory
 * until the next boot; nobody can adopt them, for a namespace's cookie is never used again.
 */
import { readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { defaultPinDirectory } from '../../linux/bpffs.ts'
import { libc } from '../../linux/libc.ts'
import { linkInfo } from './object-info.ts'
import { Pins } from './pins.ts'

/** True when the program was attached and none of its interfaces exists any more. */
function isDead(pins: Pins): boolean {
  const links = pins.attachments()
  return (
    links.length > 0 &&
    links.every(({ hook, ifindex, isFilter }) => {
      // Filters go with their namespace, and leave nothing that tells.
      if (isFilter) return false
      const fd = pins.openLink(ifindex, hook)
      try {
        return linkInfo(fd).ifindex === 0
      } finally {
        libc.close(fd)
      }
    })
  )
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // none yet, or not for us to read
  }
}

/**
 * Removes them and returns their directories. Those of this namespace and of living ones stay, and so
 * does what another process changes under our hands.
 * @param own this namespace's directory; its siblings are looked at
 */
export function removeDeadPins(own: string = defaultPinDirectory()): string[] {
  const parent = dirname(own)
  const removed: string[] = []
  for (const name of namesIn(parent)) {
    if (!/^netns-\d+(-new)?$/.test(name) || [basename(own), `${basename(own)}-new`].includes(name)) continue
    const pins = new Pins(join(parent, name))
    try {
      if (isDead(pins) && pins.remove()) removed.push(pins.directory)
    } catch {
      // Its own director was quicker, or this process may not look: it is not ours to judge.
    }
  }
  return removed
}
