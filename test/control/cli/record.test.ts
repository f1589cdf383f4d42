/** `pointsman record` as those who write its capture away meet it: slow readers, full disks, readers that go. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { record } from '../../../control/cli/record.ts'
import { interfaceBlock, packetBlock, sectionBlock, statisticsBlock } from '../../../net/packet/pcapng.ts'

const CLI = fileURLToPath(new URL('../../../control/cli/pointsman.ts', import.meta.url))
const skip = process.getuid?.() === 0 ? false : 'needs root: it mounts a file system'
/** More than pipes and sockets keep together. */
const PACKETS = 2000

function capture(): Buffer {
  const packet = { at: 0, timeNs: 0n, direction: 'in', bytes: new Uint8Array(1400), length: 1400 } as const
  return Buffer.concat([
    sectionBlock('test', 'all packets'),
    interfaceBlock('eth0', 8192),
    ...Array.from({ length: PACKETS }, (_, i) => packetBlock({ ...packet, packet: BigInt(i), comment: '' })),
  ])
}

const END = statisticsBlock({ at: 0, timeNs: 0n, received: PACKETS, lost: 7, comment: 'it was called off' })

/** A daemon that answers every request for a recording in this way. */
async function recording(
  answer: (response: ServerResponse) => void,
  body: (socket: string, folder: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-record-'))
  const socket = join(folder, 'pointsman.sock')
  const server = createServer((request, response) => {
    request.resume()
    answer(response)
  })
  server.listen(socket)
  await once(server, 'listening')
  try {
    await body(socket, folder)
  } finally {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true })
  }
}

/** The command itself, with standard output as a pipe. */
function command(socket: string, path: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', CLI, 'record', '-w', path], {
    env: { ...process.env, POINTSMAN_SOCKET: socket },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  return { child, said: () => said }
}

test('who reads it slowly from a pipe gets all of it', async () => {
  const all = Buffer.concat([capture(), END])
  let response: ServerResponse | null = null
  await recording(
    (answer) => {
      response = answer
      answer.end(all)
    },
    async (socket) => {
      const { child, said } = command(socket, '-')
      let before = -1
      // Until nothing moves any more: all on the way is full.
      for (let waits = 0; waits < 3 && child.exitCode === null; ) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        const sent = response?.socket?.bytesWritten ?? -1
        waits = sent >= 0 && sent === before ? waits + 1 : 0
        before = sent
      }
      const parts: Buffer[] = []
      for await (const part of child.stdout) parts.push(part)
      assert.equal(Buffer.compare(Buffer.concat(parts), all), 0, said())
      assert.match(said(), /2000 packets recorded, 7 lost; ended: it was called off/)
    },
  )
})

test('a reader that has seen enough ends it without a complaint', () =>
  recording(
    (answer) => void answer.write(capture()),
    async (socket) => {
      const { child, said } = command(socket, '-')
      await once(child.stdout, 'data')
      child.stdout.destroy()
      await once(child, 'exit')
      assert.deepEqual([child.exitCode, said()], [0, ''])
    },
  ))

test('a full disk is named, with what is left and what helps', { skip }, () =>
  recording(
    (answer) => void answer.write(capture()),
    async (socket, folder) => {
      const disk = join(folder, 'disk')
      mkdirSync(disk)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk])
      try {
        await assert.rejects(
          record(socket, { write: join(disk, 'x.pcapng') }, () => {}),
          /^ClientError: Cannot write into .*x\.pcapng: no space left on device; what was recorded until then is kept; end it sooner/,
        )
      } finally {
        execFileSync('umount', [disk])
      }
    },
  ),
)

test('a file that cannot be opened is named before anything is said to be recorded', () =>
  recording(
    (answer) => void answer.write(capture()),
    async (socket) => {
      const said: string[] = []
      await assert.rejects(
        record(socket, { write: '/nowhere/x.pcapng' }, (words) => said.push(words)),
        /^ClientError: Cannot write into \/nowhere\/x\.pcapng: no such file or directory; nothing was recorded$/,
      )
      assert.deepEqual(said, [])
    },
  ))

test('a file that was there for everybody is for its owner only before anything is in it', () =>
  recording(
    (answer) => void answer.end(Buffer.concat([capture(), END])),
    async (socket, folder) => {
      const path = join(folder, 'x.pcapng')
      writeFileSync(path, 'old', { mode: 0o644 })
      await record(socket, { write: path }, () => assert.equal(statSync(path).mode & 0o777, 0o600))
      assert.equal(statSync(path).mode & 0o777, 0o600)
      assert.equal(Buffer.compare(readFileSync(path), Buffer.concat([capture(), END])), 0)
    },
  ))

test('a terminal gets no packets', async () => {
  const isTerminal = process.stdout.isTTY
  process.stdout.isTTY = true
  try {
    await assert.rejects(record('/nowhere', { write: '-' }, assert.fail), /to a terminal: name a file/)
  } finally {
    process.stdout.isTTY = isTerminal
  }
})

test('a daemon that goes leaves what was recorded', () =>
  recording(
    (answer) => answer.write(capture(), () => answer.destroy()),
    async (socket, folder) => {
      const path = join(folder, 'x.pcapng')
      await assert.rejects(
        record(socket, { write: path }, () => {}),
        /The daemon has gone in the midst of it: what was recorded until then is kept/,
      )
      assert.ok(readFileSync(path).length > 0)
    },
  ))
