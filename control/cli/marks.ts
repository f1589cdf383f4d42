/** The words of `pointsman mark`: which packets have which firewall mark. */
import { readFileSync } from 'node:fs'
import { prefixText } from '../../net/prefix.ts'
import { ClientError, call, get } from '../front/api/client.ts'
import { type MarksShown, marksAnswer } from '../front/api/schema/mark.ts'
import { type MarkRule, markText } from '../model/mark.ts'
import { importMarks } from '../source/netfilter/marks.ts'
import type { Shown } from './nouns.ts'
import { table } from './text.ts'

/** As commander hands them over. */
export interface MarkOptions {
  readonly to?: string
  readonly from?: string
  readonly protocol?: string
  readonly port?: string
  readonly interface?: string
  readonly family?: string
}

/** The rules that a command line stands for, as the API takes them: one for each port or range. */
function bodies(mark: string, options: MarkOptions): object[] {
  const rule = {
    mark: markNumber(mark),
    ...(options.to === undefined ? {} : { to: options.to }),
    ...(options.from === undefined ? {} : { from: options.from }),
    ...(options.protocol === undefined ? {} : { protocol: options.protocol }),
    ...(options.interface === undefined ? {} : { interface: options.interface }),
    ...(options.family === undefined ? {} : { family: familyNumber(options.family) }),
  }
  if (options.port === undefined) return [rule]
  return options.port.split(',').map((text) => ({ ...rule, ports: portRange(text) }))
}

export function markNumber(text: string): number {
  const mark = /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : 0
  if (mark >= 1 && mark <= 0xffffffff) return mark
  throw new ClientError(`Cannot read mark "${text}": expected 1 to 4294967295`)
}

function familyNumber(text: string): number {
  if (text === '4' || text === '6') return Number(text)
  throw new ClientError(`Cannot read family "${text}": expected 4 or 6`)
}

function portRange(text: string): object {
  const match = /^(\d{1,5})(?:[-:](\d{1,5}))?$/.exec(text)
  const [from, to] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])]
  if (match === null || from > to || to > 65535) {
    throw new ClientError(
      `Cannot read port "${text}": expected 80, 1000-1999, or several with commas between`,
    )
  }
  return { from, to }
}

export async function changeMark(
  socket: string,
  what: 'add' | 'delete',
  mark: string,
  options: MarkOptions,
): Promise<void> {
  await call(socket, 'POST', '/v1/marks', { [what]: bodies(mark, options) })
}

export async function flushMarks(socket: string, mark: string | undefined): Promise<void> {
  await call(socket, 'POST', '/v1/marks', { flush: mark === undefined ? true : markNumber(mark) })
}

export async function listMarks(socket: string): Promise<Shown> {
  const { value, raw } = await get(socket, '/v1/marks', marksAnswer)
  return { json: raw, text: () => marksText(value), good: true }
}

function marksText(rules: MarksShown): string {
  if (rules.length === 0) return 'No marking rules. Add one: pointsman mark add 1 --to 192.0.2.0/24\n'
  const any = '*'
  const ports = (range: MarksShown[number]['ports']): string => {
    if (range === null) return any
    return range.from === range.to ? String(range.from) : `${range.from}-${range.to}`
  }
  return table([
    ['mark', 'family', 'to', 'from', 'protocol', 'port', 'interface', 'stated by'],
    ...rules.map((rule) => [
      rule.mark,
      `IPv${rule.family}`,
      rule.to ?? any,
      rule.from ?? any,
      rule.protocol ?? any,
      ports(rule.ports),
      rule.interface ?? any,
      rule.source,
    ]),
  ])
}

function bodyOf(rule: MarkRule): object {
  return {
    mark: rule.mark,
    family: rule.family,
    ...(rule.destination === null ? {} : { to: prefixText(rule.destination) }),
    ...(rule.source === null ? {} : { from: prefixText(rule.source) }),
    ...(rule.protocol === null ? {} : { protocol: rule.protocol }),
    ...(rule.ports === null ? {} : { ports: rule.ports }),
    ...(rule.interface === null ? {} : { interface: rule.interface }),
  }
}

/**
 * Takes what it can of a ruleset, and says what it cannot.
 * @param file `-`: standard input
 * @param dry only says what it would do; needs no daemon
 */
export async function importRules(socket: string, file: string, dry: boolean): Promise<Shown> {
  const text = readFileSync(file === '-' ? 0 : file, 'utf8')
  const { rules, notTaken } = importMarks(text)
  if (rules.length === 0 && notTaken.length === 0) {
    throw new ClientError(
      `No line of ${file} gives a mark: expected what iptables-save or nft list ruleset prints`,
    )
  }
  if (!dry && rules.length > 0) await call(socket, 'POST', '/v1/marks', { add: rules.map(bodyOf) })
  return {
    json: { taken: rules.map(bodyOf), notTaken },
    text: () =>
      [
        ...rules.map((rule) => `pointsman mark add ${markText(rule)}\n`),
        ...notTaken.map(({ line, text, why }) => `${file}:${line}: not taken: ${why}: ${text}\n`),
      ].join(''),
    good: notTaken.length === 0,
  }
}
