/** Side by side with Debian's own ipvsadm, which runs here with a shim in place of the kernel. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { systemNames } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm, STDIN_WANTED } from '../../../../control/front/ipvsadm/run.ts'
import type { ConnectionListing } from '../../../../control/model/connection.ts'
import type { Counters, Rates } from '../../../../control/model/counters.ts'
import type { Director } from '../../../../control/model/director.ts'
import type { Errno } from '../../../../control/model/outcome.ts'
import type { ServerListing } from '../../../../control/model/server.ts'
import type { ServiceListing } from '../../../../control/model/service.ts'
import { parseAddress, writeAddress } from '../../../../net/address.ts'
import fc from '../../../property.ts'
import { connection, service } from '../listings.ts'
import { commandLine, restoreInput } from './command-lines.ts'
import { Debian } from './oracle/debian.ts'
import { attribute, ListeningDirector, message, u16, u16be, u32, u64 } from './oracle/requests.ts'

const obstacle = Debian.obstacle()
const skip = obstacle ?? false
const debian = obstacle === null ? new Debian() : null
after(() => debian?.close())

const CONNECTION_TITLE = 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n'
const names = systemNames({ resolver: null })

async function ours(argv: readonly string[], stdin: string, director: Director) {
  const result = await runIpvsadm({ argv, stdin: Buffer.from(stdin), director, names })
  assert.notEqual(result, STDIN_WANTED)
  return result as Exclude<typeof result, string>
}

/** Of the original it is Debian's kernel that has no `twos`; of ours whoever reads the command. */
const asAsked = (request: string): string =>
  request.replace('scheduler twos, which is not built', 'scheduler twos')

/** Runs both; a line on which the original hangs or crashes proves nothing. */
async function assertSame(
  argv: readonly string[],
  stdin = '',
  director = new ListeningDirector(),
): Promise<void> {
  const want = debian!.run(argv, Buffer.from(stdin))
  if (want.status === null) return
  const got = await ours(argv, stdin, director)
  assert.deepEqual(
    {
      status: got.status,
      stdout: got.stdout.toString('latin1'),
      stderr: got.stderr.toString('latin1'),
      requests: director.requests.map(asAsked),
    },
    {
      status: want.status,
      stdout: want.stdout.toString('latin1'),
      stderr: want.stderr.toString('latin1'),
      requests: want.requests,
    },
    JSON.stringify({ argv, stdin }),
  )
}

const LINES = 300
const RESTORES = 100

test('help and version are the same bytes, whatever the program is called', { skip }, async () => {
  for (const program of ['ipvsadm', '/sbin/ipvsadm', 'x y']) {
    for (const word of ['-h', '--help', '-v', '--version', '-hn', '-x', 'foo'])
      await assertSame([program, word])
  }
})

test('any command line ends the same way and asks the director for the same', { skip }, async () => {
  debian!.answer('connections', CONNECTION_TITLE)
  await fc.assert(
    fc.asyncProperty(commandLine, (words) => assertSame(['ipvsadm', ...words])),
    { numRuns: LINES },
  )
})

test('any restore ends the same way and asks the director for the same', { skip }, async () => {
  debian!.answer('connections', CONNECTION_TITLE)
  await fc.assert(
    fc.asyncProperty(restoreInput, (input) => assertSame(['ipvsadm', '-R'], input)),
    { numRuns: RESTORES },
  )
})

test('a restore goes on or ends where the original does', { skip }, async () => {
  const ways = [
    '-L -t 10.0.0.1:80',
    '-L',
    '-S',
    '-v',
    '-h',
    '-R',
    '--bogus',
    '-A -t',
    '-A --bogus',
    '-A -t nosuch.invalid:80',
    'word',
    '#',
    '\\0',
    '',
  ]
  for (const way of ways) await assertSame(['ipvsadm', '-R'], `-A -f 1\n${way.replace('\\0', '\0')}\n-C\n`)
})

/** Owners are none of IPVS's: a refusal for their sake has words of its own. */
const ERROR_NUMBERS: Readonly<Record<Exclude<Errno, 'EBUSY' | 'ENOTSUP'>, number>> = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  ENOMEM: 12,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
}

/** Refuses every change and every look at one service. */
function refusingDirector(errno: Errno): ListeningDirector {
  const director = new ListeningDirector()
  const refuse = () => ({ ok: false, errno, message: errno }) as const
  return new Proxy(director, {
    get(target, name) {
      if (/^(add|edit|delete|flush|zero|set|start|stop|service$)/.test(String(name))) return refuse
      return Reflect.get(target, name)
    },
  })
}

const REFUSABLE = [
  '-A -t 10.0.0.1:80',
  '-E -t 10.0.0.1:80',
  '-D -t 10.0.0.1:80',
  '-a -t 10.0.0.1:80 -r 10.0.0.2',
  '-e -t 10.0.0.1:80 -r 10.0.0.2',
  '-d -t 10.0.0.1:80 -r 10.0.0.2',
  '-C',
  '-Z -f 3',
  '--set 1 2 3',
  '--start-daemon master',
  '--stop-daemon backup',
]

test('every refusal of the director has the same words for every command', { skip }, async () => {
  for (const [errno, number] of Object.entries(ERROR_NUMBERS) as [Errno, number][]) {
    debian!.answer('errno', String(number))
    for (const line of REFUSABLE) {
      const argv = ['ipvsadm', ...line.split(' ')]
      const want = debian!.run(argv)
      const got = await ours(argv, '', refusingDirector(errno))
      assert.deepEqual(
        [got.status, String(got.stderr)],
        [want.status, String(want.stderr)],
        `${errno}: ${line}`,
      )
    }
  }
  debian!.answer('errno', null)
})

function statsAttribute({ conns, inPackets, outPackets, inBytes, outBytes }: Counters, rates: Rates): Buffer {
  const values = [conns, inPackets, outPackets, inBytes, outBytes]
  const perSecond = [rates.cps, rates.inPps, rates.outPps, rates.inBps, rates.outBps].map(BigInt)
  return Buffer.concat([...values, ...perSecond].map((value, i) => attribute(i + 1, u64(value))))
}

function wireAddress(text: string): Buffer {
  const bytes = Buffer.alloc(16)
  writeAddress(parseAddress(text)!, bytes, 0)
  return bytes
}

const FAMILY = { 4: 2, 6: 10 } as const
const PROTOCOL = { tcp: 6, udp: 17, sctp: 132 } as const
const METHOD = { nat: 0, 'full-nat': 0, tunnel: 2, 'direct-routing': 3 } as const
const TUNNEL = { ipip: 0, gue: 1, gre: 2 } as const
const CHECKSUM = { none: 0, csum: 1, remcsum: 2 } as const

function serviceMessage(service: ServiceListing): Buffer {
  const { id } = service
  const key =
    id.kind === 'fwmark'
      ? [attribute(5, u32(id.mark))]
      : [
          attribute(2, u16(PROTOCOL[id.protocol])),
          attribute(3, wireAddress(id.address)),
          attribute(4, u16be(id.port)),
        ]
  const flags =
    service.schedulerFlags | (service.onePacket ? 4 : 0) | (service.persistenceTimeoutS > 0 ? 1 : 0) | 2
  const mask = Buffer.alloc(4)
  if (id.family === 6) mask.writeUInt32LE(service.netmask)
  else mask.writeUInt32BE(service.netmask)
  return message(
    1,
    attribute(
      1,
      attribute(1, u16(FAMILY[id.family])),
      ...key,
      attribute(6, Buffer.from(`${service.scheduler}\0`)),
      ...(service.persistenceEngine === null
        ? []
        : [attribute(11, Buffer.from(`${service.persistenceEngine}\0`))]),
      attribute(7, u32(flags), u32(0xffffffff)),
      attribute(8, u32(service.persistenceTimeoutS)),
      attribute(9, mask),
      attribute(12, statsAttribute(service.counters, service.rates)),
    ),
  )
}

function serverMessage(server: ServerListing): Buffer {
  const { tunnel } = server
  return message(
    5,
    attribute(
      2,
      attribute(1, wireAddress(server.id.address)),
      attribute(2, u16be(server.id.port)),
      attribute(3, u32(METHOD[server.method])),
      attribute(4, u32(server.weight)),
      attribute(13, Buffer.from([TUNNEL[tunnel.type]])),
      attribute(14, u16be(tunnel.type === 'gue' ? tunnel.port : 0)),
      attribute(15, u16(tunnel.type === 'ipip' ? 0 : CHECKSUM[tunnel.checksum])),
      attribute(5, u32(server.upperThreshold)),
      attribute(6, u32(server.lowerThreshold)),
      attribute(7, u32(server.activeConns)),
      attribute(8, u32(server.inactiveConns)),
      attribute(9, u32(server.persistentConns)),
      attribute(11, u16(FAMILY[server.id.family])),
      attribute(12, statsAttribute(server.counters, server.rates)),
    ),
  )
}

const FORMATS = ['', '--stats', '--rate', '--thresholds', '--persistent-conn', '--tun-info']

test('one service lists the same in every format, and saves the same', { skip }, async () => {
  await fc.assert(
    fc.asyncProperty(
      service,
      fc.constantFrom(...FORMATS),
      fc.subarray(['-n', '--exact', '--nosort', '-f1']),
      async (listed, format, more) => {
        debian!.answer('services', serviceMessage(listed))
        debian!.answer('dests', Buffer.concat(listed.servers.map(serverMessage)))
        const director = new ListeningDirector()
        director.services = () => [listed] as never[]
        director.service = () => ({ ok: true, value: listed })
        director.rules = () => [{ service: listed, servers: listed.servers }] as never[]
        const options = [format, ...more].filter((option) => option !== '')
        await assertSame(['ipvsadm', '-L', ...options], '', director)
        await assertSame(['ipvsadm', '-S', ...options.filter((option) => option === '-n')], '', director)
      },
    ),
    { numRuns: LINES },
  )
  debian!.answer('services', null)
  debian!.answer('dests', null)
})

/** A row as the kernel writes it. */
function procLine(entry: ConnectionListing): string {
  const hex = (n: number, digits: number): string => n.toString(16).toUpperCase().padStart(digits, '0')
  const host = (address: ConnectionListing['client']): string => {
    const bytes = wireAddress(address)
    if (entry.family === 4) return hex(bytes.readUInt32BE(0), 8)
    return Array.from({ length: 8 }, (_, i) =>
      bytes
        .readUInt16BE(2 * i)
        .toString(16)
        .padStart(4, '0'),
    ).join(':')
  }
  const where = (address: ConnectionListing['client'], port: number): string =>
    `${host(address)} ${hex(port, 4)}`
  const engine = entry.engine === null ? '' : ` ${entry.engine.name} ${entry.engine.data}`
  return `${entry.protocol.toUpperCase().padEnd(3)} ${where(entry.client, entry.clientPort)} ${where(entry.virtual, entry.virtualPort)} ${where(entry.destination, entry.destinationPort)} ${entry.state.padEnd(11)} ${String(entry.remainingMs / 1000).padStart(7)}${engine}\n`
}

test('connections list the same', { skip }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(connection, { maxLength: 4 }),
      fc.subarray(['-n', '--persistent-conn']),
      async (entries, more) => {
        debian!.answer('connections', CONNECTION_TITLE + entries.map(procLine).join(''))
        const director = new ListeningDirector()
        director.connections = () => entries as never[]
        await assertSame(['ipvsadm', '-L', '-c', ...more], '', director)
      },
    ),
    { numRuns: RESTORES },
  )
})
