/** When the host's own sockets are clients of virtual services, and when the program is told. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OwnClients } from '../../../control/apply/own-clients.ts'
import type { Dataplane, OwnClients as State } from '../../../dataplane/dataplane.ts'

/** A plane that writes down what it is asked, and serves unless there is a reason not to. */
function planeWith(refused: readonly string[], before: State | null = null) {
  const asked: boolean[] = []
  let state = before
  const plane: Pick<Dataplane, 'serveOwn' | 'ownClients'> = {
    serveOwn: (on) => {
      asked.push(on)
      state = on ? { served: refused.length === 0, refused } : null
    },
    ownClients: () => state,
  }
  return { plane: plane as Dataplane, asked }
}

function warned(): { readonly words: string[]; readonly warn: (words: string) => void } {
  const words: string[] = []
  return { words, warn: (text) => void words.push(text) }
}

test('the way is there before packets are led, and goes after they no longer are', () => {
  const { plane, asked } = planeWith([])
  const own = new OwnClients(plane, warned().warn)
  own.before(false)
  own.after()
  assert.deepEqual([asked, own.areServed], [[], false], 'nothing without services')
  own.before(true)
  assert.deepEqual([asked, own.areServed], [[true], true])
  own.after()
  own.before(true)
  assert.deepEqual(asked, [true], 'asked for once')
  own.before(false)
  assert.deepEqual([asked, own.areServed], [[true], false], 'the setting is taken back first')
  own.after()
  assert.deepEqual(asked, [true, false])
})

test('what an earlier process has left goes on, or goes', () => {
  const { plane, asked } = planeWith([], { served: true, refused: [] })
  const own = new OwnClients(plane, warned().warn)
  assert.equal(own.areServed, true)
  own.before(true)
  assert.deepEqual(asked, [])
  own.before(false)
  own.after()
  assert.deepEqual(asked, [false])
})

test('why they are not served is told, and packets are not led', () => {
  const { plane } = planeWith(['no veth here'])
  const { words, warn } = warned()
  const own = new OwnClients(plane, warn)
  own.before(true)
  assert.equal(own.areServed, false)
  assert.deepEqual(words, ['Clients on this host itself are not served: no veth here'])
})

test('a plane that has no place for it is asked nothing, and that is told', () => {
  const { words, warn } = warned()
  const own = new OwnClients({ plane: 'userspace' } as Dataplane, warn)
  own.before(false)
  assert.deepEqual(words, [])
  for (let i = 0; i < 2; i++) {
    own.before(true)
    own.after()
  }
  assert.equal(own.areServed, false)
  const why = 'the userspace data plane has no place for that, xdp and tc have: pointsman dataplane tc'
  assert.deepEqual(words, [`Clients on this host itself are not served: ${why}`])
  assert.deepEqual(own.state, { served: false, refused: [why] })
  own.before(false)
  assert.equal(own.state, null, 'nobody asks for it any more')
})
