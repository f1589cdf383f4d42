/**
 * Attaching the packet program to traffic control at an interface: by a link where the kernel has
 * them (Linux 6.6), else as a filter, which stays until it is taken off.
 */
import { libbpf, takeLog } from '../../linux/libbpf.ts'
import { Errno, errno, libc } from '../../linux/libc.ts'
import { MachineError } from '../../linux/machine-error.ts'
import type { Link } from '../../linux/netlink/rtnetlink.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
import {
  packetProgramPlaces,
  readPacketProgram,
  removePacketProgram,
  setPacketProgram,
  type TcPlace,
} from '../../linux/netlink/traffic-control.ts'
import { DataplaneError } from '../dataplane.ts'

/** enum bpf_attach_type */
const TCX: Readonly<Record<TcPlace, number>> = { ingress: 46, egress: 47, relay: 46, beside: 46 }
const PLACES: readonly TcPlace[] = ['ingress', 'egress', 'relay', 'beside']
/** What `tc filter show` says of it. */
const FILTER_NAME = 'pointsman'

type Device = Pick<Link, 'name' | 'ifindex'>

/** A link of traffic control; null where the kernel has none. Throws `DataplaneError` where it refuses. */
export function linkTc(programFd: number, device: Device, place: TcPlace = 'ingress'): number | null {
  takeLog()
  const result = libbpf().bpf_link_create(programFd, device.ifindex, TCX[place], null)
  if (result >= 0) return result
  const number = result === -1 ? errno() : -result
  if (number === Errno.EINVAL || number === Errno.EOPNOTSUPP) return null
  throw new DataplaneError(refusal(device, `${libc.strerror(number)} (errno ${number})`, number))
}

/** A filter of ours, in place of an earlier one. */
export function putFilter(programFd: number, device: Device, place: TcPlace = 'ingress'): void {
  withSocket((socket) => {
    try {
      setPacketProgram(socket, device.ifindex, programFd, FILTER_NAME, place)
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      throw new DataplaneError(refusal(device, error.message, 0), { cause: error })
    }
  })
}

export function dropFilter(ifindex: number, place: TcPlace = 'ingress'): void {
  withSocket((socket) => removePacketProgram(socket, ifindex, place))
}

/** Of all interfaces of this network namespace; whether there was any. */
export function dropFilters(): boolean {
  return withSocket(
    (socket) =>
      packetProgramPlaces(socket).flatMap((ifindex) =>
        PLACES.filter((place) => removePacketProgram(socket, ifindex, place)),
      ).length > 0,
  )
}

/** The id of the program of our filter there, 0 where there is none. */
export function filterProgram(ifindex: number, place: TcPlace = 'ingress'): number {
  return withSocket((socket) => readPacketProgram(socket, ifindex, place)) ?? 0
}

function withSocket<T>(use: (socket: RequestSocket) => T): T {
  const socket = new RequestSocket()
  try {
    return use(socket)
  } finally {
    socket.close()
  }
}

function refusal({ name }: Device, reason: string, number: number): string {
  const remedy =
    number === Errno.EPERM
      ? 'it takes CAP_NET_ADMIN and CAP_BPF: run as root'
      : number === Errno.ENODEV
        ? 'the interface is gone: see ip link'
        : 'Linux 6.1 or newer with traffic control is expected; --dataplane userspace does without'
  return `Cannot attach to ${name} in traffic control: ${reason}; ${remedy}`
}
