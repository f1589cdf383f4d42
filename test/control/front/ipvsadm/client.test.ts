/** The native client and the wrapper scripts, against a server with the endpoint and nothing behind it. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Api, createApi } from '../../../../control/front/api/server.ts'
import { ipvsadmEndpoint, splitBody } from '../../../../control/front/ipvsadm/endpoint.ts'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { ask } from '../ask.ts'
import { contextOf } from '../context.ts'

const root = fileURLToPath(new URL('../../../..', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'pointsman-client-'))
const client = join(dir, 'ipvsadm')
const socket = join(dir, 'api.sock')
let api: Api

before(async () => {
  const source = join(root, 'control/cli/ipvsadm.c')
  execFileSync('clang', ['-O2', '-static', '-Wall', '-Wextra', '-Werror', source, '-o', client])
  for (const script of ['ipvsadm-save', 'ipvsadm-restore'])
    copyFileSync(join(root, 'bin', script), join(dir, script))
  const names = () => namesFrom('10.0.0.1 vip.example\n', 'http 80/tcp\n')
  api = createApi({
    context: contextOf(createDirector({ host: fixedHost() })),
    failed: (error) => assert.fail(String(error)),
    endpoints: [ipvsadmEndpoint(names)],
  })
  await api.listen(socket, 'all')
})
after(async () => {
  await api.close(0)
  rmSync(dir, { recursive: true })
})

interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

async function run(
  args: readonly string[],
  {
    program = client,
    stdin = '',
    at = socket,
    argv0 = 'ipvsadm',
  }: Partial<Record<'program' | 'stdin' | 'at' | 'argv0', string>> = {},
): Promise<Ran> {
  const child = spawn(program, args, {
    argv0,
    env: { PATH: process.env.PATH ?? '', POINTSMAN_SOCKET: at },
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('latin1').on('data', (text: string) => {
      output[name] += text
    })
  }
  child.stdin.on('error', () => {})
  child.stdin.end(stdin)
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, ...output }
}

describe('the client', () => {
  test('hands over arguments and brings back status, stdout and stderr', async () => {
    assert.deepEqual(await run(['-A', '-t', '10.0.0.1:80', '-s', 'rr']), {
      status: 0,
      stdout: '',
      stderr: '',
    })
    assert.deepEqual(await run(['-S']), { status: 0, stdout: '-A -t vip.example:http -s rr\n', stderr: '' })
    const again = await run(['-A', '-t', '10.0.0.1:80'])
    assert.deepEqual(again, { status: 255, stdout: '', stderr: 'Service already exists\n' })
    await run(['-C'])
  })

  test('keeps every byte of an argument, and the name it is called by', async () => {
    const odd = await run(['-A', '-t', '10.0.0.1:80', '-p', 'h\u00f6'])
    // spawn() encodes as UTF-8; the message quotes those two bytes.
    assert.equal(odd.stderr, "invalid timeout value `h\xc3\xb6' specified\n")
    const named = await run(['bogus'], { argv0: '/usr/sbin/ipvsadm' })
    assert.equal(
      named.stderr,
      "Try `/usr/sbin/ipvsadm -h' or '/usr/sbin/ipvsadm --help' for more information.\n",
    )
    assert.equal((await run(['-A', ''])).stderr, 'unexpected argument \n')
  })

  test('reads standard input only when it is wanted, ten megabytes of it', async () => {
    const blanks = `${' '.repeat(1000)}\n`.repeat(10_000)
    const input = `${blanks}-A -t 10.0.0.2:80 -s rr\n`
    assert.deepEqual(await run(['-R'], { stdin: input }), { status: 0, stdout: '', stderr: '' })
    assert.match((await run(['-Ln'], { stdin: input })).stdout, /TCP {2}10\.0\.0\.2:80 rr/)
    await run(['-C'])
  })

  test('prints a listing of any length', async () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `-A -f ${i + 1} -s rr`)
    assert.equal((await run(['-R'], { stdin: lines.join('\n') })).status, 0)
    assert.equal((await run(['-Sn'])).stdout, `${lines.join('\n')}\n`)
    await run(['-C'])
  })

  test('without a daemon says how to start one', async () => {
    const alone = await run(['-Ln'], { at: join(dir, 'nothing.sock') })
    assert.equal(alone.status, 2)
    assert.equal(alone.stdout, '')
    assert.match(alone.stderr, /no pointsmand answers at .*nothing\.sock: No such file or directory/)
    assert.match(alone.stderr, /pointsmand --interface IF/)
    assert.equal((await run([], { at: 'x'.repeat(200) })).status, 2)
  })

  test('does not mistake something else for a daemon', async () => {
    const answers = {
      'closed the connection without an answer': '',
      'closed the connection within its answer':
        'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nPointsman-Status: 0\r\n\r\nhalf',
      'not a pointsmand this ipvsadm understands; it answers: HTTP/1.1 404 Not Found':
        'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
    }
    for (const [problem, answer] of Object.entries(answers)) {
      const path = join(dir, 'other.sock')
      const server: Server = createServer((connection) => {
        connection.on('error', () => {})
        connection.once('data', () => connection.end(answer))
      })
      server.listen(path)
      await once(server, 'listening')
      const result = await run(['-Ln'], { at: path })
      server.close()
      assert.equal(result.status, 2)
      assert.ok(result.stderr.includes(problem), result.stderr)
    }
  })
})

describe('the wrappers', () => {
  test('save and restore through a symlink in another folder', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'pointsman-link-'))
    try {
      for (const script of ['ipvsadm-save', 'ipvsadm-restore'])
        symlinkSync(join(dir, script), join(elsewhere, script))
      const rules = '-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n'
      const restored = await run([], {
        program: join(elsewhere, 'ipvsadm-restore'),
        stdin: `# comment\n${rules}#end`,
      })
      assert.deepEqual(restored, { status: 0, stdout: '', stderr: '' })
      const saved = await run(['-n'], { program: join(elsewhere, 'ipvsadm-save') })
      assert.deepEqual(saved, { status: 0, stdout: rules, stderr: '' })
      // What was there before a restore is gone after it.
      await run([], { program: join(elsewhere, 'ipvsadm-restore'), stdin: '-A -f 7 -s rr\n' })
      assert.equal((await run(['-Sn'])).stdout, '-A -f 7 -s rr\n')
    } finally {
      rmSync(elsewhere, { recursive: true })
    }
  })

  test('explain themselves on -h', async () => {
    const help = await run(['-h'], { program: join(dir, 'ipvsadm-save') })
    assert.equal(help.status, 1)
    assert.match(help.stderr, /^ipvsadm-save: Script to save the IPVS table to stdout\.\n/)
  })
})

describe('the endpoint', () => {
  test('refuses a body that is not what its headers announce', async () => {
    const post = (headers: Record<string, string>, body: string | Buffer) =>
      ask(socket, 'POST', '/v1/ipvsadm', { headers, body })
    const octets = { 'content-type': 'application/octet-stream' }
    for (const argc of ['0', '-1', 'x', '2', '99999999']) {
      const reply = await post({ ...octets, 'pointsman-argc': argc }, 'ipvsadm\0')
      assert.equal(reply.status, 400, argc)
      assert.match(JSON.parse(String(reply.body)).error.path, /^(body|headers\.pointsman-argc)$/)
    }
    assert.equal((await post(octets, 'ipvsadm\0')).status, 400)
    assert.equal((await post({ ...octets, 'pointsman-argc': '1' }, '')).status, 400)
  })

  test('asks for standard input when a restore comes without', async () => {
    const reply = await ask(socket, 'POST', '/v1/ipvsadm', {
      headers: {
        'content-type': 'application/octet-stream',
        'pointsman-argc': '2',
        'pointsman-stdin': 'unread',
      },
      body: 'ipvsadm\0-R\0',
    })
    assert.equal(reply.headers['pointsman-stdin'], 'wanted')
  })

  test('splits arguments from standard input at the last announced NUL', () => {
    const parts = splitBody(Buffer.from('a\0\0b\0rest\0x'), 3)
    assert.deepEqual(parts?.argv.map(String), ['a', '', 'b'])
    assert.equal(String(parts?.stdin), 'rest\0x')
    assert.equal(splitBody(Buffer.from('a\0b'), 2), null)
  })
})
