/** The preload library under a client of its own, beside a daemon's API and nothing behind it. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Api, createApi } from '../../control/front/api/server.ts'
import { createDirector } from '../../control/rules/director.ts'
import { fixedHost } from '../../control/rules/host.ts'
import { builtFile } from '../../dataplane/assets.ts'
import { contextOf } from '../control/front/context.ts'
import { PRELOAD_LIBRARY, preloadObstacle } from './library.ts'

const dir = mkdtempSync(join(tmpdir(), 'pointsman-preload-'))
const client = join(dir, 'client')
const socket = join(dir, 'api.sock')
const director = createDirector({ host: fixedHost() })
const SERVICES = 200
const ipvsadmObstacle = preloadObstacle('/usr/sbin/ipvsadm', 'ipvsadm') ?? false

async function serve(): Promise<Api> {
  const api = createApi({
    context: contextOf(director),
    failed: (error) => assert.fail(String(error)),
  })
  await api.listen(socket, 'all')
  return api
}

before(() => {
  const source = fileURLToPath(new URL('client.c', import.meta.url))
  execFileSync('clang', ['-O1', '-Wall', '-Wextra', '-Werror', source, '-o', client])
  for (let mark = 1; mark <= SERVICES; mark++) {
    const settings = {
      scheduler: 'rr',
      schedulerFlags: 0,
      onePacket: false,
      untracked: false,
      persistenceTimeoutS: 0,
    }
    const id = { kind: 'fwmark', mark, family: 4 } as const
    assert.ok(director.addService({ id, ...settings, netmask: 0xffffffff, persistenceEngine: null }).ok)
  }
})
after(() => rmSync(dir, { recursive: true }))

interface Running {
  readonly child: ReturnType<typeof spawn>
  readonly ended: Promise<{
    readonly status: number | null
    readonly stdout: string
    readonly stderr: string
  }>
}

function start(program: string, args: readonly string[], at = socket): Running {
  const child = spawn(program, args, {
    env: { LC_ALL: 'C', PATH: '/nothing', LD_PRELOAD: builtFile(PRELOAD_LIBRARY), POINTSMAN_SOCKET: at },
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  child.stdin.on('error', () => {})
  return { child, ended: once(child, 'close').then(([status]) => ({ status, ...output })) }
}

const run = (program: string, args: readonly string[], at = socket) => start(program, args, at).ended

test('answers come however they are waited for, whole and in their order', async () => {
  const api = await serve()
  try {
    const words = ['poll', 'select', 'epoll', 'fork', 'mixed', 'flood', 'poll']
    const { status, stdout } = await run(client, words)
    const all = `${SERVICES} services in many datagrams`
    assert.equal(
      stdout,
      `poll: ${all}\nselect: ${all}\nepoll: ${all}\nfork: ${all}\n` +
        `mixed: kernel ipvs error 2\nflood: some, and an end\npoll: ${all}\n`,
    )
    assert.equal(status, 0)
  } finally {
    await api.close(0)
  }
})

test('families of the kernel stay its own, and IPVS is none without a daemon', async () => {
  const words = ['family', 'nlctrl', 'family', 'IPVS', 'family', 'IPVSX']
  const without = await run(client, words, join(dir, 'nobody.sock'))
  assert.equal(without.stdout, 'nlctrl: found\nIPVS: error 2\nIPVSX: error 2\n')
  const api = await serve()
  try {
    assert.equal((await run(client, words)).stdout, 'nlctrl: found\nIPVS: found\nIPVSX: error 2\n')
  } finally {
    await api.close(0)
  }
})

test('a daemon that is started again is waited for, one that never was is not', async () => {
  assert.equal((await run(client, ['poll'])).stdout, 'poll: error 2\n')
  let api = await serve()
  const { child, ended } = start(client, ['poll', 'line', 'poll'])
  await once(child.stdout!, 'data')
  await api.close(0)
  child.stdin!.end('\n')
  api = await serve()
  const { stdout } = await ended
  await api.close(0)
  assert.equal(stdout, `poll: ${SERVICES} services in many datagrams\n`.repeat(2))
})

test('what is no daemon is an error, and nothing worse', async () => {
  const body = (bytes: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${bytes.length}\r\n\r\n${bytes}`
  const answers = [
    ...['', 'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf', 'nonsense\r\n\r\n', '\0\xff'.repeat(5000)],
    ...[body('x'), body('\x05'.padEnd(20, '\0')), body('\xff'.repeat(64))],
  ]
  for (const answer of answers) {
    const path = join(dir, 'other.sock')
    const server = createServer((connection) => {
      connection.on('error', () => {})
      connection.once('data', () => connection.end(answer, 'latin1'))
    })
    server.listen(path)
    await once(server, 'listening')
    const { status, stdout } = await run(client, ['poll', 'family', 'IPVS'], path)
    server.close()
    await once(server, 'close')
    assert.match(stdout, /^poll: error \d+\nIPVS: error 2\n$/, JSON.stringify(answer))
    assert.equal(status, 0)
  }
})

test("Debian's ipvsadm says that nobody answers", { skip: ipvsadmObstacle }, async () => {
  const { status, stderr } = await run('/usr/sbin/ipvsadm', ['-Ln'], join(dir, 'nobody.sock'))
  assert.equal(status, 2)
  assert.match(stderr, /Can't initialize ipvs: Connection refused/)
})
