/** What signals do to a daemon, and what systemd is told. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { call } from '../../../control/front/api/client.ts'
import { AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM_CLOEXEC } from '../../../linux/abi.ts'
import { check, libc } from '../../../linux/libc.ts'
import { ask } from '../front/ask.ts'
import { type Daemon, END_MS, withDaemon } from './process.ts'

/** Takes the place of systemd's end of the notices. */
class Notices {
  readonly path: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'pointsman-notify-'))
  #fd: number
  readonly heard: string[] = []

  constructor() {
    this.path = join(this.#folder, 'notify')
    this.#fd = check(libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), 'open a socket')
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(this.path)])
    check(libc.bind(this.#fd, address, address.length), `bind ${this.path}`)
  }

  /** The first of its kind, or the one that makes so many. */
  async until(pattern: RegExp, count = 1): Promise<string> {
    for (const endMs = performance.now() + END_MS; ; await sleep(20)) {
      const late = performance.now() > endMs
      const found = this.#read().filter((notice) => pattern.test(notice))[count - 1]
      if (found !== undefined) return found
      if (late) throw new Error(`no ${count} ${pattern} within ${END_MS} ms: ${JSON.stringify(this.heard)}`)
    }
  }

  #read(): string[] {
    const buffer = Buffer.alloc(4096)
    for (;;) {
      const length = libc.recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT)
      if (length < 0) return this.heard
      this.heard.push(buffer.toString('utf8', 0, length))
    }
  }

  close(): void {
    if (this.#fd >= 0) libc.close(this.#fd)
    this.#fd = -1
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function withNotices(
  env: Readonly<Record<string, string>>,
  act: (daemon: Daemon, notices: Notices) => Promise<void>,
): Promise<void> {
  const notices = new Notices()
  try {
    await withDaemon({ env: { NOTIFY_SOCKET: notices.path, ...env } }, (daemon) => act(daemon, notices))
  } finally {
    notices.close()
  }
}

test('a reload is announced, changes no rule, ends nothing, and is over when systemd is told so', () =>
  withNotices({}, async ({ socket, child }, notices) => {
    await notices.until(/^READY=1/)
    await call(socket, 'PUT', '/v1/services/tcp/192.0.2.1/80', { scheduler: 'rr' })
    for (let times = 1; times <= 3; times++) {
      notices.heard.length = 0
      const beforeUs = process.hrtime.bigint() / 1000n
      child.kill('SIGHUP')
      const reloading = await notices.until(/^RELOADING=1\nMONOTONIC_USEC=\d+$/)
      const at = BigInt(/USEC=(\d+)/.exec(reloading)?.[1] ?? 0)
      assert.ok(at >= beforeUs && at <= process.hrtime.bigint() / 1000n, 'CLOCK_MONOTONIC')
      await notices.until(/^READY=1/)
    }
    assert.equal(((await call(socket, 'GET', '/v1/services')) as unknown[]).length, 1)
    assert.equal(child.exitCode, null)
  }))

test('a systemd that is gone changes nothing', () =>
  withNotices({ WATCHDOG_USEC: '200000' }, async ({ socket, child, ended }, notices) => {
    await notices.until(/^READY=1/)
    notices.close()
    child.kill('SIGHUP')
    await sleep(300)
    assert.equal((await ask(socket, 'GET', '/v1/status')).status, 200)
    child.kill('SIGTERM')
    assert.equal(await ended(), 0)
  }))

test('a second signal does not wait for what the first waits for', () =>
  withNotices({}, async ({ socket, child, ended }, notices) => {
    await notices.until(/^READY=1/)
    const client = connect(socket)
    client.on('error', () => {})
    client.write(
      'PUT /v1/timeouts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n',
    )
    // It is being served: told to go on.
    await once(client, 'data')
    child.kill('SIGTERM')
    await notices.until(/^STOPPING=1/)
    child.kill('SIGINT')
    assert.equal(await ended(), 1)
  }))

test('the watchdog is told of every beat, as often as it wants', () =>
  withNotices({ WATCHDOG_USEC: '600000' }, async (_daemon, notices) => {
    await notices.until(/^READY=1/)
    // Within the patience for one thing there is no room for four beats of a minute, or of none.
    await notices.until(/^WATCHDOG=1$/, 4)
  }))

test('a watchdog of another process is none of ours', () =>
  withNotices({ WATCHDOG_USEC: '600000', WATCHDOG_PID: '1' }, async ({ child, ended }, notices) => {
    await notices.until(/^READY=1/)
    await sleep(800)
    child.kill('SIGTERM')
    assert.equal(await ended(), 0)
    await notices.until(/^STOPPING=1/)
    assert.ok(!notices.heard.includes('WATCHDOG=1'))
  }))
