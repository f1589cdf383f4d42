/** Pools out of a real bind: services, addresses, times to live, and what is no answer. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { encode, type StringAnswer } from 'dns-packet'
import { addressOf, poolOf } from './addresses.ts'
import { Named, namedMissing } from './named-process.ts'
import { freePorts } from './processes.ts'
import { Watching } from './watching.ts'

describe('a pool in the domain name system', { skip: namedMissing }, () => {
  let named: Named
  before(async () => {
    const [port = 0] = await freePorts(1)
    named = new Named(port)
    named.write('')
    await named.start()
  })
  after(() => named.remove())
  const following = async (
    name: string,
    act: (watching: Watching) => Promise<void>,
    endpoints = [named.endpoint],
  ): Promise<void> => {
    const watching = new Watching(poolOf(addressOf('dns', endpoints), name))
    try {
      await act(watching)
    } finally {
      watching.close()
    }
  }

  test('has the targets of SRV records of the first priority, with port and weight, in both families', async () => {
    await following('_web._tcp.lab.test', async (watching) => {
      await watching.until('there is no such name', () => watching.size === 0)
      named.write(`_web._tcp IN SRV 10 5 8080 a
_web._tcp IN SRV 10 0 8081 b
_web._tcp IN SRV 20 9 80 spare
a IN A 10.0.0.1
a IN AAAA 2001:db8::1
b IN A 10.0.0.2
spare IN A 10.0.0.3`)
      await watching.has('10.0.0.1:8080*5 [2001:db8::1]:8080*5 10.0.0.2:8081*1')
      // A target that is gone takes its own addresses along, and nothing else.
      named.write('_web._tcp IN SRV 10 5 8080 a\n_web._tcp IN SRV 10 5 8081 gone\na IN A 10.0.0.7')
      await watching.has('10.0.0.7:8080*5')
      named.write('_web._tcp IN SRV 0 0 0 .')
      await watching.until('there is none', () => watching.size === 0)
    })
  })

  test('has the addresses of a name, also by another name, and all of an answer that fits no datagram', async () => {
    const many = Array.from({ length: 95 }, (_, n) => `many IN A 10.2.${n >> 8}.${n & 255}`)
    named.write(`www IN CNAME web\nweb IN A 10.0.0.1\nweb IN AAAA 2001:db8::1\n${many.join('\n')}`)
    await following('www.lab.test.', (watching) => watching.has('10.0.0.1 2001:db8::1'))
    await following('many.lab.test', (watching) => watching.until('all', () => watching.size === 95))
  })

  test('keeps what is known while the server is killed, hangs, or says that it cannot', async () => {
    named.write('web IN A 10.0.0.1')
    await following('web.lab.test', async (watching) => {
      await watching.has('10.0.0.1')
      await named.kill()
      await watching.until('away', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /127\.0\.0\.1:\d+: web\.lab\.test (A|AAAA): .*ECONNREFUSED/)
      named.write('web IN A 10.0.0.2')
      await named.start()
      await watching.has('10.0.0.2')
      named.signal('SIGSTOP')
      await watching.until('away', () => watching.state.away !== null)
      named.signal('SIGCONT')
      await watching.until('back', () => watching.state.away === null)
      assert.equal(watching.text, '10.0.0.2')
    })
    await following('web.elsewhere.test', async (watching) => {
      await watching.until('refused', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /web\.elsewhere\.test (A|AAAA): REFUSED/)
    })
  })

  test('asks the next server when one does not answer, and believes nobody who does not know the question', async () => {
    named.write('web IN A 10.0.0.1')
    const liar = createSocket('udp4')
    liar.on('message', (bytes, { port, address }) => {
      const id = bytes.readUInt16BE(0)
      const a: StringAnswer = { type: 'A', name: 'web.lab.test', ttl: 60, data: '10.6.6.6' }
      const lie = (number: number, name: string): Buffer =>
        encode({ type: 'response', id: number, questions: [{ type: 'A', name }], answers: [a] })
      liar.send(lie((id + 1) & 0xffff, a.name), port, address)
      liar.send(lie(id, 'web.lab.example'), port, address)
      liar.send(Buffer.from('nonsense'), port, address)
    })
    liar.bind(0, '127.0.0.1')
    await once(liar, 'listening')
    const endpoints = [`127.0.0.1:${liar.address().port}`, named.endpoint]
    await following('web.lab.test', (watching) => watching.has('10.0.0.1'), endpoints)
    liar.close()
  })
})

test('a name server to which there is no way is one that is away, and costs nobody anything', async () => {
  // Link-local without an interface: the kernel refuses to connect.
  const watching = new Watching(poolOf(addressOf('dns', ['[fe80::1]:53']), 'web.lab.test'))
  try {
    await watching.until('away', () => /fe80::1/.test(watching.state.away?.why ?? ''))
  } finally {
    watching.close()
  }
})
