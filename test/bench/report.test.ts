/** The JSON form of the bench, and what it reads of other commits' benches. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { summary } from '../../bench/against/compare.ts'
import { appendRecord, readRecord, recordOf } from '../../bench/against/record.ts'
import { pairRows } from '../../bench/against/sections.ts'
import { comparedLine, rowLine } from '../../bench/print.ts'
import {
  type ComparedRow,
  type ComparisonReport,
  comparisonSchema,
  type ReportRow,
  type ReportSection,
  runReportSchema,
} from '../../bench/report.ts'
import { reportSection } from '../../bench/runner.ts'
import { met, type Row } from '../../bench/section.ts'

const MACHINE = {
  ...{ cpu: 'a processor', cpus: 2, memoryGb: 24, kernel: '6.18.0', node: 'v20.0.0', load: 0.1 },
  ...{ commit: 'abcdef1', date: '2026-11-29' },
}
const ROW: Row = {
  name: 'DR, 1 flow',
  value: 25.123456,
  unit: 'ns/packet',
  best: 24.9,
  reference: { name: 'MAC swap', value: 10.04 },
  ratio: 2.502,
  ratioInterval: { low: 2.41, high: 2.6 },
  noise: 1.2,
  goal: { of: 'ratio', bound: 'most', limit: 3 },
}

describe('a report', () => {
  it('has one documented shape, with fractions where numbers are small', () => {
    const section = reportSection('floor', 3, [
      { kind: 'title', text: 'one flow' },
      { kind: 'row', row: ROW },
      { kind: 'skip', part: 'nginx', why: 'it is not installed' },
      { kind: 'fail', part: 'NAT', why: 'no packet arrived' },
    ])
    const report = runReportSchema.parse(
      JSON.parse(JSON.stringify({ version: 1, machine: MACHINE, sections: [section] })),
    )
    assert.deepEqual(report.sections, [
      {
        section: 'floor',
        seconds: 3,
        rows: [
          {
            ...{ title: 'one flow', name: 'DR, 1 flow', unit: 'ns/packet', value: 25.123, best: 24.9 },
            reference: { name: 'MAC swap', value: 10.04 },
            ratio: 2.502,
            ratioInterval: { low: 2.41, high: 2.6 },
            noise: 1.2,
            goal: { of: 'ratio', bound: 'most', limit: 3 },
            met: true,
          },
        ],
        skipped: [{ part: 'nginx', why: 'it is not installed' }],
        failed: [{ part: 'NAT', why: 'no packet arrived' }],
      },
    ])
  })

  it('of a commit from before it had a version is read all the same; of a later one, not', () => {
    const row = { title: 't', name: 'n', unit: 'ms', value: 3, ratio: 0.5, met: false }
    const old = {
      machine: MACHINE,
      sections: [{ section: 's', seconds: 1, rows: [row], skipped: [], failed: [] }],
    }
    assert.equal(runReportSchema.parse(old).version, 1)
    assert.throws(() => runReportSchema.parse({ ...old, version: 2 }))
  })
})

describe('a goal', () => {
  it('is neither met nor missed when it lies within the interval', () => {
    assert.equal(met(ROW), 'meets')
    assert.equal(met({ ...ROW, ratio: 3.1, ratioInterval: { low: 3.05, high: 3.2 } }), 'misses')
    assert.equal(met({ ...ROW, ratioInterval: { low: 2.4, high: 3.2 } }), 'too-noisy')
    assert.match(rowLine({ ...ROW, ratioInterval: { low: 2.4, high: 3.2 } }), /\[too noisy to judge ≤ 3 ×\]/)
  })

  it('is not judged by a reference that the stopwatch cannot see', () => {
    const row: Row = { ...ROW, reference: { name: 'MAC swap', value: 0.8 }, ratio: 31 }
    assert.equal(met(row), 'too-noisy')
    const line = rowLine(row)
    assert.match(line, /MAC swap \(1\), which is below the wrapper's own noise/)
    assert.doesNotMatch(line, /31/)
  })

  it('of a value needs no reference', () => {
    const value: Row = { name: 'x', value: 9, unit: 'ms', goal: { of: 'value', bound: 'most', limit: 10 } }
    assert.equal(met(value), 'meets')
    assert.equal(met({ ...value, valueInterval: { low: 8, high: 11 } }), 'too-noisy')
    assert.equal(met({ ...value, goal: { of: 'ratio', bound: 'most', limit: 10 } }), null)
  })
})

function section(
  values: Readonly<Record<string, number>>,
  failed: ReportSection['failed'] = [],
): ReportSection {
  const rows = Object.entries(values).map(
    ([name, value]): ReportRow => ({ title: 'block', name, unit: 'ms', value }),
  )
  return { section: 'control', seconds: 1, rows, skipped: [], failed }
}

describe('rows of two benches', () => {
  it('are paired by title and name, run by run', () => {
    const found = pairRows(
      [section({ list: 10, change: 1 }), section({ list: 11, change: 2 })],
      [section({ change: 3, list: 20 }), section({ change: 4, list: 22 })],
    )
    assert.deepEqual(found, [
      { title: 'block', name: 'list', unit: 'ms', samples: { ours: [10, 11], theirs: [20, 22] }, why: null },
      { title: 'block', name: 'change', unit: 'ms', samples: { ours: [1, 2], theirs: [3, 4] }, why: null },
    ])
  })

  it('count only runs in which both sides measured them', () => {
    const [row] = pairRows(
      [section({ list: 10 }), section({ list: 11 })],
      [section({}), section({ list: 22 })],
    )
    assert.deepEqual(row!.samples, { ours: [11], theirs: [22] })
  })

  it('that one side lacks are told, with what that side said', () => {
    const found = pairRows(
      [section({ list: 10, fresh: 1 })],
      [section({ list: 20, gone: 5 }, [{ part: 'fresh', why: 'no such command' }])],
    )
    const why = Object.fromEntries(found.map((row) => [row.name, row.why]))
    assert.equal(why.list, null)
    assert.equal(why.fresh, 'the other build has no such row; fresh: no such command')
    assert.equal(why.gone, 'this build has no such row')
  })

  it('that changed their unit are others', () => {
    const theirs = section({ list: 20_000 })
    theirs.rows[0]!.unit = 'µs'
    const [row] = pairRows([section({ list: 20 })], [theirs])
    assert.equal(row!.samples, null)
  })
})

const MOVED: ComparedRow = {
  ...{
    section: 'program',
    title: '',
    name: 'DR, 1 flow',
    unit: 'ns/packet',
    judgement: 'more',
    better: false,
  },
  ...{ ours: 31, theirs: 25, ratio: 1.24, interval: { low: 1.2, high: 1.27 }, rounds: 8 },
}
const LACKING: ComparedRow = {
  ...{ section: 'program', title: '', name: 'wlc', unit: 'ns/packet', judgement: 'lacking', better: null },
  why: 'the other build: Cannot find module',
}
const REPORT: ComparisonReport = {
  version: 1,
  machine: MACHINE,
  against: { revision: 'HEAD~1', commit: '0123456789abcdef0123456789abcdef01234567' },
  quick: false,
  rows: [MOVED, LACKING, { ...MOVED, name: 'NAT', judgement: 'too-noisy', better: null }],
  failed: [],
}

describe('a comparison', () => {
  it('has one documented shape', () => {
    assert.deepEqual(comparisonSchema.parse(JSON.parse(JSON.stringify(REPORT))), REPORT)
    assert.throws(() => comparisonSchema.parse({ ...REPORT, rows: [{ ...MOVED, judgement: 'faster' }] }))
  })

  it('says first what moved, and what nobody can tell', () => {
    assert.equal(
      summary(REPORT.rows),
      "of 3 rows: 1 moved, 0 as before, 1 too noisy to judge, 0 below the wrapper's own noise, 1 not compared\n" +
        '  WORSE: DR, 1 flow: +24.0 %',
    )
    assert.match(summary([LACKING]), /^of 1 rows: nothing moved/)
    assert.match(comparedLine(MOVED), /31 ns\/packet was +25 = 1\.240 \(1\.200 to 1\.270\): more, WORSE$/)
    assert.match(comparedLine(REPORT.rows[2]!), /: too noisy to judge$/)
    assert.match(comparedLine(LACKING), /not compared: the other build: Cannot find module$/)
  })
})

describe('the record', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-record.'))
  after(() => rmSync(scratch, { recursive: true }))

  it('has a line for each comparison, and is read again', () => {
    const file = join(scratch, 'record.jsonl')
    appendRecord(file, recordOf(REPORT))
    appendRecord(file, recordOf({ ...REPORT, quick: true }))
    const [first, second, ...more] = readRecord(file)
    assert.deepEqual(more, [])
    assert.equal(second!.quick, true)
    assert.deepEqual(first, {
      date: '2026-11-29',
      commit: 'abcdef1',
      against: REPORT.against.commit,
      machine: { cpu: 'a processor', cpus: 2, kernel: '6.18.0', load: 0.1 },
      quick: false,
      rows: {
        'program / DR, 1 flow': { ratio: 1.24, interval: [1.2, 1.27], judgement: 'more' },
        'program / NAT': { ratio: 1.24, interval: [1.2, 1.27], judgement: 'too-noisy' },
      },
    })
    assert.equal(readFileSync(file, 'utf8').trimEnd().split('\n').length, 2)
  })

  it('grows by whole lines after a line that lost its end, and names a line that is none', () => {
    const file = join(scratch, 'edited.jsonl')
    writeFileSync(file, JSON.stringify(recordOf(REPORT)))
    appendRecord(file, recordOf(REPORT))
    assert.equal(readRecord(file).length, 2)
    writeFileSync(file, `${readFileSync(file, 'utf8')}<<<<<<< HEAD\n`)
    assert.throws(() => readRecord(file), /edited\.jsonl:3 is no record of a comparison: <<<<<<< HEAD/)
  })
})
