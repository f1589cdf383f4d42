/** Questions over a kernel that answers in pieces, late, with errors, or never. */
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { decodeMessages, encodeRequest, type NetlinkMessage } from '../../../linux/netlink/message.ts'
import { type Courier, QuestionSocket } from '../../../linux/netlink/questions.ts'
import type { Query } from '../../../linux/netlink/rtnetlink.ts'

const NLMSG_ERROR = 2
const NLMSG_DONE = 3
const NEWROUTE = 24
const query = (mark: number): Query => ({ type: 26, header: Uint8Array.of(mark, 0, 0, 0), attributes: [] })

function message(type: number, sequence: number, body: Uint8Array, flags = 0): Uint8Array {
  return encodeRequest({ type, flags, sequence }, body)
}

function errorMessage(sequence: number, errno: number): Uint8Array {
  const body = new Uint8Array(20)
  new DataView(body.buffer).setInt32(0, -errno, true)
  return message(NLMSG_ERROR, sequence, body)
}

/** A kernel of a few lines: `answer` says what comes back for each request. */
class Kernel implements Courier {
  readonly sent: NetlinkMessage[][] = []
  readonly #there: Uint8Array[] = []
  #held: (() => void)[] = []
  answer: (request: NetlinkMessage) => readonly Uint8Array[] = ({ sequence, body }) => [
    message(NEWROUTE, sequence, body),
  ]
  /** rtnl is somebody else's: sending waits. */
  locked = false
  closed = false

  async send(bytes: Uint8Array): Promise<boolean> {
    if (this.locked) await new Promise<void>((resolve) => this.#held.push(resolve))
    const requests = decodeMessages(bytes)
    this.sent.push(requests)
    for (const request of requests) this.#there.push(...this.answer(request))
    return true
  }
  receiveNow(): Uint8Array | null {
    return this.#there.shift() ?? null
  }
  async receive(): Promise<Uint8Array | null> {
    return this.receiveNow()
  }
  close(): void {
    this.closed = true
  }
  unlock(): void {
    this.locked = false
    for (const go of this.#held.splice(0)) go()
  }
}

const marks = (answers: readonly ({ readonly kind: string; readonly message?: NetlinkMessage } | null)[]) =>
  answers.map((answer) => (answer?.kind === 'message' ? answer.message?.body[0] : answer))

test('answers come in the order of the questions, many in one go', async () => {
  const kernel = new Kernel()
  const questions = new QuestionSocket(kernel)
  const all = Array.from({ length: 100 }, (_, i) => i)
  assert.deepEqual(marks(await questions.ask(all.map(query))), all)
  assert.ok(kernel.sent.length < 10, `${kernel.sent.length} times`)
})

test('one that the kernel refuses does not hide the next', async () => {
  const kernel = new Kernel()
  const questions = new QuestionSocket(kernel)
  kernel.answer = ({ sequence, body }) =>
    body[0] === 2 ? [errorMessage(sequence, 101)] : [message(NEWROUTE, sequence, body)]
  assert.deepEqual(marks(await questions.ask([1, 2, 3].map(query))), [1, { kind: 'result', errno: 101 }, 3])
  kernel.answer = ({ sequence }) => [errorMessage(sequence, 0)]
  assert.deepEqual(await questions.change([query(1)]), [{ kind: 'result', errno: 0 }])
})

test('what is missing is unknown, and answers of before are not taken for it', async () => {
  const kernel = new Kernel()
  const questions = new QuestionSocket(kernel)
  kernel.answer = ({ body, sequence }) => (body[0] === 1 ? [] : [message(NEWROUTE, sequence, body)])
  assert.deepEqual(marks(await questions.ask([query(1), query(2)])), [null, 2])
  kernel.answer = ({ body, sequence }) => [
    message(NEWROUTE, sequence - 2, Uint8Array.of(99, 0, 0, 0)),
    message(NEWROUTE, sequence, body),
  ]
  assert.deepEqual(marks(await questions.ask([query(3)])), [3])
})

test('while rtnl is held for long, answers are unknown; afterwards it goes on', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const kernel = new Kernel()
    kernel.locked = true
    const questions = new QuestionSocket(kernel)
    const first = questions.ask([query(1)])
    const second = questions.change([query(2)])
    const third = questions.dump(query(3), () => assert.fail('nothing was read'))
    await new Promise((resolve) => setImmediate(resolve))
    mock.timers.tick(2000)
    assert.deepEqual([await first, await second, await third], [[null], [null], false])
    kernel.unlock()
    assert.deepEqual(marks(await questions.ask([query(4)])), [4])
    const asked = kernel.sent.flat().map(({ body }) => body[0])
    assert.deepEqual(asked, [1, 4], 'what nobody waits for any more is not asked')
    questions.close()
    await new Promise((resolve) => setImmediate(resolve))
    assert.ok(kernel.closed)
  } finally {
    mock.timers.reset()
  }
})

test('a dump is handed on piece by piece; one that was interrupted is not whole', async () => {
  const NLM_F_DUMP_INTR = 0x10
  const kernel = new Kernel()
  const questions = new QuestionSocket(kernel)
  for (const flags of [0, NLM_F_DUMP_INTR]) {
    const pieces: number[] = []
    kernel.answer = ({ sequence }) => [
      message(NEWROUTE, sequence, Uint8Array.of(1, 0, 0, 0)),
      message(NEWROUTE, sequence, Uint8Array.of(2, 0, 0, 0), flags),
      message(NLMSG_DONE, sequence, new Uint8Array(4)),
    ]
    const whole = await questions.dump(query(0), (messages) =>
      pieces.push(...messages.map(({ body }) => body[0]!)),
    )
    assert.deepEqual(pieces, [1, 2])
    assert.equal(whole, flags === 0)
  }
  kernel.answer = ({ sequence }) => [errorMessage(sequence, 16)]
  assert.equal(await questions.dump(query(0), () => {}), false)
  kernel.answer = () => []
  assert.equal(await questions.dump(query(0), () => {}), false, 'the kernel fell silent')
})

test('a kernel that takes nothing is no failure', async () => {
  const kernel = new Kernel()
  const questions = new QuestionSocket(kernel)
  kernel.send = () => Promise.resolve(false)
  assert.deepEqual(await questions.ask([query(1)]), [null])
  kernel.send = () => Promise.reject(new Error('no socket'))
  assert.deepEqual(await questions.ask([query(1)]), [null])
})
