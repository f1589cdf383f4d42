import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { PM_VERDICT_MAX, Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { ip, until } from '../private-network.ts'
import { fromClient, heard } from '../two-wires.ts'
import { ForwarderStage, INTAKES, nft, skip } from './forwarder-stage.ts'

for (const intake of INTAKES)
  describe(`workers of a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    before(() => stage.establish(1000))

    test('a clean restart keeps rules, connections and counters, and the hands of the kernel off', async () => {
      const sent = stage.verdict(Verdict.ForwardNat)
      await stage.close()
      assert.match(nft(), /192\.0\.2\.100 \. 80/)
      assert.match(nft(), /ip timeout 30s/)
      assert.doesNotMatch(ip('link show'), /pm-stack/)
      // Between the two nobody answers.
      stage.c.send(fromClient(1000, 80, 'A'))
      assert.deepEqual(await heard(stage.c, 0), [])
      await stage.open(2)
      await stage.attach()
      await stage.director.settle()
      assert.equal(stage.verdict(Verdict.ForwardNat), sent)
      stage.c.send(fromClient(1000, 80, 'A', 'after the restart'))
      const frames = await heard(stage.r)
      assert.equal(frames.length, 1, stage.verdicts())
      assert.deepEqual(await heard(stage.c, 0), [])
    })

    test('two workers share the flows', { skip: intake === 'xdp' && 'a veth has one queue' }, async () => {
      const frames: Uint8Array[] = []
      for (let i = 0; i < 40; i++) stage.c.send(fromClient(3000 + i, 80, 'S'))
      frames.push(...(await heard(stage.r, 40)))
      assert.equal(frames.length, 40, stage.verdicts())
      const rows = [0, 1].map(
        (cpu) => stage.plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + Verdict.ForwardNat]!,
      )
      assert.ok(
        rows.every((count) => count > 0n),
        String(rows),
      )
    })

    test('a worker that crashes is replaced, and forwarding goes on', async () => {
      const restarts = () => stage.log.filter((line) => line.includes('was started again')).length
      await stage.plane.crashWorker(0)
      await stage.plane.crashWorker(1)
      await until(() => restarts() === 2, `both are back: ${stage.words}`)
      for (let i = 0; i < 10; i++) stage.c.send(fromClient(3100 + i, 80, 'S'))
      assert.equal((await heard(stage.r, 10)).length, 10, stage.verdicts())
    })

    test('a worker that ends again and again is tried less and less often, and says why once', async () => {
      stage.log.length = 0
      const back = () => until(() => stage.plane.interfaces().length === 2, `it is back: ${stage.words}`)
      const took: number[] = []
      for (let crashes = 0; crashes < 5; crashes++) {
        const since = performance.now()
        await stage.plane.crashWorker(0)
        assert.deepEqual(stage.plane.interfaces(), [], 'its share of the flows is not forwarded')
        await back()
        took.push(performance.now() - since)
      }
      // Twice as long each time, and as much longer as the machine is slow.
      assert.ok(
        took.every((ms, crashes) => ms >= 90 * 2 ** crashes),
        took.join(),
      )
      assert.ok(stage.log.filter((line) => line.includes('has ended')).length <= 1, stage.words)
      await until(() => stage.log.at(-1)?.includes('was started again') === true, stage.words)
      stage.c.send(fromClient(3800, 80, 'S'))
      assert.equal((await heard(stage.r)).length, 1, `${stage.verdicts()} ${stage.words}`)
    })
  })
