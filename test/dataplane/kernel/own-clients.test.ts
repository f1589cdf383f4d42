/** The way of the host's own clients to the program: made, put back, and gone when nobody wants it. */
import assert from 'node:assert/strict'
import test, { after, afterEach } from 'node:test'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { detachPinned, KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { NeighbourRecord, PM_NEIGHBOUR_SERVE } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { readLinks } from '../../../linux/links.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const programs = new TinyPrograms()

if (!skip) {
  enterPrivateNetwork()
  ip('link add in0 type veth peer name in0p')
  for (const name of ['in0', 'in0p']) ip(`link set ${name} up`)
}
after(() => {
  programs.remove()
  if (!skip) detachPinned()
})

let plane: KernelDataplane
async function open(): Promise<void> {
  plane = await KernelDataplane.open({
    ...{ sizes, mode: 'native' },
    objectPath: programs.compile(3),
    ownObjectPath: programs.compile(6, undefined, 'own'),
  })
}
async function leave(): Promise<void> {
  await plane.detach()
  await plane.close()
}
afterEach(async () => {
  if (!skip) await leave()
})

const there = () =>
  readLinks()
    .all()
    .filter(({ name }) => /^pm-/.test(name)).length
/** ifindex of the link that packets of own clients are led to, 0: none. */
const ledTo = () =>
  NeighbourRecord.getIfindex(plane.map('neighbours').view, PM_NEIGHBOUR_SERVE * NeighbourRecord.size)

test('a pair that was deleted, or set down, is put back with the next look', { skip }, async () => {
  await open()
  plane.serveOwn(true)
  await plane.attach(['in0'])
  const first = readLinks().named('pm-own')!.ifindex
  assert.deepEqual([ledTo(), plane.ownClients()], [first, { served: true, refused: [] }])
  for (const command of ['link del pm-own', 'link set pm-serve down']) {
    ip(command)
    await plane.attach(['in0'])
    assert.deepEqual(plane.ownClients(), { served: true, refused: [] })
    const ends = ['pm-own', 'pm-serve'].map((name) => readLinks().named(name)!)
    assert.deepEqual(
      ends.map(({ up }) => up),
      [true, true],
    )
    assert.equal(ledTo(), ends[0]!.ifindex)
  }
})

test('where no pair can be made that is told, and packets are taken all the same', { skip }, async () => {
  await open()
  ip('link add name theirs type bridge')
  ip('link property add dev theirs altname pm-own')
  plane.serveOwn(true)
  const results = await plane.attach(['in0'])
  assert.ok('attached' in results[0]!)
  assert.equal(plane.ownClients()?.served, false)
  assert.match(plane.ownClients()!.refused.join(), /Cannot make the veth pair pm-serve and pm-own/)
  assert.equal(ledTo(), 0)
  ip('link del theirs')
  await plane.attach(['in0'])
  assert.deepEqual(plane.ownClients(), { served: true, refused: [] })
})

test('what a process left that was killed half-way goes on, or goes', { skip }, async () => {
  for (const left of [
    'link add pm-serve type veth peer name pm-own',
    'link add pm-serve type veth peer name pm-gone',
  ]) {
    ip(left)
    await open()
    assert.notEqual(plane.ownClients(), null, 'somebody wanted it')
    plane.serveOwn(false)
    assert.equal(there(), 0)
    assert.equal(plane.ownClients(), null)
    await leave()
  }
  await open()
})
