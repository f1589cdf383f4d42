/**
 * Attributes as IPVS reads and writes them: what is too short counts as absent where it is needed, what is
 * longer than needed is cut, what is unknown is passed over (docs/spec/netlink.md).
 */

import {
  decodeAttributes,
  encodeAttributes,
  type NetlinkAttribute,
  u32Of,
  u32Value,
  viewOf,
} from '../../../linux/netlink/message.ts'
import { addressToBytes, type Family, type IpAddress, readAddress } from '../../../net/address.ts'

const ADDRESS_BYTES = 16

/** The attributes of a message or of a nest, each null where it is absent or too short. */
export class Attributes {
  readonly #byType: ReadonlyMap<number, Uint8Array>

  constructor(bytes: Uint8Array, offset = 0) {
    this.#byType = decodeAttributes(bytes, offset)
  }

  nest(type: number): Attributes | null {
    const value = this.#byType.get(type)
    return value === undefined ? null : new Attributes(value)
  }

  has(type: number): boolean {
    return this.#byType.has(type)
  }

  u8(type: number): number | null {
    return this.#byType.get(type)?.[0] ?? null
  }

  u16(type: number): number | null {
    return this.#number(type, 2, (view) => view.getUint16(0, true))
  }

  u16BigEndian(type: number): number | null {
    return this.#number(type, 2, (view) => view.getUint16(0))
  }

  u32(type: number): number | null {
    return u32Of(this.#byType.get(type))
  }

  u32BigEndian(type: number): number | null {
    return this.#number(type, 4, (view) => view.getUint32(0))
  }

  /** Of up to 16 bytes; what is not there is zero. */
  address(type: number, family: Family): IpAddress | null {
    const value = this.#byType.get(type)
    if (value === undefined) return null
    const whole = new Uint8Array(ADDRESS_BYTES)
    whole.set(value.subarray(0, ADDRESS_BYTES))
    return readAddress(whole, 0, family)
  }

  /** Flags, and which of them are said. */
  flagWords(type: number): { readonly flags: number; readonly mask: number } | null {
    const value = this.#byType.get(type)
    if (value === undefined || value.length < 8) return null
    return { flags: viewOf(value).getUint32(0, true), mask: viewOf(value).getUint32(4, true) }
  }

  text(type: number): string | null {
    const value = this.#byType.get(type)
    return value === undefined ? null : Buffer.from(value).toString('latin1').replace(/\0.*$/s, '')
  }

  #number(type: number, size: number, read: (view: DataView) => number): number | null {
    const value = this.#byType.get(type)
    return value === undefined || value.length < size ? null : read(viewOf(value))
  }
}

export const u8 = (type: number, value: number): NetlinkAttribute => ({ type, value: Uint8Array.of(value) })

export const u16 = (type: number, value: number): NetlinkAttribute => ({
  type,
  value: Uint8Array.of(value & 0xff, (value >> 8) & 0xff),
})

export const u16BigEndian = (type: number, value: number): NetlinkAttribute => ({
  type,
  value: Uint8Array.of((value >> 8) & 0xff, value & 0xff),
})

export const u32 = (type: number, value: number): NetlinkAttribute => ({ type, value: u32Value(value >>> 0) })

export function u32BigEndian(type: number, number: number): NetlinkAttribute {
  const value = new Uint8Array(4)
  viewOf(value).setUint32(0, number >>> 0)
  return { type, value }
}

export function u64(type: number, number: bigint): NetlinkAttribute {
  const value = new Uint8Array(8)
  viewOf(value).setBigUint64(0, BigInt.asUintN(64, number), true)
  return { type, value }
}

export const text = (type: number, value: string): NetlinkAttribute => ({
  type,
  value: Buffer.from(`${value}\0`, 'latin1'),
})

/** Always 16 bytes: those of IPv4 are the first four. */
export function address(type: number, value: IpAddress): NetlinkAttribute {
  const bytes = new Uint8Array(ADDRESS_BYTES)
  bytes.set(addressToBytes(value))
  return { type, value: bytes }
}

export const nest = (type: number, attributes: readonly NetlinkAttribute[]): NetlinkAttribute => ({
  type,
  value: encodeAttributes(attributes),
})
