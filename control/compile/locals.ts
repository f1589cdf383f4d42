/** The director's own IPv4 addresses, hashed for the packet program (`pm_is_local4` in bpf/lookup.h). */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { PM_BUCKET, PM_LOCALS } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { addressToBytes, familyOf } from '../../net/address.ts'

/** The address as the packet program loads it: network order, read by a little-endian machine. */
function wireWord(address: IpAddress): number {
  return new DataView(addressToBytes(address).slice().buffer).getUint32(0, true)
}

/**
 * The wanted content of the map, one word per entry, 0 free. Addresses that find both buckets full are left
 * out.
 */
export function localsImage(addresses: Iterable<IpAddress>): {
  readonly image: Uint32Array
  readonly leftOut: number
} {
  let leftOut = 0
  const image = new Uint32Array(PM_LOCALS * PM_BUCKET)
  for (const address of new Set(addresses)) {
    if (familyOf(address) !== 4) continue
    const word = wireWord(address)
    const home = Math.imul(word, 0x9e3779b1) >>> 16
    leftOut += 1
    place: for (const bucket of [home % PM_LOCALS, (home + 1) % PM_LOCALS]) {
      for (let way = 0; way < PM_BUCKET; way++) {
        if (image[bucket * PM_BUCKET + way] !== 0) continue
        image[bucket * PM_BUCKET + way] = word
        leftOut -= 1
        break place
      }
    }
  }
  return { image, leftOut }
}

/**
 * Stores what differs. An address that moves within the map may be missed for a moment: harmless. Returns how
 * many addresses there is no room for.
 */
export function publishLocals(map: MapMemory, addresses: Iterable<IpAddress>): number {
  const { image, leftOut } = localsImage(addresses)
  for (let word = 0; word < image.length; word++) {
    if (map.u32[word] !== image[word]) Atomics.store(map.u32, word, image[word]!)
  }
  return leftOut
}
