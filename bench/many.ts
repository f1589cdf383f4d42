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

/** Asks the pinned packet program with a SYN to one service. */
export class Forwarded {
  readonly #program = new Pins(defaultPinDirectory()).openProgram()
  readonly #ifindex = readNetDevice(DIRECTOR.client.device).ifindex
  readonly #frame: Uint8Array

  constructor(service: string) {
    const [address, port] = service.split(':') as [string, string]
    this.#frame = fromClients({ address, port: Number(port) }, { flags: 'S' }).frame
  }

  seen(): boolean {
    return testRun(this.#program, this.#frame, { ifindex: this.#ifindex }).action === XdpAction.Redirect
  }

  close(): void {
    libc.close(this.#program)
  }
}
