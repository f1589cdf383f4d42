/** The addresses of full NAT in the maps: records that packets read while they change, and how many there are. */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  FullNatRecord,
  PM_FULL_NAT_COUNT,
  PM_FULL_NAT_SHIFT,
  PM_FULL_NATS,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { familyOf, readAddress, writeAddress } from '../../net/address.ts'
import type { FullNatAddress } from '../model/full-nat.ts'

const WORDS = FullNatRecord.size / 4
const VERSION = FullNatRecord.offsets.version / 4
const { offsets } = FullNatRecord
const COUNT = SettingsRecord.offsets.fullNat / 4

const FAMILIES = [4, 6] as const

/** Of the settings: how many of each family there are. */
export function fullNatWord(addresses: readonly FullNatAddress[]): number {
  const count = (family: 4 | 6): number =>
    addresses.filter(({ address }) => familyOf(address) === family).length
  return count(4) | (count(6) << PM_FULL_NAT_SHIFT)
}

const bytes = new Uint8Array(FullNatRecord.size)
const image = new Uint32Array(bytes.buffer)
const view = new DataView(bytes.buffer)

/**
 * Writes the records; they count from when the settings say how many there are. Whoever reads one meanwhile knows by
 * its version that it was not whole.
 */
export function writeFullNat(map: MapMemory, addresses: readonly FullNatAddress[]): void {
  for (const family of FAMILIES) {
    const first = family === 4 ? 0 : PM_FULL_NATS
    const own = addresses.filter(({ address }) => familyOf(address) === family)
    for (const [index, { address, ports }] of own.entries()) {
      bytes.fill(0)
      writeAddress(address, bytes, offsets.addr)
      FullNatRecord.setFirst(view, 0, ports.from)
      FullNatRecord.setPorts(view, 0, ports.to - ports.from + 1)
      writeRecord(map.u32, (first + index) * WORDS)
    }
  }
}

function writeRecord(u32: Uint32Array, base: number): void {
  const was = u32[base + VERSION]!
  if (isWhole(was) && image.every((word, i) => i === VERSION || u32[base + i] === word)) return
  const version = (was | 1) >>> 0
  Atomics.store(u32, base + VERSION, version)
  for (let i = 0; i < WORDS; i++) if (i !== VERSION) Atomics.store(u32, base + i, image[i]!)
  Atomics.store(u32, base + VERSION, (version + 1) >>> 0)
}

/** Odd: somebody is writing it, or has died at that. */
function isWhole(version: number): boolean {
  return version % 2 === 0
}

/** What an earlier director has left in force; one that died at it may have left an address twice. */
export function readFullNat(map: MapMemory, settings: MapMemory): readonly FullNatAddress[] {
  const counts = settings.u32[COUNT]!
  const found = FAMILIES.flatMap((family) => {
    const first = family === 4 ? 0 : PM_FULL_NATS
    const count = (counts >>> (family === 4 ? 0 : PM_FULL_NAT_SHIFT)) & PM_FULL_NAT_COUNT
    return Array.from({ length: Math.min(count, PM_FULL_NATS) }, (_, index): FullNatAddress[] => {
      const base = (first + index) * FullNatRecord.size
      const from = FullNatRecord.getFirst(map.view, base)
      const ports = FullNatRecord.getPorts(map.view, base)
      if (ports === 0 || !isWhole(FullNatRecord.getVersion(map.view, base))) return []
      const address = readAddress(map.bytes, base + offsets.addr, family)
      return [{ address, ports: { from, to: from + ports - 1 } }]
    }).flat()
  })
  return [...new Map(found.map((one) => [one.address, one])).values()]
}
