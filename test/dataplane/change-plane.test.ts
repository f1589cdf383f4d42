import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { ManagedDirector } from '../../control/apply/open.ts'
import { fixedHost } from '../../control/rules/host.ts'
import { builtFile } from '../../dataplane/assets.ts'
import { changePlane } from '../../dataplane/change.ts'
import { copyMaps } from '../../dataplane/copy.ts'
import type { AttachResult, Dataplane, WantedInterface } from '../../dataplane/dataplane.ts'
import { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import { PM_VERDICT_MAX, SettingsRecord, Verdict } from '../../dataplane/layout/layout.gen.ts'
import { OWN_STAMP, readStamp } from '../../dataplane/layout/stamp.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../dataplane/memory.ts'
import { Forwarder } from '../../dataplane/userspace/forwarder/forwarder.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { openDirector } from '../control/opened-director.ts'
import { server, service } from '../control/support.ts'
import { PacketSocket } from '../packets/libc.ts'
import { skipWithoutPrivileges } from './private-network.ts'
import { fromClient, fromServer, heard, layTwoWires, REAL, VIP } from './two-wires.ts'

function built(): boolean {
  try {
    return builtFile('pointsman.wasm') !== '' && builtFile('pointsman.bpf.o') !== ''
  } catch {
    return false
  }
}

const skip = skipWithoutPrivileges || (!built() && 'needs npm run build')

describe('changing the data plane of a running director', { skip }, () => {
  const sizes = { ...SMALL_SIZES, cpus: Math.max(2, skip === false ? possibleCpus() : 2) }
  const planes: Dataplane[] = []
  let managed: ManagedDirector | null = null
  let c: PacketSocket
  let r: PacketSocket

  const kernel = async () => {
    const plane = await KernelDataplane.open({ sizes, pinDirectory: null, mode: 'generic' })
    planes.push(plane)
    return plane
  }
  const userspace = async () => {
    const plane = await Forwarder.open({ sizes })
    planes.push(plane)
    return plane
  }
  /** Both directions of an established connection, and no answer of the kernel's own. */
  const passes = async (port: number, plane: Dataplane) => {
    c.send(fromClient(port, 80, 'A'))
    const forward = await heard(r)
    assert.equal(forward.length, 1, `${plane.plane}: to the real server`)
    r.send(fromServer(port, 'A'))
    const back = await heard(c)
    assert.equal(back.length, 1, `${plane.plane}: to the client`)
    assert.equal(Buffer.from(back[0]!.subarray(26, 30)).join('.'), VIP)
  }
  const forwarded = (plane: Dataplane): bigint => {
    let sum = 0n
    for (let cpu = 0; cpu < sizes.cpus; cpu++)
      sum += plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + Verdict.ForwardNat]!
    return sum
  }

  before(() => {
    layTwoWires()
    c = new PacketSocket('wire-c')
    r = new PacketSocket('wire-r')
  })
  after(async () => {
    await managed?.applier.stop()
    for (const plane of planes) {
      await plane.detach()
      await plane.close()
    }
    c.close()
    r.close()
  })

  test('established connections survive the way there and back, counters go along', async () => {
    const first = await userspace()
    await first.attach(['c0', 'r0'])
    managed = openDirector({ dataplane: first, host: fixedHost() })
    const { director } = managed
    const http = service(`tcp ${VIP}:80`, { scheduler: 'rr' })
    assert.ok(director.addService(http).ok)
    assert.ok(director.addServer(http.id, server(`${REAL}:8080`)).ok)
    await director.settle()

    c.send(fromClient(1000, 80, 'S'))
    assert.equal((await heard(r)).length, 1)
    r.send(fromServer(1000, 'SA'))
    assert.equal((await heard(c)).length, 1)
    await passes(1000, first)

    const second = await kernel()
    await changePlane(first, second, ['c0', 'r0'])
    assert.equal(forwarded(second), 2n)
    await passes(1000, second)
    assert.equal(first.interfaces().length, 0)

    const third = await userspace()
    await changePlane(second, third, ['c0', 'r0'])
    assert.equal(forwarded(third), 3n)
    await passes(1000, third)
    assert.equal(second.interfaces().length, 0)
    // New connections too.
    c.send(fromClient(1001, 80, 'S'))
    assert.equal((await heard(r)).length, 1)
  })

  test('a plane that cannot attach leaves the old one at work', async () => {
    const old = planes.at(-1)!
    const other = await userspace()
    await assert.rejects(changePlane(old, other, ['lo']), /Cannot take packets from lo/)
    await passes(1000, old)
  })
})

test('change plane: the maps say of themselves which layout they have, whatever the others said', () => {
  const [from, to] = [new MemoryDataplane(), new MemoryDataplane()]
  SettingsRecord.setFingerprint(from.map('settings').view, 0, 0, 0)
  copyMaps(from, to)
  assert.deepEqual(readStamp(to.map('settings').view), OWN_STAMP)
})

describe('change plane: whatever fails on the way, one plane is at work afterwards', () => {
  const STEPS = ['to hold', 'from hold', 'to attach', 'from detach', 'to resume'] as const

  /** A plane of plain memory that holds, and fails at what it is told to. */
  class Fragile extends MemoryDataplane {
    readonly failing = new Set<string>()
    held = false
    /** A detach that fails has let go of its interfaces before. */
    losesAll = false
    #gone = false

    #step(what: string): void {
      if (this.failing.has(what)) throw new Error(`no ${what}`)
    }
    async hold(): Promise<void> {
      this.#step('hold')
      this.held = true
    }
    async resume(): Promise<void> {
      this.#step('resume')
      this.held = false
    }
    override async attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
      this.#step('attach')
      if (this.#gone) throw new Error('gone')
      return await super.attach(interfaces)
    }
    override async detach(): Promise<void> {
      if (this.losesAll) {
        await super.detach()
        this.#gone = true
      }
      this.#step('detach')
      await super.detach()
    }
    get works(): boolean {
      return !this.held && this.interfaces().length === 2
    }
  }

  for (const step of STEPS) {
    for (const losesAll of step === 'from detach' ? [false, true] : [false]) {
      test(`${step}${losesAll ? ', everything let go of' : ''}`, async () => {
        const planes = { from: new Fragile(), to: new Fragile() }
        const { from, to } = planes
        await from.attach(['a', 'b'])
        from.map('services').bytes[0] = 7
        const [whose = 'to', what = ''] = step.split(' ') as ['from' | 'to', string]
        planes[whose].failing.add(what)
        from.losesAll = losesAll
        const complaints = await changePlane(from, to, ['a', 'b']).catch((error: Error) => error)
        if (complaints instanceof Error) {
          assert.ok(from.works, 'the old plane goes on')
          assert.equal(complaints.message, `no ${what}`)
          return
        }
        assert.ok(to.interfaces().length === 2, 'the new plane goes on')
        assert.equal(to.map('services').bytes[0], 7)
        assert.match(complaints.join(), new RegExp(`^Cannot .*: no ${what}$`))
        // Only then: its forwarder has ended, and the next one does not hold.
        assert.equal(to.held, step === 'to resume')
        assert.ok(step === 'to resume' || losesAll)
      })
    }
  }

  test('nothing fails', async () => {
    const [from, to] = [new Fragile(), new Fragile()]
    await from.attach(['a', 'b'])
    assert.deepEqual(await changePlane(from, to, ['a', 'b']), [])
    assert.ok(to.works && from.interfaces().length === 0)
  })
})
