/** What happens to the director during a soak, besides traffic: the words of an operator, and accidents. */
import { until } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import type { Lab } from '../../lab/lab.ts'
import { FAMILIES, hostNamed, METHODS, realServers, topology } from '../../lab/topology.ts'
import { sendFrames } from '../e2e/scene.ts'
import { garbageFrames } from './garbage.ts'
import { addServer, editServer, SERVICES, serverWords, servicesFor } from './services.ts'

export interface Event {
  readonly name: string
  /** Verdict that must take every datagram lost in this event, and must occur. */
  readonly dropsAs?: 'drop_real_server_gone'
  run(lab: Lab, turn: number): Promise<void>
}

/** The real server that comes and goes; long connections are with the others. */
export const PASSING = hostNamed('rs3')
/** A flow lives for 18 s, and longer where the client has to wait for a core. */
const FLOWS_TIMEOUT_MS = 60_000
const DRAIN_TIMEOUT_MS = 60_000
const datagramServices = [...servicesFor('echo'), ...servicesFor('sink')]

export const EVENTS: readonly Event[] = [
  { name: 'listings', run: list },
  { name: 'weights edited', run: editWeights },
  { name: 'drained and removed', run: drainAndRemove },
  { name: 'removed at once', dropsAs: 'drop_real_server_gone', run: removeAtOnce },
  { name: 'saved and restored', run: saveAndRestore },
  { name: 'garbage frames', run: sendGarbage },
  { name: 'echo requests', run: ping },
  { name: 'counters zeroed', run: zero },
  { name: 'MTU changed', run: changeMtu },
  { name: 'neighbours flushed', run: flushNeighbours },
]

async function rules(lab: Lab, lines: readonly string[]): Promise<void> {
  await lab.director.restore(lines)
}

async function list(lab: Lab): Promise<void> {
  for (const words of [
    '-Ln',
    '-Ln --stats --exact',
    '-Ln --rate',
    '-Lnc',
    '-Ln --thresholds',
    '-L --timeout',
  ]) {
    const listed = await lab.director.rule(words)
    if (listed === '') throw new Error(`\`ipvsadm ${words}\` printed nothing`)
  }
  for (const words of [['status'], ['services'], ['verdicts'], ['connections', '--limit', '50', '--json']]) {
    const result = await lab.director.pointsman(words)
    if (result.status !== 0)
      throw new Error(`\`pointsman ${words.join(' ')}\` exited with ${result.status}: ${result.stderr}`)
  }
}

async function editWeights(lab: Lab, turn: number): Promise<void> {
  const weights = [2 + (turn % 5), 1]
  for (const weight of weights) {
    await rules(
      lab,
      SERVICES.map((service, i) => editServer(service, realServers()[i % 2] ?? PASSING, weight)),
    )
    await pause(1000)
  }
}

/** As one takes a real server away without anyone noticing. */
async function drainAndRemove(lab: Lab): Promise<void> {
  const services = servicesFor('http')
  await rules(
    lab,
    SERVICES.map((service) => editServer(service, PASSING, 0)),
  )
  try {
    await pause(1000) // handshakes that had begun
    const addresses = FAMILIES.map((family) => PASSING.servers?.[family] ?? '')
    await until(`${PASSING.name} to be drained`, DRAIN_TIMEOUT_MS, async () =>
      activeTcpConnections(await lab.director.rule('-Ln'), addresses) === 0 ? true : undefined,
    )
    await rules(
      lab,
      services.map((service) => `-d ${serverWords(service, PASSING)}`),
    )
    await pause(2000)
    await rules(
      lab,
      services.map((service) => addServer(service, PASSING)),
    )
  } finally {
    await rules(
      lab,
      SERVICES.map((service) => editServer(service, PASSING, 1)),
    )
  }
}

/** Active connections of TCP services with real servers of these addresses, from `ipvsadm -Ln`. */
const activeTcpConnections = (listing: string, addresses: readonly string[]): number =>
  sumOf(listing, 'TCP', addresses, 4)

/** A number of the services of a protocol, in the column of a listing, of real servers with these addresses. */
function sumOf(
  listing: string,
  protocol: 'TCP' | 'UDP',
  addresses: readonly string[],
  column: number,
): number {
  let isMeant = false
  let sum = 0
  for (const line of listing.split('\n')) {
    const words = line.trim().split(/\s+/)
    if (/^(TCP|UDP|FWM) /.test(line)) isMeant = line.startsWith(protocol)
    else if (isMeant && words[0] === '->' && addresses.some((address) => words[1]?.includes(address)))
      sum += Number(words[column] ?? 0)
  }
  return sum
}

/** The datagrams of its connections are lost until it is there again. */
async function removeAtOnce(lab: Lab): Promise<void> {
  const addresses = FAMILIES.map((family) => PASSING.servers?.[family] ?? '')
  const packets = async (): Promise<number> =>
    sumOf(await lab.director.rule('-Ln --stats --exact'), 'UDP', addresses, 3)
  // After it was drained, flows come to it one after the other, as they begin anew.
  await until(`datagrams to come to ${PASSING.name}`, FLOWS_TIMEOUT_MS, async () => {
    const before = await packets()
    await pause(500)
    return (await packets()) > before ? true : undefined
  })
  await rules(
    lab,
    datagramServices.map((service) => `-d ${serverWords(service, PASSING)}`),
  )
  await pause(2000)
  await rules(
    lab,
    datagramServices.map((service) => addServer(service, PASSING)),
  )
}

async function saveAndRestore(lab: Lab): Promise<void> {
  const saved = await lab.director.rule('-Sn')
  const restored = await lab.director.command([executable('ipvsadm-restore')], saved)
  if (restored.status !== 0) throw new Error(`ipvsadm-restore: ${restored.stderr}`)
  const now = await lab.director.rule('-Sn')
  if (now !== saved) throw new Error(`Saved and restored rules differ:\n${saved}\n---\n${now}`)
}

async function sendGarbage(lab: Lab, turn: number): Promise<void> {
  await sendFrames(lab, 'client', topology.wires.clients.interface, garbageFrames(turn))
}

async function ping(lab: Lab): Promise<void> {
  await Promise.all(
    METHODS.flatMap((method) => FAMILIES.map((family) => topology.virtual[method][family])).map(
      async (address) => {
        const result = await lab.exec('client', ['ping', '-c', '5', '-i', '0.3', '-W', '2', address])
        if (result.status !== 0 || !result.stdout.includes(' 0% packet loss'))
          throw new Error(`ping ${address}: ${result.stdout}`)
      },
    ),
  )
}

async function zero(lab: Lab): Promise<void> {
  const before = await connectionsCounted(lab)
  await lab.director.rule('-Z')
  const after = await connectionsCounted(lab)
  if (after >= before) throw new Error(`${before} connections were counted, ${after} after zeroing`)
}

async function connectionsCounted(lab: Lab): Promise<number> {
  const listed = await lab.director.rule('-Ln --stats --exact')
  return listed
    .split('\n')
    .filter((line) => /^(TCP|UDP) /.test(line))
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[2] ?? 0), 0)
}

/** No room for an outer header around a full packet for a while. */
async function changeMtu(lab: Lab): Promise<void> {
  const { interface: device, mtu } = topology.wires.servers
  try {
    await must(lab, ['ip', 'link', 'set', device, 'mtu', '1500'])
    await pause(6000) // until a large request has gone through a tunnel
  } finally {
    await must(lab, ['ip', 'link', 'set', device, 'mtu', String(mtu)])
  }
}

async function flushNeighbours(lab: Lab): Promise<void> {
  for (const wire of Object.values(topology.wires))
    await must(lab, ['ip', 'neigh', 'flush', 'dev', wire.interface])
}

async function must(lab: Lab, argv: readonly string[]): Promise<void> {
  const result = await lab.exec('director', argv)
  if (result.status !== 0) throw new Error(`\`${argv.join(' ')}\` failed: ${result.stderr.trim()}`)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
