/** Forwarding methods and endpoints in keepalived's words. */
import { type Family, familyOf, type IpAddress, parseAddress } from '../../../net/address.ts'
import type { ForwardingMethod, Tunnel } from '../../model/server.ts'
import type { Statement } from './blocks.ts'
import type { Remarks } from './settings.ts'

export interface Method {
  readonly method: ForwardingMethod
  readonly tunnel: Tunnel
}

export const NAT: Method = { method: 'nat', tunnel: { type: 'ipip' } }

const METHODS: Readonly<Record<string, ForwardingMethod>> = {
  NAT: 'nat',
  DR: 'direct-routing',
  TUN: 'tunnel',
}
const CHECKSUMS: Readonly<Record<string, 'none' | 'csum' | 'remcsum'>> = {
  nocsum: 'none',
  csum: 'csum',
  remcsum: 'remcsum',
}

/** `NAT`, `DR`, `TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]`; null: it is none. */
export function readMethod(statement: Statement | null, remarks: Remarks): Method | null {
  if (statement === null) return null
  const [name, word = '', ...options] = statement.words
  const method = Object.hasOwn(METHODS, word) ? METHODS[word]! : null
  if (method === null) {
    remarks.remark(statement.at, `${name}: unknown method "${word}", expected NAT, DR or TUN`)
    return null
  }
  if (method !== 'tunnel' || options.length === 0) return { method, tunnel: { type: 'ipip' } }
  const refused = (what: string): null => {
    remarks.remark(statement.at, `${name}: ${what}`)
    return null
  }
  let type = 'ipip'
  let port = 0
  let checksum: 'none' | 'csum' | 'remcsum' = 'none'
  for (let i = 0; i < options.length; i++) {
    const option = options[i]!
    if (option === 'type') type = options[++i] ?? ''
    else if (option === 'port') port = Number(options[++i])
    else if (Object.hasOwn(CHECKSUMS, option)) checksum = CHECKSUMS[option]!
    else return refused(`unknown tunnel option "${option}"`)
  }
  switch (type) {
    case 'ipip':
      return { method, tunnel: { type } }
    case 'gue':
      if (!Number.isInteger(port) || port < 1 || port > 65535) return refused('a GUE tunnel wants a port')
      return { method, tunnel: { type, port, checksum } }
    case 'gre':
      if (checksum === 'remcsum') return refused('a GRE tunnel has no remcsum')
      return { method, tunnel: { type, checksum } }
    default:
      return refused(`unknown tunnel type "${type}", expected ipip, gue or gre`)
  }
}

export interface Where {
  readonly address: IpAddress
  readonly family: Family
  /** null: none is said. */
  readonly port: number | null
}

/** An address and perhaps a port; `what` is for the remark that it is none. */
export function readWhere(
  [addressText = '', portText]: readonly (string | undefined)[],
  statement: Statement,
  what: string,
  remarks: Remarks,
): Where | null {
  const address = parseAddress(addressText)
  if (address === null) {
    remarks.remark(statement.at, `${what}: "${addressText}" is no address; it is passed over`)
    return null
  }
  const port = portText === undefined ? null : readPort(portText)
  if (port !== null && Number.isNaN(port)) {
    remarks.remark(statement.at, `${what}: "${portText}" is no port, expected 1 to 65535; it is passed over`)
    return null
  }
  return { address, family: familyOf(address), port: port === 0 ? null : port }
}

/** NaN if it is none. */
export function readPort(text: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : Number.NaN
  return port <= 65535 ? port : Number.NaN
}
