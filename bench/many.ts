/** Ten thousand services of ten real servers: their names, and whether packets reach one of them. */
import { Pins } from '../dataplane/kernel/pins.ts'
import { testRun, XdpAction } from '../dataplane/kernel/test-run.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { readNetDevice } from '../linux/device.ts'
import { libc } from '../linux/libc.ts'
import { DIRECTOR } from './network.ts'
import { fromClients } from './traffic.ts'

export const SERVICES = 10_000
export const SERVERS_PER_SERVICE = 10
export const REAL_SERVERS = SERVICES * SERVERS_PER_SERVICE

/** Virtual services 10.96.0.0/16, real servers in 10.64.0.0/12: behind one gateway, all different. */
export function serviceAt(index: number): string {
  return `10.96.${index >> 8}.${index & 255}:80`
}

export function serverAt(service: number, index: number): string {
  const number = service * SERVERS_PER_SERVICE + index
  return `10.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}:8080`
}

/** Asks the pinned packet program with a SYN to one service, of another client port each time. */
export class Forwarded {
  readonly #program = new Pins(defaultPinDirectory()).openProgram()
  readonly #ifindex = readNetDevice(DIRECTOR.client.device).ifindex
  readonly #frame: Uint8Array
  readonly #port: DataView
  readonly #addressOffset: number

  constructor(service: string) {
    const [address, port] = service.split(':') as [string, string]
    const { frame, portOffset, addressOffset } = fromClients({ address, port: Number(port) }, { flags: 'S' })
    this.#frame = frame
    this.#addressOffset = addressOffset
    this.#port = new DataView(frame.buffer, frame.byteOffset + portOffset, 2)
  }

  seen(): boolean {
    // What has been forwarded is a connection, which goes on where new ones are refused.
    this.#port.setUint16(0, (this.#port.getUint16(0) % 65_535) + 1)
    const { action, frame } = testRun(this.#program, this.#frame, { ifindex: this.#ifindex })
    // An ICMP error goes out, too: from the virtual address.
    return action === XdpAction.Redirect && this.#sourceOf(frame) === this.#sourceOf(this.#frame)
  }

  #sourceOf(frame: Uint8Array): number {
    return new DataView(frame.buffer, frame.byteOffset).getUint32(this.#addressOffset)
  }

  close(): void {
    libc.close(this.#program)
  }
}
