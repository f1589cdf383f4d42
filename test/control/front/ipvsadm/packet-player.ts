/**
 * Plays recorded sessions in which clients send packets: `ipvsadm` in process, on rules that the packet program itself
 * goes by, in wasm or in the kernel. Packets enter on the clients' wire, and the real servers of the recording answer
 * on theirs: everybody but 10.1.0.99.
 */
import { readFileSync } from 'node:fs'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { builtFile } from '../../../../dataplane/assets.ts'
import type { Dataplane, Sizes } from '../../../../dataplane/dataplane.ts'
import { putInterface } from '../../../../dataplane/interface-table.ts'
import { KernelDataplane } from '../../../../dataplane/kernel/plane.ts'
import { openWasm } from '../../../../dataplane/userspace/wasm-file.ts'
import type { NextHop, NextHopLookup } from '../../../../dataplane/wasm/program.ts'
import { possibleCpus } from '../../../../linux/cpus.ts'
import { awaitLocal, ip as command, enterPrivateNetwork, sysctl } from '../../../dataplane/private-network.ts'
import { MAC } from '../../../packets/bench.ts'
import { DEVICES } from '../../../packets/bench-host.ts'
import { be16, ipText, macBytes } from '../../../packets/bytes.ts'
import { DirectorUnderTest } from '../../../packets/director-under-test.ts'
import { ethernet, ip, type Segment, tcp, udp } from '../../../packets/frame.ts'
import { interfaceIndex } from '../../../packets/libc.ts'
import { attachPassProgram } from '../../../packets/pass-program.ts'
import { kernelSender, type ProgramAnswer, wasmSender } from '../../../packets/programs.ts'
import type { Wire } from '../../../packets/vectors.ts'
import { VECTOR_SIZES } from '../../../packets/wasm-host.ts'
import { type Player, playAll, type Result } from './play.ts'
import type { Output, Recording, Traffic } from './scenario.ts'

/** Each is reached by the MAC address with its last byte. */
const REALS = [1, 2, 3, 99]
const REAL4 = (n: number): string => `10.1.0.${n}`
const REAL6 = (n: number): string => `2001:db8:1::${n}`
const macOf = (n: number): string => `02:00:00:00:02:${String(n).padStart(2, '0')}`
const SILENT = REAL4(99)
const ROUTERS = { ipv4: '192.0.2.2', ipv6: '2001:db8:c0::2' } as const

interface End {
  readonly address: string
  readonly port: number
}

/** To whom a frame without VLAN tags and extension headers goes. */
function destinationOf(frame: Uint8Array): End {
  const six = be16(frame, 12) === 0x86dd
  const [address, length, port] = six ? [14 + 24, 16, 14 + 40 + 2] : [14 + 16, 4, 14 + 20 + 2]
  return { address: ipText(frame.subarray(address, address + length)), port: be16(frame, port) }
}

type Links = Readonly<Record<(typeof DEVICES)[number], { readonly ifindex: number; readonly mtu: number }>>

export class PacketPlayer implements Player {
  readonly programs = ['ipvsadm', 'iptables']
  readonly #dataplane: Dataplane
  readonly #send: (wire: Wire, frame: Uint8Array) => ProgramAnswer
  readonly #director: DirectorUnderTest
  readonly #release: () => void

  constructor(
    recording: Recording,
    plane: {
      readonly dataplane: Dataplane
      readonly links: Links
      readonly send: (wire: Wire, frame: Uint8Array) => ProgramAnswer
      readonly release?: () => void
    },
  ) {
    this.#dataplane = plane.dataplane
    this.#send = plane.send
    this.#release = plane.release ?? (() => {})
    const interfaces = DEVICES.map((name) => ({ name, ...plane.links[name], mac: macBytes(MAC[name]) }))
    for (const one of interfaces) putInterface(this.#dataplane, one)
    const { hosts } = recording.environment
    const services = readFileSync('/etc/services', 'latin1')
    this.#director = new DirectorUnderTest(
      this.#dataplane,
      fixedHost({ interfaces: interfaces.map((one) => ({ ...one, up: true, addresses: [] })) }),
      () => namesFrom(hosts, services),
    )
  }

  async reset(): Promise<void> {
    await this.#director.reset()
  }

  async run(argv: readonly string[]): Promise<Output> {
    if (argv[0] === 'iptables') return await this.#mark(argv.slice(1))
    const { rc, stdout, stderr } = await this.#director.run(argv)
    return { status: rc, stdout, stderr }
  }

  /** The recording's clients were on its director; here they come by an interface. The last rule marks. */
  async #mark([option, table, ...words]: readonly string[]): Promise<Output> {
    if (option !== '-t' || table !== 'mangle' || words[1] !== 'OUTPUT')
      throw new Error(`Cannot run iptables ${[option, table, ...words].join(' ')}`)
    const line = words.map((word) => (word === 'OUTPUT' ? 'PREROUTING' : word)).join(' ')
    await this.#director.importMarks(`*mangle\n${line}\nCOMMIT\n`)
    return { status: 0, stdout: '', stderr: '' }
  }

  send(traffic: Traffic): void {
    if (traffic.proto === 'udp') this.#datagrams(traffic)
    else this.#connection(traffic, traffic.action)
  }

  #datagrams(traffic: Extract<Traffic, { proto: 'udp' }>): void {
    const payload = traffic.payload ?? 'x'.repeat(traffic.size ?? 0)
    for (let n = 0; n < (traffic.count ?? 1); n++) {
      const server = this.#request(traffic, udp({ sport: traffic.sport, dport: traffic.dport }, payload))
      if (traffic.reply !== true) continue
      if (server === null) throw new Error('A datagram that is to be answered was not forwarded')
      this.#reply(traffic, server, udp({ sport: server.port, dport: traffic.sport }, payload))
    }
  }

  #connection(traffic: Traffic, action: 'syn' | 'establish' | 'close'): void {
    const ports = { sport: traffic.sport, dport: traffic.dport }
    const asks = (flags: string, seq: number, ack?: number) =>
      this.#request(traffic, tcp({ ...ports, flags, seq, ...(ack === undefined ? {} : { ack }) }))
    const server = asks('S', 1000)
    if (server === null || server.address === SILENT || action === 'syn') return
    const answers = (flags: string, seq: number, ack: number) =>
      this.#reply(traffic, server, tcp({ sport: server.port, dport: traffic.sport, flags, seq, ack }))
    answers('SA', 5000, 1001)
    asks('A', 1001, 5001)
    if (action === 'establish') return
    asks('FA', 1001, 5001)
    answers('FA', 5001, 1002)
    asks('A', 1002, 5002)
  }

  /** To whom the director sends it on; null: to nobody. */
  #request({ src, dst }: Traffic, segment: Segment): End | null {
    const packet = ip({ src, dst, ttl: 64 }, segment)
    const { action, wire, frame } = this.#send('c', ethernet({ src: MAC.clientRouter, dst: MAC.c0 }, packet))
    return action === 'send' && wire === 'r' ? destinationOf(frame) : null
  }

  #reply({ src }: Traffic, server: End, segment: Segment): void {
    const packet = ip({ src: server.address, dst: src, ttl: 64 }, segment)
    const { verdict } = this.#send('r', ethernet({ src: macOf(1), dst: MAC.r0 }, packet))
    if (verdict !== 'forward_nat_reply') throw new Error(`An answer of ${server.address} ended as ${verdict}`)
  }

  async close(): Promise<void> {
    await this.#director.close()
    await this.#dataplane.close()
    this.#release()
  }
}

export function openWasmPlayer(recording: Recording): PacketPlayer {
  const links: Links = { c0: { ifindex: 2, mtu: 1500 }, r0: { ifindex: 3, mtu: 1500 } }
  const hops = new Map(
    REALS.flatMap((n) => [REAL4(n), REAL6(n)].map((address) => [address, macOf(n)] as const)),
  )
  const fib: NextHopLookup = ({ family, daddr }): NextHop => {
    const mac = hops.get(ipText(daddr.subarray(0, family === 4 ? 4 : 16)))
    const device = mac === undefined ? 'c0' : 'r0'
    const dmac = macBytes(mac ?? MAC.clientRouter)
    return { result: 'ok', ...links[device], dmac, smac: macBytes(MAC[device]) }
  }
  const dataplane = openWasm({ sizes: VECTOR_SIZES, wasmPath: builtFile('pointsman.wasm'), fib })
  return new PacketPlayer(recording, { dataplane, links, send: wasmSender(dataplane, links) })
}

/** Moves the calling process into a network namespace of its own for good; needs root. */
export async function openKernelPlayer(recording: Recording): Promise<PacketPlayer> {
  enterPrivateNetwork()
  for (const path of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) sysctl(`net/${path}`, 1)
  for (const device of DEVICES) {
    command(`link add ${device} address ${MAC[device]} type veth peer name far-${device}`)
    command(`link set far-${device} up`)
    command(`link set ${device} up`)
  }
  for (const address of ['192.0.2.1/24', '2001:db8:c0::1/64 nodad']) command(`addr add ${address} dev c0`)
  for (const address of ['10.1.0.254/24', '2001:db8:1::fe/64 nodad']) command(`addr add ${address} dev r0`)
  awaitLocal(['2001:db8:c0::1', '2001:db8:1::fe'])
  for (const router of Object.values(ROUTERS)) {
    command(`neigh replace ${router} lladdr ${MAC.clientRouter} dev c0 nud permanent`)
    command(`route add default via ${router} dev c0`)
  }
  for (const n of REALS)
    for (const address of [REAL4(n), REAL6(n)])
      command(`neigh replace ${address} lladdr ${macOf(n)} dev r0 nud permanent`)
  // BPF_PROG_TEST_RUN takes a receiving interface only while its queues run NAPI.
  const programs = DEVICES.map((device) => attachPassProgram(device))
  const sizes: Sizes = { ...VECTOR_SIZES, cpus: possibleCpus() }
  const dataplane = await KernelDataplane.open({ sizes, pinDirectory: null })
  const links: Links = {
    c0: { ifindex: interfaceIndex('c0'), mtu: 1500 },
    r0: { ifindex: interfaceIndex('r0'), mtu: 1500 },
  }
  return new PacketPlayer(recording, {
    ...{ dataplane, links, send: kernelSender(dataplane, links) },
    release: () => {
      for (const program of programs) program.close()
    },
  })
}

/** Those of the recording's scenarios, all of which send packets. */
export async function playWithPackets(
  recording: Recording,
  open: (recording: Recording) => PacketPlayer | Promise<PacketPlayer>,
  report: (result: Result) => void,
): Promise<Result[]> {
  const player = await open(recording)
  try {
    return await playAll(recording, player, report)
  } finally {
    await player.close()
  }
}
