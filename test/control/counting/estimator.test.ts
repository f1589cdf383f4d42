import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Averages, nextAverage, shownRate } from '../../../control/counting/estimator.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

describe('estimator', () => {
  test('a burst decays by a quarter every step', () => {
    const averages = new Averages(1)
    const seen: number[][] = []
    for (let step = 0; step < 6; step++) {
      averages.step(0, Float64Array.from(step === 0 ? [40, 40, 0, 1160, 0] : [0, 0, 0, 0, 0]), 0)
      const { inPps, inBps } = averages.rates(0)
      seen.push([inPps, inBps])
    }
    // By hand: 40 * 512 / 4 = 5120, then less a quarter each, shown as (avg + 511) >> 10.
    assert.deepEqual(
      seen.map(([packets]) => packets),
      [5, 4, 3, 2, 2, 1],
    )
    // 1160 * 16 / 4 = 4640, shown as (avg + 15) >> 5.
    assert.deepEqual(
      seen.map(([, bytes]) => bytes),
      [145, 109, 82, 61, 46, 34],
    )
  })

  test('shows what kernel IPVS was seen to show while rates died away', () => {
    // Recorded: 77, 58, 43, 33 bytes per second; some average begins this row.
    const rows = Array.from({ length: 4000 }, (_, start) => {
      let average = start
      return Array.from({ length: 4 }, () => {
        const shown = shownRate(average, 3)
        average = nextAverage(average, 0, 16)
        return shown
      }).join()
    })
    assert.ok(rows.includes('77,58,43,33'))
  })

  test('a constant rate is reached and never exceeded', () => {
    let average = 0
    for (let step = 0; step < 60; step++) average = nextAverage(average, 200, 512)
    assert.equal(shownRate(average, 1), 100)
  })

  test('averages fall to zero, rounding down on the way', () => {
    let average = nextAverage(0, 1, 512)
    for (let step = 0; step < 60; step++) average = nextAverage(average, 0, 512)
    assert.equal(average, 0)
    assert.equal(nextAverage(3, 0, 512), 2)
    assert.equal(nextAverage(1, 0, 512), 0)
  })

  test('sums real servers up to their service and the whole', async () => {
    const dataplane = new MemoryDataplane()
    const { director, applier } = openDirector({ dataplane, host: testHost() })
    const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
    director.addService(web)
    director.addServer(web.id, server('10.0.0.1:80'))
    director.addServer(web.id, server('10.0.0.2:80'))
    await director.settle()
    const { u64 } = dataplane.map('counters')
    for (const real of realsOf(dataplane, web)) {
      for (let cpu = 0; cpu < SMALL_SIZES.cpus; cpu++) u64[(real * SMALL_SIZES.cpus + cpu) * 8 + 1] = 100n
    }
    while (!applier.estimateSlice());
    const listing = director.services()[0]!
    assert.equal(listing.rates.inPps, 50)
    assert.equal(listing.servers[0]!.rates.inPps, 25)
    assert.equal(director.totals().rates.inPps, 50)
    director.zero()
    assert.equal(director.services()[0]!.rates.inPps, 0)
  })
})
