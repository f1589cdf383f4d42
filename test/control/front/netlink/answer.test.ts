import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { answer } from '../../../../control/front/netlink/answer.ts'
import { Attributes, nest, text, u16, u32 } from '../../../../control/front/netlink/attributes.ts'
import { connectionFile } from '../../../../control/front/netlink/connection-file.ts'
import { COMMAND, DAEMON, DEST, FAMILY_ID, SERVICE, TOP } from '../../../../control/front/netlink/family.ts'
import { readServer, readServerId, serverAttributes } from '../../../../control/front/netlink/server.ts'
import { readService, readServiceId, serviceAttributes } from '../../../../control/front/netlink/service.ts'
import type { Director } from '../../../../control/model/director.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import {
  decodeMessages,
  encodeAttributes,
  encodeRequest,
  errorOf,
  type NetlinkAttribute,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
} from '../../../../linux/netlink/message.ts'
import fc from '../../../property.ts'
import { connection, server, service } from '../listings.ts'

function request(
  command: number,
  attributes: readonly NetlinkAttribute[] = [],
  { flags = NLM_F_ACK, type = FAMILY_ID }: { flags?: number; type?: number } = {},
): NetlinkMessage {
  const body = Buffer.concat([Uint8Array.of(command, 1, 0, 0), encodeAttributes(attributes)])
  return decodeMessages(encodeRequest({ type, flags, sequence: 7, port: 99 }, body))[0]!
}

function asked(director: Director, ...parts: Parameters<typeof request>): NetlinkMessage[] {
  return decodeMessages(answer(request(...parts), director).bytes)
}

/** The error number of the only message of an answer. */
function refused(director: Director, ...parts: Parameters<typeof request>): number {
  const messages = asked(director, ...parts)
  assert.equal(messages.length, 1)
  assert.equal(messages[0]!.type, NLMSG_ERROR)
  return errorOf(messages[0]!)
}

const emptyDirector = (): Director => createDirector({ host: fixedHost() })

test('any service becomes attributes, and the same again', () => {
  fc.assert(
    fc.property(service, (any) => {
      // fast-check's records have no prototype.
      const listed = structuredClone(any)
      const { servers, counters, rates, state, source, ...settings } = listed
      const { id } = settings
      const attributes = new Attributes(encodeAttributes(serviceAttributes(listed)))
      assert.deepEqual(readServiceId(attributes), { ok: true, value: id })
      assert.deepEqual(readService(attributes, id, null), {
        ok: true,
        value: settings,
      })
    }),
  )
})

test('any real server becomes attributes, and the same again', () => {
  fc.assert(
    fc.property(server, (any) => {
      const listed = structuredClone(any)
      const { id, method, tunnel, weight, upperThreshold, lowerThreshold } = listed
      const attributes = new Attributes(encodeAttributes(serverAttributes(listed)))
      const got = readServerId(attributes, id.family === 4 ? 6 : 4)
      assert.deepEqual(got, { ok: true, value: id })
      assert.deepEqual(readServer(attributes, id), {
        ok: true,
        value: { id, method, tunnel, weight, upperThreshold, lowerThreshold },
      })
      assert.equal(attributes.u32(DEST.activeConns), listed.activeConns)
      const wide = attributes.nest(DEST.stats64)!
      assert.equal(wide.u32(1), Number(listed.counters.conns & 0xffffffffn))
    }),
  )
})

test('connections stand in the file as the kernel writes them, in pieces', async () => {
  const [one] = fc.sample(connection, 1)
  const known = {
    ...one!,
    protocol: 'tcp' as const,
    family: 4 as const,
    client: '192.0.2.10',
    clientPort: 40000,
    virtual: '198.51.100.1',
    virtualPort: 80,
    destination: '10.0.0.1',
    destinationPort: 8080,
    state: 'ESTABLISHED',
    remainingMs: 899_900,
    engine: null,
  }
  const many = Array.from({ length: 5000 }, () => known as never)
  const pieces: Uint8Array[] = []
  for await (const piece of connectionFile(many)) pieces.push(piece)
  assert.ok(pieces.length > 3)
  const lines = Buffer.concat(pieces).toString('latin1').split('\n')
  assert.equal(lines.length, 5002)
  assert.equal(lines[0], 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData')
  assert.equal(lines[1], 'TCP C000020A 9C40 C6336401 0050 0A000001 1F90 ESTABLISHED     899')
})

test('no message whatever breaks it', () => {
  const director = emptyDirector()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(0xffff), fc.nat(18), (content, flags, command) => {
      const body = Buffer.concat([Uint8Array.of(command, 1, 0, 0), content])
      for (const message of decodeMessages(encodeRequest({ type: FAMILY_ID, flags, sequence: 1 }, body)))
        answer(message, director)
    }),
    { numRuns: 2000 },
  )
})

describe('as the kernel does', () => {
  const id = { kind: 'address', protocol: 'tcp', address: '10.0.0.1', family: 4, port: 80 } as never
  const rules = {
    scheduler: 'rr' as const,
    schedulerFlags: 0,
    onePacket: false,
    untracked: false,
    persistenceTimeoutS: 0,
  }
  const zero = { conns: 0n, inPackets: 0n, outPackets: 0n, inBytes: 0n, outBytes: 0n }
  const still = { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 }
  const whole = (more: object = {}) =>
    nest(
      TOP.service,
      serviceAttributes({
        ...{ id, ...rules, netmask: 0xffffffff, persistenceEngine: null, servers: [] },
        ...{
          counters: zero,
          rates: still,
          state: { state: 'in force' } as const,
          source: 'manual' as const,
          ...more,
        },
      }),
    )

  test('the family is found by its name', () => {
    const CONTROLLER = 0x10
    const messages = asked(emptyDirector(), 3, [text(2, 'IPVS')], { type: CONTROLLER })
    const found = new Attributes(messages[0]!.body, 4)
    assert.deepEqual([found.text(2), found.u16(1)], ['IPVS', FAMILY_ID])
    assert.equal(refused(emptyDirector(), 3, [text(2, 'IPVT')], { type: CONTROLLER }), 2)
  })

  test('answers have the sequence and the port of their request', () => {
    for (const { sequence, port } of asked(emptyDirector(), COMMAND.getInfo)) {
      assert.deepEqual([sequence, port], [7, 99])
    }
  })

  test('a listing ends with a message that says so', () => {
    const director = emptyDirector()
    asked(director, COMMAND.newService, [whole()])
    const messages = asked(director, COMMAND.getService, [], { flags: NLM_F_DUMP })
    assert.deepEqual(
      messages.map(({ type, flags }) => [type, flags]),
      [
        [FAMILY_ID, NLM_F_MULTI],
        [NLMSG_DONE, NLM_F_MULTI],
      ],
    )
  })

  test('a change is acknowledged where that is asked for', () => {
    const director = emptyDirector()
    assert.equal(refused(director, COMMAND.newService, [whole()]), 0)
    assert.deepEqual(asked(director, COMMAND.setService, [whole()], { flags: 0 }), [])
  })

  test('flags outside the mask stay', () => {
    const director = emptyDirector()
    asked(director, COMMAND.newService, [whole({ scheduler: 'mh', schedulerFlags: 0x18 })])
    const FLAG_1 = 0x08
    const masked = new Uint8Array(8)
    masked[4] = FLAG_1
    const attributes = serviceAttributes({
      ...{
        id,
        ...rules,
        scheduler: 'mh' as const,
        netmask: 0xffffffff,
        persistenceEngine: null,
        servers: [],
      },
      ...{ counters: zero, rates: still, state: { state: 'in force' } as const, source: 'manual' as const },
    }).map((attribute) => (attribute.type === SERVICE.flags ? { ...attribute, value: masked } : attribute))
    asked(director, COMMAND.setService, [nest(TOP.service, attributes)])
    assert.equal(director.services()[0]!.schedulerFlags, 0x10)
  })

  test('refusals have its numbers', () => {
    const director = emptyDirector()
    const bare = nest(TOP.service, [u16(SERVICE.family, 2)])
    const ESRCH = 3
    const EEXIST = 17
    const EINVAL = 22
    const EOPNOTSUPP = 95
    const EAFNOSUPPORT = 97
    assert.equal(refused(director, COMMAND.delService, [whole()]), ESRCH)
    assert.equal(refused(director, COMMAND.newService, [bare]), EINVAL)
    assert.equal(
      refused(director, COMMAND.newService, [
        nest(TOP.service, [u16(SERVICE.family, 7), u32(SERVICE.mark, 1)]),
      ]),
      EAFNOSUPPORT,
    )
    assert.equal(refused(director, COMMAND.newDest, [whole()]), ESRCH)
    refused(director, COMMAND.newService, [whole()])
    assert.equal(refused(director, COMMAND.newService, [whole()]), EEXIST)
    assert.equal(refused(director, COMMAND.newDest, [whole()]), EINVAL)
    assert.equal(refused(director, 200), EOPNOTSUPP)
    assert.equal(refused(director, COMMAND.getDest, [whole()]), EOPNOTSUPP)
    assert.equal(refused(director, COMMAND.flush, [], { flags: NLM_F_DUMP }), EOPNOTSUPP)
    assert.equal(refused(director, COMMAND.delDaemon, [nest(TOP.daemon, [u32(DAEMON.state, 1)])]), ESRCH)
  })

  test('real servers of a service that is not there are an empty list', () => {
    const messages = asked(emptyDirector(), COMMAND.getDest, [whole()], { flags: NLM_F_DUMP })
    assert.deepEqual(
      messages.map(({ type }) => type),
      [NLMSG_DONE],
    )
  })
})
