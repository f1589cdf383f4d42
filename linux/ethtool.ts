/** Offload switches of network interfaces (ethtool's ioctl), for `pointsman doctor`. */
import {
  AF_INET,
  DRVINFO_SIZE,
  ETHTOOL_GDRVINFO,
  IFNAMSIZ,
  IFREQ_SIZE,
  SIOCETHTOOL,
  SOCK_DGRAM_CLOEXEC,
} from './abi.ts'
import { addressOf, errno, libc, SystemError } from './libc.ts'

/** <linux/ethtool.h> */
const COMMANDS = { receiveChecksum: 0x14, transmitChecksum: 0x16, gro: 0x2b } as const
const ETHTOOL_GFLAGS = 0x25
const ETH_FLAG_LRO = 1 << 15
const ETHTOOL_GSTATS = 0x1d
const DRVINFO_STATISTICS = 180

export interface Offloads {
  /** null: the driver has no such switch. */
  readonly receiveChecksum: boolean | null
  readonly transmitChecksum: boolean | null
  readonly gro: boolean | null
  readonly lro: boolean | null
}

function ask(socket: number, name: string, request: Buffer): boolean {
  const ifreq = Buffer.alloc(IFREQ_SIZE)
  ifreq.write(name, 0, IFNAMSIZ - 1)
  ifreq.writeBigUInt64LE(addressOf(request), IFNAMSIZ)
  return libc.ioctl(socket, SIOCETHTOOL, ifreq) >= 0
}

function withSocket<T>(action: (socket: number) => T): T {
  const socket = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0)
  if (socket < 0) throw new SystemError('open a socket', errno())
  try {
    return action(socket)
  } finally {
    libc.close(socket)
  }
}

/** The switches of an interface in the calling thread's network namespace. */
export function readOffloads(name: string): Offloads {
  return withSocket((socket) => {
    const value = (command: number): number | null => {
      const request = Buffer.alloc(8)
      request.writeUInt32LE(command, 0)
      return ask(socket, name, request) ? request.readUInt32LE(4) : null
    }
    const on = (command: number): boolean | null => {
      const number = value(command)
      return number === null ? null : number !== 0
    }
    const flags = value(ETHTOOL_GFLAGS)
    return {
      receiveChecksum: on(COMMANDS.receiveChecksum),
      transmitChecksum: on(COMMANDS.transmitChecksum),
      gro: on(COMMANDS.gro),
      lro: flags === null ? null : (flags & ETH_FLAG_LRO) !== 0,
    }
  })
}

/** Index of the other end of a veth pair (its first statistic), in whatever namespace that is. */
export function readVethPeer(name: string): number | null {
  return withSocket((socket) => {
    const info = Buffer.alloc(DRVINFO_SIZE)
    info.writeUInt32LE(ETHTOOL_GDRVINFO, 0)
    if (!ask(socket, name, info)) return null
    // Newer kernels fill in nothing unless the room is exactly right.
    const count = info.readUInt32LE(DRVINFO_STATISTICS)
    if (count === 0) return null
    const request = Buffer.alloc(8 + 8 * count)
    request.writeUInt32LE(ETHTOOL_GSTATS, 0)
    request.writeUInt32LE(count, 4)
    if (!ask(socket, name, request) || request.readUInt32LE(4) === 0) return null
    return Number(request.readBigUInt64LE(8))
  })
}
