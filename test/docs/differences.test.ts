/** docs/DIFFERENCES.md says what is so: settings, and recordings that do not pass. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkSysctl, SYSCTLS } from '../../control/model/sysctls.ts'
import { passing, select } from '../conformance/packets.ts'

const file = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const text = readFileSync(file('docs/DIFFERENCES.md'), 'utf8')

function section(title: string): string {
  const from = text.indexOf(`\n## ${title}`)
  assert.ok(from >= 0, title)
  const to = text.indexOf('\n## ', from + 1)
  return text.slice(from, to < 0 ? undefined : to)
}

test('settings are in force, or take no value but the one that all goes by', () => {
  const settings = section('Settings')
  const inForce = /In force: ([^.]*)\./.exec(settings)?.[1]
  assert.ok(inForce)
  const named = [...inForce.matchAll(/`(\w+)`/g)].map(([, name]) => name)
  const really = Object.entries(SYSCTLS).filter(([, { inForce }]) => inForce)
  assert.deepEqual(named.sort(), really.map(([name]) => name).sort())
  for (const [name, { inForce, initial, min }] of Object.entries(SYSCTLS)) {
    if (inForce || name === 'snat_reroute') continue
    assert.match(settings, new RegExp(`\`${name.replace(/^sync_.*/, 'sync_\\*')}\``), name)
    assert.equal(checkSysctl(name, initial).ok, true, name)
    const other = checkSysctl(name, initial === min ? min + (name === 'sync_ports' ? 3 : 1) : min)
    assert.equal(other.ok, false, name)
  }
})

test('as many recordings do not pass as are named', () => {
  const all = select({ paths: [file('test/recordings/packets')] })
  const rows = section('Recordings that do not pass')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| recordings'))
    .map((line) => line.split('|').slice(2, 5).map(Number))
  const [xdp = 0, tc = 0, userspace = 0] = rows.at(-1) ?? []
  assert.deepEqual(
    { xdp, tc, userspace },
    {
      xdp: all.length - passing('xdp').size,
      tc: all.length - passing('tc').size,
      userspace: all.length - passing('userspace').size,
    },
  )
  for (const [column, sum] of [xdp, tc, userspace].entries())
    assert.equal(
      rows.slice(0, -1).reduce((total, row) => total + row[column]!, 0),
      sum,
    )
})
