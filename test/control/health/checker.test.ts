import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Job } from '../../../control/health/checker/protocol.ts'
import { CheckerLink } from '../../../control/health/checker-link.ts'
import { ip } from '../support.ts'

const program = fileURLToPath(
  new URL('../../../control/health/checker/pointsman-checker.ts', import.meta.url),
)
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function folder(closing: { after(action: () => void): void }): string {
  const made = mkdtempSync(join(tmpdir(), 'pointsman-checker-'))
  closing.after(() => rmSync(made, { recursive: true }))
  return made
}

test('programs that checks have started end with the daemon, however that ended', async (t) => {
  const file = join(folder(t), 'pid')
  const checker = fork(program, [], {
    execPath: 'unshare',
    execArgv: ['--net', process.execPath, '--import', 'tsx'],
  })
  await once(checker, 'message')
  const job: Job = {
    ...{ id: 1, from: null, device: null, timeoutMs: 300_000, environment: {} },
    question: {
      kind: 'exec',
      command: ['/bin/sh', '-c', `sleep 300 & echo $! > ${file}; wait`],
      ...{ user: null, result: 'status' },
    },
    to: { address: ip('127.0.0.1'), family: 4, port: 0 },
  }
  checker.send({ kind: 'jobs', jobs: [job] })
  const written = () => (existsSync(file) ? readFileSync(file, 'utf8').trim() : '')
  while (written() === '') await sleep(10)
  checker.disconnect()
  await once(checker, 'exit')
  const state = () => {
    try {
      return readFileSync(`/proc/${written()}/stat`, 'utf8').split(' ')[2]!
    } catch {
      return 'gone'
    }
  }
  for (let n = 0; n < 3000 && !/gone|Z|X/.test(state()); n++) await sleep(10)
  const found = state()
  if (!/gone|Z|X/.test(found)) process.kill(Number(written()), 'SIGKILL')
  assert.match(found, /gone|Z|X/)
})

test('a checker that cannot be started at all is tried again', async (t) => {
  const ready = join(folder(t), 'ready.mjs')
  writeFileSync(
    ready,
    `process.send({ kind: 'ready', check: null, why: 'a test' }); process.on('disconnect', () => process.exit())`,
  )
  const lines: string[] = []
  const link = new CheckerLink({
    program: ready,
    ways: () => null,
    isAttached: () => false,
    resolveSource: () => null,
    log: (line) => void lines.push(line),
  })
  t.after(() => link.stop())
  const { execPath } = process
  // As where there may be no more processes.
  process.execPath = '/no/such/program'
  try {
    link.start()
  } finally {
    process.execPath = execPath
  }
  for (let n = 0; n < 3000 && !lines.some((line) => line.includes('a test')); n++) await sleep(10)
  assert.deepEqual(lines, [
    'The checker: spawn /no/such/program ENOENT',
    'The checker ended with spawn /no/such/program ENOENT: it is started again in 100 ms',
    "Checks over the services' own way are limited: a test",
  ])
})

test('a checker with nothing to ask ends, and the next begins when it has gone', async (t) => {
  const made = folder(t)
  const [program, log, last] = ['rests.mjs', 'log', 'last'].map((name) => join(made, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(
    program,
    `import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
    const [log, last] = ${JSON.stringify([log, last])}
    const isThere = (pid) => { try { return process.kill(pid, 0) } catch { return false } }
    const before = existsSync(last) && isThere(Number(readFileSync(last, 'utf8')))
    writeFileSync(last, String(process.pid))
    appendFileSync(log, before ? 'begins beside another\\n' : 'begins\\n')
    process.send({ kind: 'ready', check: null, why: null })
    process.on('disconnect', () => setTimeout(() => process.exit(), 200))`,
  )
  const said = () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [])
  const link = new CheckerLink({
    ...{ program, ways: () => null, isAttached: () => false, resolveSource: () => null, log: () => {} },
  })
  t.after(() => link.stop())
  const until = async (isSo: () => boolean) => {
    for (let n = 0; n < 3000 && !isSo(); n++) await sleep(10)
  }
  link.start()
  await until(() => said().length >= 1)
  link.rest()
  link.start()
  link.rest()
  link.start()
  await until(() => said().length >= 2)
  assert.deepEqual(said(), ['begins', 'begins'])
  const second = readFileSync(last, 'utf8')
  link.rest()
  await until(() => !existsSync(`/proc/${second}`))
  await sleep(50)
  assert.deepEqual(said(), ['begins', 'begins'])
})
