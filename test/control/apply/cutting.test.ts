import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fixedHost } from '../../../control/rules/host.ts'
import type { Answers } from '../../../dataplane/dataplane.ts'
import { PM_VERDICT_MAX, Setting, SettingsRecord, Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { parseAddress } from '../../../net/address.ts'
import { openDirector } from '../opened-director.ts'
import { server, service } from '../support.ts'

/** Memory that can be asked to have packets cut, and notes when it is. */
class CuttingPlane extends MemoryDataplane {
  readonly asked: boolean[] = []
  refused: string[] = []
  #state: Answers | null = null

  cutLarger(tunnels: boolean, fragments: boolean): void {
    if (this.asked.at(-1) !== tunnels) this.asked.push(tunnels)
    if (tunnels || fragments) this.#state = { seen: true, interfaces: ['c0'], refused: this.refused }
  }

  cutting(): Answers | null {
    return this.#state
  }

  get told(): boolean {
    return (this.map('settings').u32[SettingsRecord.offsets.flags / 4]! & Setting.Cuts) !== 0
  }
}

const host = fixedHost({ sources: { '10.0.2.12': parseAddress('10.0.2.1')! } })
const virtual = service('tcp 192.0.2.100:80')
const near = server('10.0.2.11:80', { method: 'nat' })
const far = server('10.0.2.12:80', { method: 'tunnel' })

test('the plane hears of the first tunnel and of the last, and packets are left to what is there', async () => {
  const plane = new CuttingPlane(SMALL_SIZES)
  const { director } = openDirector({ dataplane: plane, host })
  assert.deepEqual(plane.asked, [])
  director.addService(virtual)
  director.addServer(virtual.id, near)
  await director.settle()
  assert.deepEqual([plane.asked, plane.told], [[false], false])
  director.addServer(virtual.id, far)
  await director.settle()
  assert.deepEqual([plane.asked, plane.told], [[false, true], true])
  // A director that comes after it finds the tunnel in the maps.
  const after = openDirector({ dataplane: plane, host })
  after.applier.publishSettings()
  assert.equal(plane.asked.at(-1), true)
  director.deleteServer(virtual.id, far.id)
  await director.settle()
  assert.equal(plane.told, true, 'it stays as long as the plane says so')
})

test('a packet that was dropped for want of who cuts it has that loaded', async () => {
  const plane = new CuttingPlane(SMALL_SIZES)
  const { director, applier } = openDirector({ dataplane: plane, host })
  director.addService(virtual)
  director.addServer(virtual.id, near)
  await director.settle()
  assert.deepEqual([plane.asked, plane.told], [[false], false])
  const lastRow = plane.map('verdicts').entries - PM_VERDICT_MAX
  plane.map('verdicts').u64[lastRow + Verdict.DropFragmentation] = 1n
  applier.publishSettings()
  assert.deepEqual([plane.asked, plane.told], [[false, true], true])
})

test('no packet is left to what is not everywhere, and it is said once', async () => {
  const warnings: string[] = []
  const plane = new CuttingPlane(SMALL_SIZES)
  plane.refused = ['the kernel is too old']
  const { director, applier } = openDirector({ dataplane: plane, host, warn: (text) => warnings.push(text) })
  director.addService(virtual)
  director.addServer(virtual.id, far)
  await director.settle()
  applier.publishSettings()
  assert.equal(plane.told, false)
  assert.deepEqual(
    warnings.filter((text) => /not cut/.test(text)),
    [
      'Packets that are larger than their path are dropped, not cut, and fragments not put together: the kernel is too old',
    ],
  )
})
