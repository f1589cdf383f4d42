import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LocalAnswers } from '../../../control/apply/local-answers.ts'
import { REAL_WORDS } from '../../../control/compile/images.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import type { Answers, Dataplane } from '../../../dataplane/dataplane.ts'
import { RealFlag, RealRecord, Setting, SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openDirector } from '../opened-director.ts'
import { ip, server, service } from '../support.ts'

/** Memory that can be asked to see answers, and notes when it is. */
class SeeingPlane extends MemoryDataplane {
  readonly asked: string[] = []
  refuses = false
  #state: Answers | null = null

  seeAnswers(on: boolean): void {
    this.asked.push(
      `${on ? 'see' : 'forget'}${(this.flags() & Setting.Answers) === 0 ? '' : ', told already'}`,
    )
    const refused = this.refuses ? ['the kernel is too old'] : []
    this.#state = on ? { seen: !this.refuses, interfaces: [], refused } : null
  }

  answers(): Answers | null {
    return this.#state
  }

  flags(): number {
    return this.map('settings').u32[SettingsRecord.offsets.flags / 4]!
  }
}

const host = fixedHost({
  interfaces: [
    {
      ...{ name: 'c0', ifindex: 2, mac: new Uint8Array(6), mtu: 1500, up: true },
      addresses: [{ address: ip('192.0.2.1'), family: 4, prefixLength: 24 }],
    },
  ],
})
const virtual = service('tcp 192.0.2.100:80')
const elsewhere = server('10.0.2.11:80', { method: 'nat' })
const here = server('192.0.2.1:8080', { method: 'nat' })

function image(flags: number): Uint32Array {
  const words = new Uint32Array(REAL_WORDS)
  words[RealRecord.offsets.flags / 4] = flags
  return words
}

test('answers are seen before the first real server of this host is in force, and until the last is gone', async () => {
  const plane = new SeeingPlane(SMALL_SIZES)
  const { director } = openDirector({ dataplane: plane, host })
  director.addService(virtual)
  director.addServer(virtual.id, elsewhere)
  await director.settle()
  assert.deepEqual(plane.asked, [])
  director.addServer(virtual.id, here)
  await director.settle()
  assert.deepEqual(plane.asked, ['see'])
  assert.notEqual(plane.flags() & Setting.Answers, 0)
  assert.deepEqual(director.unsupported(virtual, [elsewhere, here]), [])
  director.deleteServer(virtual.id, here.id)
  await director.settle()
  assert.notEqual(plane.flags() & Setting.Answers, 0, 'it may have connections')
})

test('of several real servers of this host, the last to be freed ends it', () => {
  const plane = new SeeingPlane(SMALL_SIZES)
  const answers = new LocalAnswers(plane, assert.fail)
  for (const real of [3, 4]) {
    answers.before({ op: 'fill-real', real, image: image(RealFlag.Local) })
    answers.after({ op: 'fill-real', real, image: image(RealFlag.Local) })
  }
  answers.after({ op: 'free-real', real: 3 })
  answers.published()
  assert.equal(answers.areSeen, true)
  answers.after({ op: 'revise-real', real: 4, image: image(0) })
  assert.equal(answers.areSeen, false)
  answers.published()
  answers.published()
  assert.deepEqual(plane.asked, ['see', 'forget, told already'])
})

test('where answers cannot be seen, the service is named and packets are not translated', async () => {
  const warnings: string[] = []
  const plane = new SeeingPlane(SMALL_SIZES)
  plane.refuses = true
  const { director } = openDirector({ dataplane: plane, host, warn: (message) => warnings.push(message) })
  director.addService(virtual)
  director.addServer(virtual.id, here)
  await director.settle()
  assert.equal(plane.flags() & Setting.Answers, 0)
  assert.deepEqual(director.unsupported(virtual, [here]), [
    'NAT to 192.0.2.1:8080, an address of this host: its answers are not seen: the kernel is too old',
  ])
  assert.deepEqual(warnings, ['Answers of real servers on this host are not seen: the kernel is too old'])
})

test('a plane that has no place for it says so', async () => {
  const plane: Dataplane = new MemoryDataplane(SMALL_SIZES)
  const { director } = openDirector({ dataplane: plane, host })
  director.addService(virtual)
  director.addServer(virtual.id, here)
  await director.settle()
  assert.deepEqual(director.unsupported(virtual, [here]), [
    'NAT to 192.0.2.1:8080, an address of this host: its answers are not seen by the memory data plane',
  ])
})
