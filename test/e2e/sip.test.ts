/**
 * Calls of SIP over real sockets: whichever port or neighbour a call comes from, one real server has it, while the
 * daemon is killed and started too; and who calls a client is called back by it.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { typescript } from '../../lab/client.ts'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace, ipBatch } from '../../lab/namespace.ts'
import { type AddressFamily, endpoint, FAMILIES, hostNamed, topology } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'
import type { Heard, Order, Place } from './sip-phone.ts'

const PHONE = fileURLToPath(new URL('./sip-phone.ts', import.meta.url))
const PORT = 5060
const PATIENCE_MS = 60_000
const SERVERS = ['rs1', 'rs2'] as const
const CALLS = ['one@lab', 'two@lab', 'three@lab', 'four@lab'] as const
/** Beside the client, under the mask of the service. */
const NEIGHBOUR = { ipv4: '192.0.2.51', ipv6: '2001:db8:1::51' } as const
const MASK = { ipv4: '255.255.255.0', ipv6: '64' } as const

const at = (address: string, port = PORT): Place => ({ address, port })
const virtual = (family: AddressFamily): Place => at(topology.virtual.nat[family])
const real = (name: string, family: AddressFamily): Place => at(hostNamed(name).servers![family])
const client = (family: AddressFamily): string => hostNamed('client').clients[family]

class Phone {
  readonly heard: Heard[] = []
  readonly #child: ChildProcess
  #ready = false

  constructor(lab: Lab, host: string, places: readonly Place[]) {
    const words = typescript(PHONE, [host, JSON.stringify(places)])
    const [program, ...args] = inNamespace(lab.prefix + host, words)
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface(this.#child.stdout!).on('line', (line) => {
      if (line === 'ready') this.#ready = true
      else this.heard.push(JSON.parse(line) as Heard)
    })
  }

  async ready(): Promise<void> {
    await until('a telephone to listen', PATIENCE_MS, () => (this.#ready ? true : undefined))
  }

  call(order: Order): void {
    this.#child.stdin!.write(`${JSON.stringify(order)}\n`)
  }

  /** The next that is so, of what comes from now on. */
  hears(what: string, is: (heard: Heard) => boolean): Promise<Heard> {
    const from = this.heard.length
    return until(what, PATIENCE_MS, () => this.heard.slice(from).find(is))
  }

  end(): void {
    this.#child.stdin!.end()
  }
}

function scene(lab: Lab, phone: Phone, servers: ReadonlyMap<string, Phone>) {
  let port = 20_000

  /** Who answers a call, from a port that nothing came from before. */
  async function served(family: AddressFamily, call: string, address = client(family)): Promise<string> {
    const from = at(address, ++port)
    const answer = phone.hears(
      `an answer to ${call}`,
      (heard) => heard.what === 'answer' && heard.at.port === from.port,
    )
    phone.call({ from, to: virtual(family), call })
    const { name, from: source } = await answer
    assert.deepEqual(source, virtual(family))
    return name
  }

  async function stay(
    family: AddressFamily,
    homes: ReadonlyMap<string, string>,
    when: string,
  ): Promise<void> {
    for (const [call, home] of homes)
      for (const address of [client(family), NEIGHBOUR[family]])
        assert.equal(await served(family, call, address), home, `${call} of ${address}, ${when}`)
  }

  /** A real server calls the client, which sees the virtual address, and whose calls under that name come to it. */
  async function calledBack(family: AddressFamily, name: string): Promise<void> {
    const call = `${name}-${family}-out@lab`
    const server = servers.get(name)!
    const rings = phone.hears(`a call of ${name}`, (heard) => heard.what === 'INVITE' && heard.call === call)
    const answered = server.hears(
      `an answer to ${name}`,
      (heard) => heard.what === 'answer' && heard.call === call,
    )
    server.call({ from: real(name, family), to: at(client(family)), call })
    const { from } = await rings
    assert.deepEqual(from, virtual(family))
    await answered
    for (const address of [client(family), NEIGHBOUR[family]])
      assert.equal(await served(family, call, address), name, `${call} of ${address}`)
  }

  return async (t: TestContext, restart: () => Promise<void>): Promise<void> => {
    for (const family of FAMILIES) {
      const words = `-u ${endpoint(virtual(family).address, PORT)}`
      await lab.director.restore([
        `-A ${words} -s rr -p 600 -M ${MASK[family]} --pe sip`,
        ...SERVERS.map((name) => `-a ${words} -r ${endpoint(real(name, family).address, PORT)} -m`),
      ])
    }
    const homes = new Map<AddressFamily, ReadonlyMap<string, string>>()
    for (const family of FAMILIES)
      await t.test(`${family}: each call has its real server`, async () => {
        const found = new Map<string, string>()
        for (const call of CALLS) found.set(call, await served(family, call))
        assert.deepEqual(new Set(found.values()), new Set(SERVERS))
        homes.set(family, found)
        await stay(family, found, 'again')
        const listed = await lab.director.rule('-Lnc --persistent-conn')
        for (const call of CALLS) assert.match(listed, new RegExp(` sip +${call}$`, 'm'))
      })
    for (const family of FAMILIES)
      await t.test(`${family}: a real server calls, and is called back`, async () => {
        for (const name of SERVERS) await calledBack(family, name)
      })
    await lab.director.end('SIGKILL')
    for (const family of FAMILIES)
      await t.test(`${family}: without a daemon`, () => stay(family, homes.get(family)!, 'without a daemon'))
    await restart()
    for (const family of FAMILIES)
      await t.test(`${family}: with the next daemon`, async () => {
        await stay(family, homes.get(family)!, 'with the next daemon')
        for (const name of SERVERS)
          for (const address of [client(family), NEIGHBOUR[family]])
            assert.equal(await served(family, `${name}-${family}-out@lab`, address), name)
      })
  }
}

for (const plane of ALL_PLANES)
  test(`${plane}: a call has one real server`, { skip: missingFor(plane) }, (t) =>
    withDirector(plane, async (lab) => {
      const device = topology.wires.clients.interface
      await ipBatch(`${lab.prefix}client`, [
        `addr add ${NEIGHBOUR.ipv4}/24 dev ${device}`,
        `addr add ${NEIGHBOUR.ipv6}/64 dev ${device} nodad`,
      ])
      const phone = new Phone(
        lab,
        'client',
        FAMILIES.map((family) => at(client(family))),
      )
      const servers = new Map(
        SERVERS.map((name) => [
          name,
          new Phone(
            lab,
            name,
            FAMILIES.map((family) => real(name, family)),
          ),
        ]),
      )
      const all = [phone, ...servers.values()]
      try {
        await Promise.all(all.map((one) => one.ready()))
        await scene(lab, phone, servers)(t, () => lab.director.start({ dataplane: plane }))
      } finally {
        for (const one of all) one.end()
      }
    }),
  )
