/** The rings that workers record into: all of their room is there, and nobody writes into rings that nobody reads. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { RING_FILE_BYTES } from '../../../dataplane/recording.ts'
import { FileTape, type Workers } from '../../../dataplane/userspace/recording.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: it mounts a file system'

/** Those that note what they were told. */
function workers(told: string[], begin: () => Promise<void> = async () => {}): Workers & { gone: boolean } {
  return {
    gone: false,
    async begin() {
      told.push('begin')
      await begin()
    },
    async end() {
      told.push('end')
    },
    ended() {
      return this.gone
    },
  }
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-recording-'))
  try {
    await body(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a full file system is refused before any worker writes into it', { skip }, () =>
  inFolder(async (folder) => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder])
    try {
      const told: string[] = []
      await assert.rejects(
        FileTape.open(join(folder, 'rings'), 2, workers(told)),
        /Cannot reserve 9 MiB for .*rings: its file system is full; make it larger/,
      )
      assert.deepEqual(told, [])
      assert.deepEqual(readdirSync(folder), [])
    } finally {
      execFileSync('umount', [folder])
    }
  }),
)

test('room for all that workers may write is there when they are told of it', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'rings')
    let blocks = 0
    const tape = await FileTape.open(
      path,
      2,
      workers([], async () => {
        blocks = statSync(path).blocks
      }),
    )
    assert.ok(blocks * 512 >= 2 * RING_FILE_BYTES, `${blocks} blocks`)
    assert.equal(existsSync(path), false, 'nobody has to find it any more')
    await tape.close()
  }))

test('a worker that could not begin ends it for those that have', () =>
  inFolder(async (folder) => {
    const told: string[] = []
    const one = workers(told, () => Promise.reject(new Error('no memory')))
    await assert.rejects(FileTape.open(join(folder, 'rings'), 1, one), /no memory/)
    assert.deepEqual(told, ['begin', 'end'])
  }))

test('it says when the forwarder has ended: the next one records nothing', () =>
  inFolder(async (folder) => {
    const one = workers([])
    const tape = await FileTape.open(join(folder, 'rings'), 1, one)
    assert.equal(tape.over(), null)
    one.gone = true
    assert.equal(tape.over(), 'the forwarder has ended')
    await tape.close()
  }))
