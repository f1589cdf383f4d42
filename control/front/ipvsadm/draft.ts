/**
 * What a command line has said so far, and how each option's argument changes it.
 *
 * Options act in the order in which they are typed, as in the original: `-M` before an IPv6 `-t` is read
 * as an IPv4 mask and then forgotten, `-r` without a port takes the service's port if that is known yet.
 */

import type { Family, IpAddress } from '../../../net/address.ts'
import { ipv4ToNumber, isMulticast, parseIpv4, parseIpv6, unspecified } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import { INT_MAX, TIMEOUT_MAX_S, WHOLE_ADDRESS } from '../../model/limits.ts'
import type { ForwardingMethod } from '../../model/server.ts'
import {
  DEFAULT_PERSISTENCE_S,
  ENGINE_BYTES_MAX,
  NAME_BYTES_MAX,
  type ReaderName,
  type TunnelType,
} from './grammar.ts'
import type { Names } from './names.ts'
import { parseEndpoint, parseMask, parseNumber, parsePrefix } from './values.ts'

/** Largest UDP payload over IPv4: 65535 - 20 - 8 (RFC 768, RFC 791). */
const SYNC_MESSAGE_MAX = 65507

export interface Draft {
  /** null until a service is named. */
  protocol: Protocol | null
  /** 4 where nothing is known yet: a mask is then read as IPv4. */
  family: Family
  address: IpAddress
  port: number
  /** 0: no mark. */
  mark: number
  scheduler: string
  engine: string
  /** Seconds, 0 = not persistent. */
  persistenceTimeoutS: number
  netmask: number
  onePacket: boolean
  untracked: boolean
  /** Unread: flags can be judged only when the scheduler is known. */
  flags: string
  serverFamily: Family
  serverAddress: IpAddress
  serverPort: number
  method: ForwardingMethod
  weight: number
  upperThreshold: number
  lowerThreshold: number
  tunnelType: TunnelType
  tunnelPort: number
  tunnelChecksum: 'none' | 'csum' | 'remcsum'
  interface: string
  syncId: number
  group: IpAddress | undefined
  groupPort: number | undefined
  groupTtl: number | undefined
  maxLength: number | undefined
}

const NOWHERE = unspecified(4)

export function newDraft(): Draft {
  return {
    protocol: null,
    family: 4,
    address: NOWHERE,
    port: 0,
    mark: 0,
    scheduler: '',
    engine: '',
    persistenceTimeoutS: 0,
    netmask: WHOLE_ADDRESS[4],
    onePacket: false,
    untracked: false,
    flags: '',
    serverFamily: 4,
    serverAddress: NOWHERE,
    serverPort: 0,
    method: 'direct-routing',
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
    tunnelType: 'ipip',
    tunnelPort: 0,
    tunnelChecksum: 'none',
    interface: '',
    syncId: 0,
    group: undefined,
    groupPort: undefined,
    groupTtl: undefined,
    maxLength: undefined,
  }
}

/** Takes an option's argument into the draft; returns the message that refuses it, or null. */
type Reader = (draft: Draft, argument: string, value: string, names: Names) => string | null

/** A reader of plain numbers. */
function number(
  min: number,
  max: number,
  refusal: string,
  store: (draft: Draft, value: number) => void,
): Reader {
  return (draft, argument) => {
    const value = parseNumber(argument, min, max)
    if (value === null) return refusal
    store(draft, value)
    return null
  }
}

export const timeoutRefusal = (text: string): string => `invalid timeout value \`${text}' specified`

export const READERS: Readonly<Record<ReaderName, Reader>> = {
  service: (draft, argument, value, names) => {
    draft.protocol = value as Protocol
    const endpoint = parseEndpoint(argument, draft.protocol, names)
    if (endpoint === null) return 'illegal virtual server address[:port] specified'
    draft.family = endpoint.family
    draft.address = endpoint.address
    if (endpoint.family === 6) draft.netmask = WHOLE_ADDRESS[6]
    draft.port = endpoint.port ?? 0
    return null
  },
  fwmark: (draft, argument) => {
    const mark = parseNumber(argument, 1, 0xffffffff)
    if (mark === null) return `invalid fwmark value \`${argument}' specified`
    // The protocol only serves to look up the name of a real server's port.
    draft.protocol = 'tcp'
    draft.family = 4
    draft.mark = mark
    return null
  },
  server: (draft, argument, _value, names) => {
    const endpoint = parseEndpoint(argument, draft.protocol, names)
    if (endpoint === null) return 'illegal real server address[:port] specified'
    draft.serverFamily = endpoint.family
    draft.serverAddress = endpoint.address
    draft.serverPort = endpoint.port ?? draft.port
    return null
  },
  scheduler: (draft, argument) => {
    draft.scheduler = argument.slice(0, NAME_BYTES_MAX)
    return null
  },
  engine: (draft, argument) => {
    draft.engine = argument.slice(0, ENGINE_BYTES_MAX)
    return null
  },
  persistent: (draft, argument) => {
    const seconds = parseNumber(argument, 1, TIMEOUT_MAX_S)
    if (seconds === null) return timeoutRefusal(argument)
    draft.persistenceTimeoutS = seconds
    return null
  },
  netmask: (draft, argument) => {
    if (draft.family === 6) {
      const prefix = parsePrefix(argument)
      if (prefix === null) return 'illegal ipv6 netmask specified'
      draft.netmask = prefix
    } else {
      const mask = parseMask(argument)
      if (mask === null) return 'illegal virtual server persistent mask specified'
      draft.netmask = ipv4ToNumber(mask)
    }
    return null
  },
  onePacket: (draft) => {
    draft.onePacket = true
    return null
  },
  untracked: (draft) => {
    draft.untracked = true
    return null
  },
  schedulerFlags: (draft, argument) => {
    draft.flags = argument
    return null
  },
  method: (draft, _argument, value) => {
    draft.method = value as ForwardingMethod
    return null
  },
  weight: number(0, INT_MAX, 'illegal weight specified', (draft, value) => {
    draft.weight = value
  }),
  upperThreshold: number(0, INT_MAX, 'illegal u_threshold specified', (draft, value) => {
    draft.upperThreshold = value
  }),
  lowerThreshold: number(0, INT_MAX, 'illegal l_threshold specified', (draft, value) => {
    draft.lowerThreshold = value
  }),
  tunnelType: (draft, argument) => {
    if (argument !== 'ipip' && argument !== 'gue' && argument !== 'gre')
      return 'illegal tunnel type specified'
    draft.tunnelType = argument
    return null
  },
  tunnelPort: number(1, 65535, 'illegal tunnel port specified', (draft, value) => {
    draft.tunnelPort = value
  }),
  tunnelChecksum: (draft, _argument, value) => {
    draft.tunnelChecksum = value as Draft['tunnelChecksum']
    return null
  },
  interface: (draft, argument) => {
    draft.interface = argument.slice(0, NAME_BYTES_MAX)
    return null
  },
  syncId: number(0, 255, 'illegal syncid specified', (draft, value) => {
    draft.syncId = value
  }),
  group: (draft, argument) => {
    const family = argument.includes(':') ? 6 : 4
    const group = family === 6 ? parseIpv6(argument) : parseIpv4(argument)
    if (group === null || !isMulticast(group)) return `invalid IPv${family} mcast-group \`${argument}'`
    draft.group = group
    return null
  },
  groupPort: number(1, 65535, 'illegal mcast-port specified', (draft, value) => {
    draft.groupPort = value
  }),
  groupTtl: number(1, 255, 'illegal mcast-ttl specified', (draft, value) => {
    draft.groupTtl = value
  }),
  maxLength: number(1, SYNC_MESSAGE_MAX, 'illegal sync-maxlen specified', (draft, value) => {
    draft.maxLength = value
  }),
}

/** `-p` without a value. */
export function persistByDefault(draft: Draft): void {
  draft.persistenceTimeoutS = DEFAULT_PERSISTENCE_S
}
