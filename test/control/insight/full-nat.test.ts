/** What the doctor finds out about addresses of full NAT: who else has them, and their ports. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { describe, test } from 'node:test'
import { fullNatFacts } from '../../../control/insight/doctor/full-nat.ts'
import { inetSockets, parseSockets } from '../../../linux/inet-sockets.ts'

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid'
const row = (local: string, remote: string): string =>
  `   0: ${local} ${remote} 01 00000000:00000000 00:00000000`
const table = (...rows: string[]): string => [HEADER, ...rows, ''].join('\n')

describe('sockets of this host', () => {
  test('are read as the kernel lists them, of both families', () => {
    assert.deepEqual(parseSockets('tcp', table(row('0502000A:1388', '0B02000A:1F90'))), [
      {
        protocol: 'tcp',
        local: { address: '10.0.2.5', port: 5000 },
        remote: { address: '10.0.2.11', port: 8080 },
      },
    ])
    assert.deepEqual(parseSockets('udp', table(row('00000000:14E9', '00000000:0000')))[0]?.remote, null)
    const [mapped, own] = parseSockets(
      'tcp',
      table(
        row('0000000000000000FFFF00000502000A:1388', '0000000000000000FFFF00000B02000A:1F90'),
        row('B80D0120000000000000000005000000:1388', 'B80D0120000000000000000011000000:1F90'),
      ),
    )
    assert.equal(mapped?.local.address, '10.0.2.5')
    assert.equal(own?.local.address, '2001:db8::5')
    assert.equal(own?.remote?.address, '2001:db8::11')
    assert.deepEqual(parseSockets('tcp', `${HEADER}\n`), [])
  })

  test('are those that are there', async () => {
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    const address = listener.address()
    assert.ok(address !== null && typeof address === 'object')
    const socket = connect(address.port, '127.0.0.1')
    await once(socket, 'connect')
    const mine = inetSockets().filter(({ remote }) => remote?.port === address.port)
    assert.deepEqual(
      mine.map(({ protocol, local }) => [protocol, local.address, local.port]),
      [['tcp', '127.0.0.1', socket.localPort]],
    )
    socket.destroy()
    listener.close()
  })
})

describe('addresses of full NAT', () => {
  const addresses = [
    { address: '10.0.2.5', ports: { from: 5000, to: 5999 }, connections: 0, taken: 0 },
    { address: '2001:db8::5', ports: { from: 5000, to: 5999 }, connections: 0, taken: 0 },
  ]
  const servers = [
    { protocol: 'tcp', address: '10.0.2.11', port: 8080 },
    { protocol: 'tcp', address: '2001:db8::11', port: 8080 },
  ]
  const host = { own: new Set(['10.0.2.5']), localPorts: [], sockets: [] }
  const tcp = (...rows: string[]) => ({ ...host, sockets: parseSockets('tcp', table(...rows)) })

  test('are this host’s or not, and some real server’s or none’s', () => {
    const [four, other] = fullNatFacts(addresses, [...servers, { ...servers[0]!, address: '10.0.2.5' }], host)
    assert.deepEqual([four?.local, other?.local], [true, false])
    assert.deepEqual([four?.realServer, other?.realServer], [true, false])
  })

  test('share ports with the kernel where both have them', () => {
    const localPorts = [
      { from: 1000, to: 5099 },
      { from: 5200, to: 5200 },
    ]
    const [four] = fullNatFacts(addresses, servers, { ...host, localPorts })
    assert.equal(four?.shared, '5000-5099,5200-5200')
    assert.equal(
      fullNatFacts(addresses, servers, { ...host, localPorts: [{ from: 6000, to: 7000 }] })[0]?.shared,
      null,
    )
  })

  test('share them with sockets that talk to such a real server, and with no others', () => {
    const of = (...rows: string[]) =>
      fullNatFacts(addresses, servers, tcp(...rows)).map(({ sockets }) => sockets)
    assert.deepEqual(of(row('0502000A:1388', '0B02000A:1F90')), [['tcp 10.0.2.5:5000 to 10.0.2.11:8080'], []])
    assert.deepEqual(
      of(row('B80D0120000000000000000005000000:1388', 'B80D0120000000000000000011000000:1F90')),
      [[], ['tcp [2001:db8::5]:5000 to [2001:db8::11]:8080']],
    )
    for (const [what, local, remote] of [
      ['another port', '0502000A:1387', '0B02000A:1F90'],
      ['another address', '0602000A:1388', '0B02000A:1F90'],
      ['another real server', '0502000A:1388', '0C02000A:1F90'],
      ['another port of the real server', '0502000A:1388', '0B02000A:1F91'],
      ['whoever asks', '0502000A:1388', '00000000:0000'],
    ] as const)
      assert.deepEqual(of(row(local, remote)), [[], []], what)
    const udp = { ...host, sockets: parseSockets('udp', table(row('0502000A:1388', '0B02000A:1F90'))) }
    assert.deepEqual(fullNatFacts(addresses, servers, udp)[0]?.sockets, [], 'another protocol')
  })
})
