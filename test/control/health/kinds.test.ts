/** Every kind of question, asked of servers that answer as they should, wrongly, and never. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttp2, createSecureServer } from 'node:http2'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { decode, encode } from 'dns-packet'
import { ask } from '../../../control/health/checker/ask.ts'
import { judge as judgeAgent } from '../../../control/health/checker/kinds/agent.ts'
import type { CheckQuestion, CheckTls, HttpRequest } from '../../../control/model/check.ts'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../../dataplane/private-network.ts'
import { ip } from '../support.ts'

const closing: (() => void)[] = []
const folder = mkdtempSync(join(tmpdir(), 'pointsman-kinds-'))
closing.push(() => rmSync(folder, { recursive: true }))

const answer = async (question: CheckQuestion, port: number, timeoutMs = 30_000) => {
  const { state, words, weight } = await ask({
    ...{ id: 1, question, from: null, device: null, timeoutMs, environment: { ANSWER: '42' } },
    to: { address: ip('127.0.0.1'), family: 4, port },
  })
  return { state, words, ...(weight === undefined ? {} : { weight }) }
}

/** The port of a server that has begun to listen on 127.0.0.1. */
async function listening(
  server: Server | { listen: Server['listen']; address: Server['address']; close(): unknown },
): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  closing.push(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** A server of this conversation. */
function talking(each: (socket: Socket) => void): Promise<number> {
  return listening(
    createServer((socket) => {
      closing.push(() => socket.destroy())
      socket.on('error', () => {})
      each(socket)
    }),
  )
}

// Nobody else has ports there, and the kernel gives this one to nobody.
if (skipWithoutPrivileges === false) enterPrivateNetwork()
const CLOSED_PORT = 9

const refused = { state: 'bad', words: 'connection refused: nobody listens on that port' }
const silent = { state: 'bad', words: 'no answer within 300 ms' }

const request = (changes: Partial<HttpRequest> = {}): HttpRequest => ({
  ...{ path: '/health', status: [{ from: 200, to: 399 }], body: null, digest: null },
  ...changes,
})
const http = (
  requests: readonly HttpRequest[],
  tls: CheckTls | null = null,
  version: '1.0' | '1.1' = '1.1',
) => ({ kind: 'http', tls, method: 'GET', version, host: 'www.example', requests }) as const

function certificate(): { readonly key: Buffer; readonly cert: Buffer; readonly file: string } {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...[
        '-subj',
        '/CN=www.example',
        '-addext',
        'subjectAltName=DNS:www.example',
        '-keyout',
        key,
        '-out',
        cert,
      ],
    ],
    { stdio: 'ignore' },
  )
  return { key: readFileSync(key), cert: readFileSync(cert), file: cert }
}

describe('a question', () => {
  // Not of the file: that would wait for what is closed here.
  after(() => {
    for (const close of closing) close()
  })

  test('tcp: accepted, refused', async () => {
    const port = await talking(() => {})
    assert.deepEqual(await answer({ kind: 'tcp' }, port), { state: 'good', words: 'connected' })
    assert.deepEqual(await answer({ kind: 'tcp' }, CLOSED_PORT), refused)
  })

  test('http: status, pattern, digest, by length, by chunks and by the end', async () => {
    const server = createHttp((incoming, response) => {
      const { url = '', headers } = incoming
      if (url === '/503') response.statusCode = 503
      if (url === '/host') response.end(headers.host)
      else if (url === '/long')
        for (let n = 0; n <= 40; n++) n < 40 ? response.write('x'.repeat(50_000)) : response.end('end')
      else if (url === '/length') {
        response.setHeader('content-length', 5)
        response.end('hello')
      } else response.end('all is well')
    })
    const port = await listening(server)
    const good = { state: 'good', words: 'HTTP 200' }
    for (const version of ['1.0', '1.1'] as const) {
      const one = (changes: Partial<HttpRequest>) => answer(http([request(changes)], null, version), port)
      assert.deepEqual(await one({}), good)
      assert.deepEqual(await one({ path: '/503' }), { state: 'bad', words: 'HTTP 503, wanted 200-399' })
      assert.deepEqual(await one({ path: '/503', status: [{ from: 503, to: 503 }] }), {
        state: 'good',
        words: 'HTTP 503',
      })
      assert.deepEqual(await one({ body: '^all.*well$' }), good)
      assert.deepEqual(await one({ path: '/host', body: '^www\\.example$' }), good)
      assert.equal((await one({ body: 'ill' })).words, 'HTTP 200, nothing in 11 bytes of body matches ill')
      const digest = { algorithm: 'md5', hex: '5d41402abc4b2a76b9719d911017c592' } as const
      assert.deepEqual(await one({ path: '/length', digest }), good)
      assert.match((await one({ digest })).words, /md5 of the body is [0-9a-f]{32}, wanted 5d41/)
      const long = { algorithm: 'md5', hex: '0' } as const
      assert.match((await one({ path: '/long', digest: long })).words, /^HTTP 200, md5/)
    }
    assert.deepEqual(
      await answer(http([request(), request({ path: '/503' })]), port),
      { state: 'bad', words: 'HTTP 503, wanted 200-399' },
      'all of them have to be good',
    )
  })

  test('http: of one that speaks otherwise, hangs up, or never says anything', async () => {
    const other = await talking((socket) => void socket.end('SSH-2.0-OpenSSH\r\n'))
    assert.deepEqual(await answer(http([request()]), other), {
      state: 'bad',
      words: 'no HTTP: "SSH-2.0-OpenSSH"',
    })
    const short = await talking((socket) => void socket.end())
    assert.match((await answer(http([request()]), short)).words, /closed without an answer|connection reset/)
    const never = await talking(() => {})
    assert.deepEqual(await answer(http([request()]), never, 300), silent)
    const flood = await talking((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n')
      const more = setInterval(() => socket.write('x'.repeat(60_000)), 1)
      socket.on('close', () => clearInterval(more))
    })
    assert.equal((await answer(http([request()]), flood)).state, 'bad')
  })

  test('https and tls: name, authority, and whether anybody looks', async () => {
    const { key, cert, file } = certificate()
    const names: unknown[] = []
    const server = createHttps({ key, cert }, (_incoming, response) => void response.end('secret'))
    server.on('tlsClientError', () => {})
    server.on('secureConnection', (socket) => names.push(socket.servername))
    const port = await listening(server)
    const tls = (changes: Partial<CheckTls>): CheckTls => ({
      ...{ serverName: 'www.example', verify: true, ca: file },
      ...changes,
    })
    assert.equal((await answer(http([request({ body: 'secret' })], tls({})), port)).state, 'good')
    assert.equal(names.at(-1), 'www.example')
    assert.match((await answer({ kind: 'tls', tls: tls({}) }, port)).words, /^TLSv1\.3, certificate until /)
    const wrongName = await answer({ kind: 'tls', tls: tls({ serverName: 'other.example' }) }, port)
    assert.equal(wrongName.state, 'bad')
    assert.match(wrongName.words, /other\.example/)
    assert.equal((await answer({ kind: 'tls', tls: tls({ ca: null }) }, port)).state, 'bad')
    assert.equal((await answer({ kind: 'tls', tls: tls({ ca: null, verify: false }) }, port)).state, 'good')
    assert.equal(
      (await answer({ kind: 'tls', tls: tls({}) }, await talking((s) => void s.end('no')))).state,
      'bad',
    )
  })

  test('smtp: greeting, HELO, QUIT, also in several lines', async () => {
    const mail = (replies: readonly string[]) =>
      talking((socket) => {
        let n = 0
        socket.write(replies[n++]!)
        socket.on('data', () => void socket.write(replies[n++] ?? ''))
      })
    const fine = await mail(['220-mail\r\n220 ready\r\n', '250 hello\r\n', '221 bye\r\n'])
    assert.equal((await answer({ kind: 'smtp', helo: 'here' }, fine)).state, 'good')
    const busy = await mail(['421 too busy\r\n'])
    assert.deepEqual(await answer({ kind: 'smtp', helo: 'here' }, busy), {
      state: 'bad',
      words: 'greeting: SMTP 421 too busy, wanted 220',
    })
  })

  test('udp: an answer, silence, and an ICMP error', async () => {
    const udp = (required: boolean, match: string | null) =>
      ({ kind: 'udp', payload: '70696e67', reply: { required, match } }) as const
    const echo = createSocket('udp4')
    echo.on('message', (data, from) => echo.send(data, from.port, from.address))
    await new Promise<void>((resolve) => void echo.bind(0, '127.0.0.1', resolve))
    closing.push(() => void echo.close())
    const mute = createSocket('udp4')
    await new Promise<void>((resolve) => void mute.bind(0, '127.0.0.1', resolve))
    closing.push(() => void mute.close())
    assert.deepEqual(await answer(udp(true, '^ping$'), echo.address().port), {
      state: 'good',
      words: 'answered 4 bytes',
    })
    assert.equal((await answer(udp(true, 'pong'), echo.address().port)).state, 'bad')
    assert.deepEqual(await answer(udp(false, null), mute.address().port, 300), {
      state: 'good',
      words: 'no ICMP error',
    })
    assert.deepEqual(await answer(udp(true, null), mute.address().port, 300), silent)
    assert.deepEqual(await answer(udp(false, null), CLOSED_PORT), refused)
  })

  test('dns: an answer and an error', async () => {
    const server = createSocket('udp4')
    server.on('message', (data, from) => {
      const { id = 0, questions = [] } = decode(data)
      const known = questions[0]?.name === 'known.example'
      const answers = known ? [{ type: 'A' as const, name: 'known.example', data: '192.0.2.1' }] : []
      server.send(
        encode({ type: 'response', id, flags: known ? 0 : 3, questions, answers }),
        from.port,
        from.address,
      )
    })
    await new Promise<void>((resolve) => void server.bind(0, '127.0.0.1', resolve))
    closing.push(() => void server.close())
    const dns = (name: string) => answer({ kind: 'dns', name, type: 'A' }, server.address().port)
    assert.deepEqual(await dns('known.example'), { state: 'good', words: 'DNS NOERROR, 1 answers' })
    assert.deepEqual(await dns('unknown.example'), {
      state: 'bad',
      words: 'DNS NXDOMAIN for unknown.example A',
    })
  })

  test('grpc: serving, not serving, of an unknown service, and of no gRPC at all', async () => {
    const server = createHttp2()
    server.on('stream', (stream, headers) => {
      assert.equal(headers[':path'], '/grpc.health.v1.Health/Check')
      let body = Buffer.alloc(0)
      stream.on('data', (part: Buffer) => {
        body = Buffer.concat([body, part])
      })
      stream.on('end', () => {
        const name = body.length > 5 ? body.subarray(7).toString() : ''
        if (name === 'unknown') {
          stream.respond(
            { ':status': 200, 'grpc-status': '5', 'grpc-message': 'unknown service' },
            { endStream: true },
          )
          return
        }
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
        stream.end(Buffer.from([0, 0, 0, 0, 2, 8, name === 'ill' ? 2 : 1]))
      })
    })
    const port = await listening(server)
    const grpc = (service: string, tls: CheckTls | null = null) => ({ kind: 'grpc', service, tls }) as const
    assert.deepEqual(await answer(grpc(''), port), { state: 'good', words: 'SERVING' })
    assert.deepEqual(await answer(grpc('ill'), port), { state: 'bad', words: 'NOT_SERVING, wanted SERVING' })
    assert.deepEqual(await answer(grpc('unknown'), port), {
      state: 'bad',
      words: 'gRPC status 5 (unknown service), wanted 0',
    })
    assert.equal(
      (await answer(grpc(''), await talking((s) => void s.end('HTTP/1.1 400 no\r\n\r\n')))).state,
      'bad',
    )
    const { key, cert, file } = certificate()
    const secure = createSecureServer({ key, cert })
    secure.on('stream', (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end(Buffer.from([0, 0, 0, 0, 2, 8, 1]))
    })
    const tls = { serverName: 'www.example', verify: true, ca: file }
    assert.deepEqual(await answer(grpc('', tls), await listening(secure)), {
      state: 'good',
      words: 'SERVING',
    })
  })

  test('exec: status, weight, a user that is not there, and a program that never ends with all it started', async () => {
    const exec = (script: string, result: 'status' | 'weight' = 'status', user: string | null = null) =>
      ({ kind: 'exec', command: ['/bin/sh', '-c', script], user, result }) as const
    assert.deepEqual(await answer(exec('test "$ANSWER" = 42'), 0), { state: 'good', words: 'exit status 0' })
    assert.deepEqual(await answer(exec('echo it is late >&2; exit 3'), 0), {
      state: 'bad',
      words: 'exit status 3: it is late',
    })
    assert.deepEqual(await answer(exec('exit 12', 'weight'), 0), {
      state: 'good',
      words: 'exit status 12, weight 10',
      weight: { kind: 'is', weight: 10 },
    })
    assert.equal((await answer(exec('exit 1', 'weight'), 0)).state, 'bad')
    assert.equal((await answer({ ...exec(''), command: ['/no/such/program'] }, 0)).state, 'void')
    assert.equal((await answer(exec('', 'status', 'nobody-of-this-name'), 0)).state, 'void')
    // Who leaves its session keeps its output open, and holds nobody up.
    assert.deepEqual(await answer(exec('setsid sleep 20 & echo "zu spät"; exit 3'), 0), {
      state: 'bad',
      words: 'exit status 3: zu spät',
    })
    const file = join(folder, 'pid')
    // On a busy machine the program may not have come so far.
    do {
      assert.deepEqual(await answer(exec(`sleep 300 & echo $! > ${file}; wait`), 0, 3000), {
        ...silent,
        words: 'no answer within 3000 ms',
      })
    } while (!existsSync(file) || readFileSync(file, 'utf8') === '')
    const pid = Number(readFileSync(file, 'utf8'))
    const state = () => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[2]
      } catch {
        return 'gone'
      }
    }
    for (let n = 0; n < 3000 && !/gone|Z|X/.test(String(state())); n++)
      await new Promise((resolve) => setTimeout(resolve, 10))
    assert.match(String(state()), /gone|Z|X/)
  })

  test('exec: as an ordinary user, with none of our groups and capabilities', {
    skip: process.getuid?.() === 0 ? false : 'needs root: to become somebody else',
  }, async () => {
    const script = `echo $(id -u) $(id -g) $(id -G) $(awk '/^Cap(Prm|Eff|Amb)/ { print $2 }' /proc/self/status)`
    const none = '0000000000000000'
    const question = {
      kind: 'exec',
      command: ['/bin/sh', '-c', script],
      user: 'nobody',
      result: 'status',
    } as const
    const [nobody] = readFileSync('/etc/passwd', 'utf8').match(/^nobody:.*$/m) ?? []
    const [, , uid, gid] = nobody?.split(':') ?? []
    assert.deepEqual(await answer(question, 0), {
      state: 'good',
      words: `exit status 0: ${uid} ${gid} ${gid} ${none} ${none} ${none}`,
    })
  })

  test('file: a number, the smallest one, none, a pipe', async () => {
    const file = join(folder, 'weight')
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    assert.deepEqual(await answer({ kind: 'file', file: pipe, factor: 1 }, 0, 300), {
      state: 'bad',
      words: `${pipe} is no regular file`,
    })
    const from = async (text: string, factor = 1) => {
      writeFileSync(file, text)
      return await answer({ kind: 'file', file, factor }, 0)
    }
    assert.deepEqual(await from('-3\n', 2), {
      state: 'good',
      words: `-3 in ${file}`,
      weight: { kind: 'plus', weight: -6 },
    })
    assert.equal((await from('-254')).state, 'bad')
    assert.equal((await from('soon')).state, 'bad')
    assert.match((await answer({ kind: 'file', file: '/no/such/file', factor: 1 }, 0)).words, /ENOENT/)
  })

  test('agent: words of HAProxy', async () => {
    const says = (text: string) => talking((socket) => void socket.end(text))
    const agent = async (text: string) => await answer({ kind: 'agent', send: '' }, await says(text))
    assert.deepEqual(await agent('75%\n'), {
      state: 'good',
      words: 'the agent says 75%',
      weight: { kind: 'share', share: 0.75 },
    })
    assert.deepEqual((await agent('up')).state, 'good')
    assert.deepEqual(judgeAgent('down disk full'), { state: 'bad', words: 'the agent says down: disk full' })
    assert.deepEqual(judgeAgent('drain').weight, { kind: 'share', share: 0 })
    assert.deepEqual(judgeAgent('up, 50% maxconn:30').weight, { kind: 'share', share: 0.5 })
    assert.equal(judgeAgent('HTTP/1.1 400').state, 'bad')
  })

  test('ping: the machine itself, where it is allowed', async () => {
    const { state, words } = await answer({ kind: 'ping' }, 0)
    if (state === 'void') assert.match(words, /ping_group_range/)
    else assert.deepEqual([state, words], ['good', 'echo reply'])
  })
})
