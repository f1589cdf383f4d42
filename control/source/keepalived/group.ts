/** Members of a virtual_server_group: addresses, ranges of them, firewall marks. */
import {
  addressWords,
  type Family,
  familyOf,
  type IpAddress,
  ipv4FromNumber,
  ipv4ToNumber,
  parseAddress,
} from '../../../net/address.ts'
import type { Statement } from './blocks.ts'
import { readPort } from './methods.ts'
import type { Remarks } from './settings.ts'

export type Member =
  | {
      readonly kind: 'address'
      readonly address: IpAddress
      readonly family: Family
      readonly port: number | null
    }
  /** `family` null: that of the real servers. */
  | { readonly kind: 'fwmark'; readonly mark: number; readonly family: Family | null }

/** Of one line; each is a service of its own. */
const RANGE_MAX = 4096
const MARK_MAX = 0xffffffff

export function groupMembers(group: Statement, remarks: Remarks): readonly Member[] {
  return group.inside.flatMap((entry) => members(entry, remarks))
}

function members(entry: Statement, remarks: Remarks): readonly Member[] {
  const [first = '', second, third] = entry.words
  if (first === 'fwmark') {
    const mark = /^\d+$/.test(second ?? '') ? Number(second) : Number.NaN
    if (!(mark > 0 && mark <= MARK_MAX)) {
      remarks.remark(entry.at, `fwmark: expected 1 to ${MARK_MAX}, got "${second ?? ''}"`)
      return []
    }
    return [{ kind: 'fwmark', mark, family: third === 'inet6' ? 6 : third === 'inet' ? 4 : null }]
  }
  const addresses = range(first)
  if (addresses === null) {
    remarks.remark(entry.at, `"${first}" is neither an address nor a range of at most ${RANGE_MAX}`)
    return []
  }
  const port = second === undefined ? 0 : readPort(second)
  if (Number.isNaN(port)) {
    remarks.remark(entry.at, `"${second}" is no port, expected 1 to 65535`)
    return []
  }
  return addresses.map((address) => ({
    kind: 'address',
    address,
    family: familyOf(address),
    port: port === 0 ? null : port,
  }))
}

/** `A`, `A-LAST`, `A-B` or `A/PREFIX`. */
function range(text: string): readonly IpAddress[] | null {
  const [, firstText, sign, rest] = /^([0-9a-fA-F.:]+)(?:([-/])([0-9a-fA-F.:]+))?$/.exec(text) ?? []
  const first = parseAddress(firstText ?? '')
  if (first === null) return null
  if (sign === undefined || rest === undefined) return [first]
  const family = familyOf(first)
  const begin = numberOf(first)
  const bits = family === 4 ? 32 : 128
  if (sign === '/') {
    const prefix = /^\d+$/.test(rest) ? Number(rest) : -1
    if (prefix < 1 || prefix > bits) return null
    const size = 1n << BigInt(bits - prefix)
    return between((begin / size) * size, size, family)
  }
  const other = parseAddress(rest)
  const end = other === null ? lastPart(first, rest) : familyOf(other) === family ? numberOf(other) : null
  return end === null || end < begin ? null : between(begin, end - begin + 1n, family)
}

/** `10.0.0.1-5` ends in .5, `fe80::1-5` in ::5. */
function lastPart(first: IpAddress, text: string): bigint | null {
  const six = first.includes(':')
  if (!(six ? /^[0-9a-fA-F]{1,4}$/ : /^\d{1,3}$/).test(text)) return null
  const last = BigInt(six ? `0x${text}` : text)
  const size = six ? 0x10000n : 0x100n
  return last < size ? (numberOf(first) / size) * size + last : null
}

function between(begin: bigint, count: bigint, family: Family): readonly IpAddress[] | null {
  if (count > BigInt(RANGE_MAX)) return null
  return Array.from({ length: Number(count) }, (_, i) => addressOf(begin + BigInt(i), family))
}

function numberOf(address: IpAddress): bigint {
  if (familyOf(address) === 4) return BigInt(ipv4ToNumber(address))
  return addressWords(address).reduce((sum, word) => (sum << 32n) | BigInt(word), 0n)
}

function addressOf(value: bigint, family: Family): IpAddress {
  if (family === 4) return ipv4FromNumber(Number(value))
  const digits = value.toString(16).padStart(32, '0')
  return parseAddress(digits.match(/.{4}/g)!.join(':'))!
}
