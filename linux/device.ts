/** What a data plane must know of a network interface, by ioctl: /sys shows another namespace's. */

import {
  AF_INET,
  DRVINFO_SIZE,
  ETHTOOL_GDRVINFO,
  IFF_UP,
  IFNAMSIZ,
  IFREQ_SIZE,
  SIOCETHTOOL,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFMTU,
  SOCK_DGRAM_CLOEXEC,
} from './abi.ts'
import { addressOf, check, Errno, errno, libc, SystemError } from './libc.ts'
import { MachineError } from './machine-error.ts'

export interface NetDevice {
  readonly name: string
  readonly ifindex: number
  readonly mac: Uint8Array
  /** Bytes of an IP packet. */
  readonly mtu: number
  readonly up: boolean
  /** Name of the kernel driver (`veth`, `virtio_net`, `802.1Q VLAN Support`), '' when it does not say. */
  readonly driver: string
}

/** Reads an interface of the calling thread's network namespace. */
export function readNetDevice(name: string): NetDevice {
  const encoded = Buffer.from(name)
  if (encoded.length === 0 || encoded.length >= IFNAMSIZ) {
    throw new MachineError(`No interface "${name}": expected a name of 1 to ${IFNAMSIZ - 1} bytes`)
  }
  const ifindex = libc.if_nametoindex(name)
  if (ifindex === 0) {
    throw new MachineError(`No interface "${name}" in this network namespace: see ip link`)
  }
  const socket = check(libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'open a socket')
  try {
    const ask = (request: number): DataView => {
      const ifreq = Buffer.alloc(IFREQ_SIZE)
      encoded.copy(ifreq)
      check(libc.ioctl(socket, request, ifreq), `read interface ${name}`)
      return new DataView(ifreq.buffer, ifreq.byteOffset + IFNAMSIZ, IFREQ_SIZE - IFNAMSIZ)
    }
    const hardware = ask(SIOCGIFHWADDR)
    return {
      name,
      ifindex,
      // struct sockaddr: family, then the address.
      mac: new Uint8Array(hardware.buffer, hardware.byteOffset + 2, 6).slice(),
      mtu: ask(SIOCGIFMTU).getInt32(0, true),
      up: (ask(SIOCGIFFLAGS).getUint16(0, true) & IFF_UP) !== 0,
      driver: readDriver(socket, encoded),
    }
  } finally {
    libc.close(socket)
  }
}

/** Name of the interface with this index in the calling thread's network namespace, null when it is gone. */
export function netDeviceName(ifindex: number): string | null {
  const name = Buffer.alloc(IFNAMSIZ)
  if (libc.if_indextoname(ifindex, name) === null) return null
  return name.toString('utf8', 0, name.indexOf(0))
}

/** Name of the driver of an interface (`veth`, `virtio_net`), '' where it does not say or is gone. */
export function driverOf(name: string): string {
  const socket = check(libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'open a socket')
  try {
    return readDriver(socket, Buffer.from(name))
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    return ''
  } finally {
    libc.close(socket)
  }
}

function readDriver(socket: number, name: Uint8Array): string {
  const info = Buffer.alloc(DRVINFO_SIZE)
  info.writeUInt32LE(ETHTOOL_GDRVINFO, 0)
  const ifreq = Buffer.alloc(IFREQ_SIZE)
  ifreq.set(name)
  ifreq.writeBigUInt64LE(addressOf(info), IFNAMSIZ)
  if (libc.ioctl(socket, SIOCETHTOOL, ifreq) < 0) {
    const number = errno()
    if (number === Errno.EOPNOTSUPP) return ''
    throw new SystemError(`read the driver of ${Buffer.from(name)}`, number)
  }
  const end = info.indexOf(0, 4)
  return info.toString('utf8', 4, Math.min(end < 0 ? 36 : end, 36))
}
