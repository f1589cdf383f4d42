/** Reports as pictures: bars beside their references, and ratios with their intervals. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ComparedRow, ComparisonReport, ReportRow, ReportSection, RunReport } from '../report.ts'
import { document, element, line, text, ticks } from './svg.ts'

const WIDTH = 960
const LABEL = 420
const RIGHT = 90
const ROW = 20
const PLOT = WIDTH - LABEL - RIGHT

/** A file for each section that has rows; returns their paths. */
export function plotSections(folder: string, report: RunReport): string[] {
  mkdirSync(folder, { recursive: true })
  return report.sections
    .filter(({ rows }) => rows.length > 0)
    .map((section) => {
      const file = join(folder, `${section.section}.svg`)
      writeFileSync(file, sectionPlot(section, report.machine))
      return file
    })
}

export function plotComparison(folder: string, report: ComparisonReport): string {
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'against.svg')
  writeFileSync(file, comparisonPlot(report))
  return file
}

type MachineLine = Pick<RunReport['machine'], 'cpu' | 'cpus' | 'kernel' | 'commit' | 'date' | 'load'>

const machineLine = ({ cpu, cpus, kernel, commit, date, load }: MachineLine): string =>
  `${date}, ${commit}, ${cpus} × ${cpu}, Linux ${kernel}, load ${load}`

const number = (value: number): string =>
  value.toLocaleString('en', { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 0 })

/** A block of bars for each title and unit; the same scale within a block, from 0. */
export function sectionPlot({ section, rows }: ReportSection, machine: MachineLine): string {
  const parts = [text({ x: 12, y: 24 }, section, { class: 'title' })]
  parts.push(text({ x: 12, y: 42 }, machineLine(machine), { class: 'small' }))
  let y = 66
  const blocks = new Map<string, ReportRow[]>()
  for (const row of rows) {
    const key = JSON.stringify([row.title, row.unit])
    blocks.set(key, [...(blocks.get(key) ?? []), row])
  }
  for (const block of blocks.values()) {
    const { title, unit } = block[0]!
    parts.push(text({ x: 12, y }, title === '' ? unit : `${title} (${unit})`, { class: 'title' }))
    y += 10
    const scale = ticks(Math.max(...block.flatMap((row) => [row.value, row.reference?.value ?? 0])))
    const most = scale.at(-1)!
    const x = (value: number): number => LABEL + (Math.max(0, value) / most) * PLOT
    const bottom = y + block.length * ROW
    for (const tick of scale) {
      parts.push(line(x(tick), y, x(tick), bottom, { class: 'faint' }))
      parts.push(text({ x: x(tick), y: bottom + 14 }, number(tick), { class: 'small middle' }))
    }
    for (const row of block) {
      parts.push(...barRow(row, y, x))
      y += ROW
    }
    y += 44
  }
  return document(WIDTH, y, parts)
}

function barRow(row: ReportRow, y: number, x: (value: number) => number): string[] {
  const middle = y + ROW / 2
  const parts = [
    text({ x: LABEL - 8, y: middle + 4 }, row.name, { class: 'end' }),
    element('rect', { x: LABEL, y: y + 4, width: x(row.value) - LABEL, height: ROW - 8, class: 'bar' }),
    text({ x: WIDTH - 12, y: middle + 4 }, number(row.value), { class: 'end' }),
  ]
  const { valueInterval, reference } = row
  if (valueInterval !== undefined) {
    parts.push(line(x(valueInterval.low), middle, x(valueInterval.high), middle, { class: 'ink' }))
  }
  // What it is compared with: a mark across the bar.
  if (reference !== undefined) {
    const at = x(reference.value)
    const mark = line(at, y + 1, at, y + ROW - 1, { class: 'ink', 'stroke-width': 2 })
    parts.push(element('g', {}, element('title', {}, titleText(reference.name, reference.value)), mark))
  }
  return parts
}

const titleText = (name: string, value: number): string =>
  `${name}: ${number(value)}`.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)

/** At least this much to both sides of 1, so that noise of a per cent does not look like a landslide. */
const SPREAD_LEAST = 0.05
const SPREAD_MOST = 1

/** Each row's ratio and interval beside the line at 1; outliers end at the margin. */
export function comparisonPlot({ rows, machine, against }: ComparisonReport): string {
  const measured = rows.filter(({ ratio }) => ratio !== undefined)
  const reach = measured.flatMap(({ ratio, interval }) =>
    [ratio!, interval?.low ?? ratio!, interval?.high ?? ratio!].map((value) => Math.abs(value - 1)),
  )
  const half = ticks(Math.min(SPREAD_MOST, Math.max(SPREAD_LEAST, ...reach)))
  const most = half.at(-1)!
  const x = (ratio: number): number =>
    LABEL + ((Math.min(most, Math.max(-most, ratio - 1)) + most) / (2 * most)) * PLOT
  const top = 70
  const bottom = top + measured.length * ROW
  const parts = [
    text({ x: 12, y: 24 }, `this build / ${against.revision} (${against.commit.slice(0, 12)})`, {
      class: 'title',
    }),
    text({ x: 12, y: 42 }, machineLine(machine), { class: 'small' }),
  ]
  for (const tick of [...half.slice(1).map((value) => -value), ...half]) {
    const at = x(1 + tick)
    parts.push(line(at, top, at, bottom, { class: 'faint', ...(tick === 0 ? { 'stroke-width': 2 } : {}) }))
    const label = tick === 0 ? '1' : `${tick > 0 ? '+' : '−'}${number(Math.abs(tick) * 100)} %`
    parts.push(text({ x: at, y: bottom + 14 }, label, { class: 'small middle' }))
  }
  measured.forEach((row, at) => {
    parts.push(...ratioRow(row, top + at * ROW, x))
  })
  return document(WIDTH, bottom + 30, parts)
}

function ratioRow(row: ComparedRow, y: number, x: (ratio: number) => number): string[] {
  const middle = y + ROW / 2
  const look = row.better === null ? 'ink' : row.better ? 'better' : 'worse'
  const { interval, ratio } = row
  return [
    text({ x: LABEL - 8, y: middle + 4 }, row.name, { class: 'end' }),
    ...(interval === undefined
      ? []
      : [line(x(interval.low), middle, x(interval.high), middle, { class: look, 'stroke-width': 2 })]),
    // Hollow: nobody can tell.
    element('circle', {
      cx: x(ratio!),
      cy: middle,
      r: 4,
      class: look,
      ...(row.judgement === 'too-noisy' || row.judgement === 'below-noise'
        ? { style: 'fill:var(--paper)' }
        : {}),
    }),
    text({ x: WIDTH - 12, y: middle + 4 }, ratio!.toFixed(3), { class: 'end' }),
  ]
}
