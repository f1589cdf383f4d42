/** Loading a program while signals come, as those of children that end do. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { builtFile } from '../../dataplane/assets.ts'
import { libbpf, loadNow, needPointer, takeLog } from '../../linux/libbpf.ts'
import { Errno } from '../../linux/libc.ts'
import { skipWithoutPrivileges } from '../dataplane/private-network.ts'

const OFTEN = `const { parentPort } = require('node:worker_threads')
setInterval(() => process.kill(process.pid, 'SIGUSR2'), 1)
parentPort.postMessage('begun')`

const TRIES = 100

/** What libbpf makes of it without any help. */
function loadedAsIs(object: ReturnType<typeof needPointer>): number {
  try {
    return libbpf().bpf_object__load(object)
  } finally {
    libbpf().bpf_object__close(object)
  }
}

test('signals do not keep the verifier from its end', { skip: skipWithoutPrivileges }, async () => {
  let signals = 0
  const count = (): void => void signals++
  process.on('SIGUSR2', count)
  const worker = new Worker(OFTEN, { eval: true })
  const file = builtFile('pointsman-out.bpf.o')
  const open = () => needPointer(libbpf().bpf_object__open_file(file, null), `open ${file}`)
  const other = open()
  try {
    await new Promise((resolve) => worker.once('message', resolve))
    // On a busy machine none of the signals may have come while the verifier was at it.
    let tries = 0
    while (loadedAsIs(open()) !== -Errno.EAGAIN) assert.ok(++tries < TRIES, 'what it is about')
    assert.equal(loadNow(other), 0, takeLog().join('\n').slice(-2000))
    const before = signals
    while (signals === before) await new Promise((resolve) => setImmediate(resolve))
  } finally {
    await worker.terminate()
    libbpf().bpf_object__close(other)
    process.off('SIGUSR2', count)
    takeLog()
  }
})
