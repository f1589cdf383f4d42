/** What becomes of a request whose change does not come in force. */
import assert from 'node:assert/strict'
import { constants } from 'node:os'
import { test } from 'node:test'
import { netlinkEndpoints } from '../../../../control/front/netlink/endpoint.ts'
import { COMMAND, FAMILY_ID } from '../../../../control/front/netlink/family.ts'
import { CapacityError } from '../../../../control/plan/plan.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { decodeMessages, encodeRequest, errorOf, NLM_F_ACK } from '../../../../linux/netlink/message.ts'
import { contextOf } from '../context.ts'

const flush = Buffer.from(
  encodeRequest({ type: FAMILY_ID, flags: NLM_F_ACK, sequence: 1 }, Uint8Array.of(COMMAND.flush, 1, 0, 0)),
)

async function answered(error: Error | null) {
  const director = createDirector({ host: fixedHost() })
  if (error !== null) director.settle = () => Promise.reject(error)
  const [endpoint] = netlinkEndpoints()
  const answer = await endpoint!.handle(contextOf(director), { body: flush } as never)
  assert.ok('bytes' in answer)
  return errorOf(decodeMessages(Buffer.from(answer.bytes))[0]!)
}

test('for want of room it is refused as by the kernel; a fault of ours is one, and no answer', async () => {
  assert.equal(await answered(null), 0)
  assert.equal(await answered(new CapacityError('no room')), constants.errno.ENOMEM)
  await assert.rejects(answered(new TypeError('never to happen')), /never to happen/)
})
