/** `pointsman top`: what it shows of a director, what keys do to it, and in a real terminal. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bits, fit, short, sparkline } from '../../../control/cli/top/figures.ts'
import { page, type Row, screen } from '../../../control/cli/top/screen.ts'
import { keysOf } from '../../../control/cli/top/terminal.ts'
import { questionOf, START, type View, withKey, withOverview } from '../../../control/cli/top/view.ts'
import type { Overview } from '../../../control/front/api/schema/overview.ts'
import { withDaemon } from '../daemon/process.ts'
import { ask } from '../front/ask.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const rates = { cps: 12, inPps: 3400, outPps: 0, inBps: 1e6, outBps: 2e6 }
const numbers = { rates, numbers: { active: 7, inactive: 2 }, weight: 3 }

function overview(services: number, more: Partial<Overview> = {}): Overview {
  return {
    at: '2026-01-01T00:00:00.000Z',
    ...{ version: '1', startedAt: '1970-01-01T00:00:00.000Z', dataplane: 'xdp', forwarding: true, rates },
    services: Array.from({ length: services }, (_, i) => ({
      ...{ name: `tcp/192.0.2.${i}:80`, scheduler: 'rr', inForce: true, health: null, servers: 3, down: 0 },
      ...numbers,
    })),
    ...{ more: 0, total: services, servers: null, counts: {} },
    ...more,
  }
}

const textOf = (rows: readonly Row[]): string => rows.map(({ text }) => text).join('\n')
const keys = (view: View, ...names: readonly string[]): View =>
  names.reduce((seen, name) => withKey(seen, name, 10), view)

describe('top', () => {
  test('fits the screen, whatever there is to be shown', () => {
    for (const [width, height] of [
      [80, 24],
      [40, 12],
      [200, 60],
    ] as const) {
      for (const services of [0, 1, 500]) {
        for (const view of [START, withOverview(START, overview(services), 1000), { ...START, help: true }]) {
          const rows = screen(view, width, height, 2000)
          assert.equal(rows.length, height)
          for (const { text } of rows) assert.equal(text.length, width, text)
        }
      }
    }
  })

  test('keeps the row under the cursor in sight, and goes no further than the last', () => {
    let view = withOverview(START, overview(100), 1000)
    view = keys(view, ...Array.from({ length: 60 }, () => 'down'))
    const rows = screen(view, 80, 24, 1000)
    const here = rows.find(({ style }) => style === 'inverse')
    assert.match(here?.text ?? '', /^tcp\/192\.0\.2\.60:80 /)
    view = keys(view, ...Array.from({ length: 200 }, () => 'pagedown'))
    assert.equal(view.row, 99)
    assert.equal(keys(view, 'k', 'pageup').row, 88)
    // Services that have gone take the cursor along.
    assert.equal(withOverview(view, overview(3), 2000).row, 2)
  })

  test('opens a service, sorts and filters by what is asked of the daemon', () => {
    const view = withOverview(START, overview(3), 1000)
    const open = keys(view, 'down', 'enter')
    assert.match(questionOf(open, 50), /service=tcp%2F192\.0\.2\.1%3A80/)
    assert.equal(keys(open, 'escape').open, null)
    assert.match(questionOf(keys(view, 's'), 50), /sort=packets/)
    const typing = keys(view, '/', '4', '4', 'x', 'backspace', 'q')
    assert.equal(typing.over, false, 'a letter is a letter while one types')
    assert.match(questionOf(keys(typing, 'backspace', 'enter'), 50), /filter=44$/)
    assert.equal(keys(typing, 'escape').filter, '')
    assert.equal(keys(view, 'q').over, true)
    assert.equal(keys(view, '?', 'x').help, false)
  })

  test('shows in words what is wrong: a lost quorum, a weightless service, one that is not in force', () => {
    const [one] = overview(1).services
    const services = [
      { ...one!, health: 'down' as const, down: 3 },
      { ...one!, health: 'sorry' as const, down: 3 },
      { ...one!, inForce: false },
      { ...one!, health: 'up' as const, down: 1 },
    ]
    const rows = screen({ ...withOverview(START, overview(0, { services }), 1000), row: 3 }, 80, 24, 1000)
    const text = textOf(rows)
    assert.match(text, /0\/3 down/)
    assert.match(text, /0\/3 sorry/)
    assert.match(text, /NOT IN FORCE/)
    assert.match(text, /2\/3 /)
    assert.equal(rows.filter(({ style }) => style === 'red').length, 3)
    const off = screen(withOverview(START, overview(1, { forwarding: false }), 1000), 80, 24, 1000)
    assert.match(textOf(off), /NOT FORWARDING: pointsman doctor/)
  })

  test('tells what is not forwarded, the newest first, and how long ago', () => {
    let view = withOverview(
      START,
      overview(1, { counts: { forward_nat: 9, drop_no_route: 5, pass_icmp: 2 } }),
      1000,
    )
    view = withOverview(
      view,
      overview(1, { counts: { forward_nat: 9, drop_no_route: 5, pass_icmp: 12 } }),
      3000,
    )
    assert.deepEqual(
      view.counts.map(({ name, rate, lastMs }) => [name, rate, lastMs]),
      [
        ['pass_icmp', 5, 3000],
        ['drop_no_route', 0, null],
      ],
    )
    assert.match(textOf(screen(view, 80, 24, 63_000)), /pass_icmp +5\/s +12 in all {2}1 min ago/)
  })

  test('writes numbers in five characters, and no order to a terminal', () => {
    for (const value of [0, 7, 999, 999.6, 1000, 9949, 9951, 123_456, 5.5e6, 2e9, 9e15])
      assert.ok(short(value).length <= 5, short(value))
    assert.deepEqual(
      [short(999.6), short(1234), short(34_000), bits(125_000)],
      ['1.0k', '1.2k', '34k', '1.0M'],
    )
    assert.equal(fit('a\u001b[2Jb', 8), 'a?[2Jb  ')
    assert.equal(fit('longer than that', 6), 'longe…')
    assert.equal(sparkline([0, 1, 2, 4, 8], 4), '▁▂▄█')
    assert.deepEqual([...keysOf('\u001b[A\u001b[5~q\u001b')], ['up', 'pageup', 'q', 'escape'])
    assert.deepEqual([...keysOf('\u001b[1;5C\u001bOB\u001b[Cx')], ['down', 'right', 'x'])
  })

  test('shows the columns there is room for beside a name, and the others at a key', () => {
    const view = withOverview(START, overview(1), 1000)
    const titleOf = (seen: View, width: number): string =>
      screen(seen, width, 24, 1000).find(({ text }) => text.startsWith('SERVICE'))?.text ?? ''
    assert.match(titleOf(view, 120), /NEW\/s +PKT\/s +IN bit +OUT bit +ACTIVE +INACT +KEPT UP/)
    assert.match(titleOf(view, 80), /NEW\/s +PKT\/s +IN bit +OUT bit +ACTIVE +INACT UP/)
    assert.match(titleOf(keys(view, 'right'), 80), /^SERVICE +PKT\/s +.* INACT +KEPT UP/)
    const last = keys(view, ...Array.from({ length: 20 }, () => 'right'))
    assert.match(titleOf(last, 80), /^SERVICE +KEPT UP/)
    assert.deepEqual(keys(last, ...Array.from({ length: 20 }, () => 'left')), view)
    assert.match(titleOf(view, 40), /^SERVICE {13} {2}NEW\/s UP/)
  })

  test('once prints all of it, without a cursor and without styles', () => {
    const text = textOf(page({ ...withOverview(START, overview(30), 1000), row: -1 }, 100, 1000))
    assert.equal(text.match(/^tcp\//gm)?.length, 30)
    assert.ok(text.split('\n').every((line) => line.length <= 100))
  })
})

describe('top in a terminal', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-top-'))
  const tmux = (...words: readonly string[]): string =>
    execFileSync('tmux', ['-S', join(folder, 'tmux'), '-f', '/dev/null', ...words], { encoding: 'utf8' })
  const shown = (): string => tmux('capture-pane', '-p', '-t', 'top')

  async function sees(pattern: RegExp): Promise<string> {
    for (const stopAt = performance.now() + 60_000; ; ) {
      const text = shown()
      if (pattern.test(text)) return text
      assert.ok(performance.now() < stopAt, `${pattern} in\n${text}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  test('draws, takes keys, follows its size, and gives the screen back', { timeout: 300_000 }, () =>
    withDaemon({}, async ({ socket }) => {
      for (let i = 0; i < 30; i++) {
        const body = JSON.stringify({ scheduler: 'rr', servers: [{ address: `10.0.0.${i}`, port: 80 }] })
        await ask(socket, 'PUT', `/v1/services/tcp/192.0.2.${i + 1}/80`, { body })
      }
      const command = `${process.execPath} --import tsx control/cli/pointsman.ts top --sort name`
      const env = ['-e', `POINTSMAN_SOCKET=${socket}`]
      try {
        tmux(
          'new-session',
          '-d',
          '-s',
          'top',
          '-x',
          '80',
          '-y',
          '24',
          '-c',
          root,
          ...env,
          'bash --norc --noprofile',
        )
        await sees(/bash\S*[#$]/)
        tmux('send-keys', '-t', 'top', command, 'Enter')
        const first = await sees(/30 services {2}NOT FORWARDING/)
        assert.match(first, /^SERVICE +NEW\/s +PKT\/s/m)
        assert.match(first, /sorted by name .* q quit/)
        assert.equal(first.trimEnd().split('\n').length, 24)
        tmux('send-keys', '-t', 'top', 'Down', 'Enter')
        await sees(/^tcp\/192\.0\.2\.2:80 .*WEIGHT/m)
        await sees(/^10\.0\.0\.1:80 /m)
        tmux('send-keys', '-t', 'top', 'BSpace', '/', '2.30')
        await sees(/filter: 2\.30_/)
        await sees(/^tcp\/192\.0\.2\.30:80/m)
        tmux('send-keys', '-t', 'top', 'Enter', '?')
        await sees(/Enter +real servers of the service/)
        tmux('send-keys', '-t', 'top', 'x')
        tmux('resize-window', '-t', 'top', '-x', '100', '-y', '40')
        // The foot is on the last line of the larger window.
        await sees(/^(?:.*\n){39}sorted by name, filter "2\.30"/)
        tmux('send-keys', '-t', 'top', 'q')
        await sees(/bash\S*[#$]\s*$/)
        assert.doesNotMatch(shown(), /SERVICE/, 'the screen is as it was')
        tmux('send-keys', '-t', 'top', command, 'Enter')
        await sees(/30 services/)
        const pid = tmux('display-message', '-p', '-t', 'top', '#{pane_pid}').trim()
        const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
        process.kill(Number(child), 'SIGTERM')
        await sees(/bash\S*[#$]\s*$/)
        assert.match(tmux('display-message', '-p', '-t', 'top', '#{cursor_flag} #{alternate_on}'), /^1 0/)
      } finally {
        tmux('kill-server')
        rmSync(folder, { recursive: true, force: true })
      }
    }),
  )
})
