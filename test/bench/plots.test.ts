/** Plots are whole documents, with a mark for every number and nothing outside of the picture. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { comparisonPlot, sectionPlot } from '../../bench/plot/plots.ts'
import { element, text, ticks } from '../../bench/plot/svg.ts'
import type { ComparedRow, ReportRow } from '../../bench/report.ts'
import fc from '../property.ts'

const MACHINE = {
  ...{ cpu: 'a "fast" <cpu> & more', cpus: 2, memoryGb: 24, kernel: '6.18.0', node: 'v20.0.0', load: 0.1 },
  ...{ commit: 'abcdef1', date: '2026-11-29' },
}

/** Throws unless every element ends where it should: plots are XML, which forgives nothing. */
function wellFormed(document: string): void {
  const open: string[] = []
  const rest = document.replace(/<(\/?)(\w+)((?: [\w-]+="[^"<]*")*)(\/?)>/g, (_, end, name, __, empty) => {
    if (end === '/') assert.equal(open.pop(), name)
    else if (empty !== '/') open.push(name as string)
    return ''
  })
  assert.deepEqual(open, [])
  assert.doesNotMatch(rest, /<|&(?!(?:amp|lt|gt|quot|#\d+);)/)
}

function numbersOf(document: string, name: string): number[] {
  return Array.from(document.matchAll(new RegExp(` ${name}="([^"]*)"`, 'g')), (match) => Number(match[1]))
}

describe('a plot', () => {
  it('escapes what it is told', () => {
    wellFormed(text({ x: 1, y: 2 }, '<a> & "b"'))
    assert.equal(element('a', { b: '"<&' }), '<a b="&quot;&lt;&amp;"/>')
  })

  it('has steps that people count in, up to the most', () => {
    assert.deepEqual(ticks(10), [0, 2, 4, 6, 8, 10])
    assert.deepEqual(ticks(0.05), [0, 0.01, 0.02, 0.03, 0.04, 0.05])
    fc.assert(
      fc.property(fc.double({ min: 1e-6, max: 1e9, noNaN: true }), (most) => {
        const steps = ticks(most)
        assert.ok(steps.length >= 2 && steps.length <= 7, `${steps}`)
        assert.ok(steps.at(-1)! >= most * (1 - 1e-9))
      }),
    )
  })

  it('of a section has a bar for each row, and stays within the picture', () => {
    const rows: ReportRow[] = [
      { title: 'one <flow>', name: 'DR & more', unit: 'ns/packet', value: 25 },
      {
        ...{ title: 'one <flow>', name: 'TUN', unit: 'ns/packet', value: 36.5 },
        ...{ reference: { name: 'floor <1>', value: 90 }, valueInterval: { low: 30, high: 40 } },
      },
      { title: 'costs below nothing', name: 'swap', unit: 'ns/packet', value: -0.3 },
      { title: 'nothing at all', name: 'loss', unit: '%', value: 0 },
    ]
    const document = sectionPlot({ section: 'floor', seconds: 1, rows, skipped: [], failed: [] }, MACHINE)
    wellFormed(document)
    assert.equal(document.match(/class="bar"/g)?.length, rows.length)
    const widths = numbersOf(document, 'width')
    assert.ok(widths.every((width) => width >= 0 && width <= widths[0]!))
    const [twentyFive, thirtySix] = widths.slice(2)
    assert.ok(Math.abs(thirtySix! / twentyFive! - 36.5 / 25) < 0.01, 'bars of a block have one scale')
    for (const x of ['x', 'x1', 'x2'].flatMap((name) => numbersOf(document, name))) {
      assert.ok(x >= 0 && x <= widths[0]!, `${x}`)
    }
  })

  it('of a comparison puts every measured row at its ratio, and leaves out what was not', () => {
    const row = (name: string, ratio: number, better: boolean | null): ComparedRow => ({
      ...{ section: 'program', title: '', name, unit: 'ns/packet', judgement: 'same', better },
      ...{ ours: ratio, theirs: 1, ratio, interval: { low: ratio - 0.01, high: ratio + 0.01 }, rounds: 8 },
    })
    const rows = [
      row('same', 1, null),
      row('better', 0.9, true),
      row('worse', 1.1, false),
      row('far', 9, false),
    ]
    const lacking: ComparedRow = {
      ...{
        section: 'program',
        title: '',
        name: 'none',
        unit: 'ms',
        judgement: 'lacking',
        better: null,
        why: '',
      },
    }
    const document = comparisonPlot({
      version: 1,
      machine: MACHINE,
      against: { revision: 'HEAD~1', commit: '0123456789abcdef' },
      quick: false,
      rows: [...rows, lacking],
      failed: [],
    })
    wellFormed(document)
    const [same, better, worse, far, ...more] = numbersOf(document, 'cx')
    assert.deepEqual(more, [])
    assert.ok(better! < same! && same! < worse! && worse! < far!)
    assert.ok(Math.abs(worse! - same! - (same! - better!)) < 0.2, 'the scale is the same on both sides')
    assert.ok(far! <= 960)
    assert.doesNotMatch(document, />none</)
  })
})
