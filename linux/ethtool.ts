/** Offload switches of network interfaces (ethtool's ioctl). */
import { AF_INET, IFNAMSIZ, IFREQ_SIZE, SIOCETHTOOL, SOCK_DGRAM_CLOEXEC } from './abi.ts'
import { addressOf, errno, libc, SystemError } from './libc.ts'

/** <linux/ethtool.h> */
const COMMANDS = { receiveChecksum: 0x14, transmitChecksum: 0x16, tso: 0x1e, gso: 0x23, gro: 0x2b } as const
const SWITCHES = { transmitChecksum: 0x17, tso: 0x1f, gso: 0x24, gro: 0x2c } as const
const ETHTOOL_GFLAGS = 0x25
const ETH_FLAG_RXVLAN = 1 << 8
const ETH_FLAG_LRO = 1 << 15

export interface Offloads {
  /** null: the driver has no such switch. */
  readonly receiveChecksum: boolean | null
  readonly transmitChecksum: boolean | null
  readonly gro: boolean | null
  readonly lro: boolean | null
  /** Packets leave longer than the MTU, for something behind to cut (TSO, GSO). */
  readonly segmentation: boolean | null
  /** Tags are taken off received frames. */
  readonly receiveVlan: boolean | null
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
      segmentation: either(on(COMMANDS.tso), on(COMMANDS.gso)),
      receiveVlan: flags === null ? null : (flags & ETH_FLAG_RXVLAN) !== 0,
    }
  })
}

/** Sets switches of an interface; those that the driver does not have stay as they are. */
export function setOffloads(
  name: string,
  wanted: Readonly<Partial<Record<keyof typeof SWITCHES, boolean>>>,
): void {
  withSocket((socket) => {
    for (const [key, command] of Object.entries(SWITCHES)) {
      const on = wanted[key as keyof typeof SWITCHES]
      if (on === undefined) continue
      const request = Buffer.alloc(8)
      request.writeUInt32LE(command, 0)
      request.writeUInt32LE(on ? 1 : 0, 4)
      ask(socket, name, request)
    }
  })
}

function either(a: boolean | null, b: boolean | null): boolean | null {
  return a === null && b === null ? null : a === true || b === true
}
