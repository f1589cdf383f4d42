/** Child of `packets.ts`: plays the vectors it is sent, one after another, on a bench of its own. */
import { play } from '../packets/play.ts'
import type { VectorHost } from '../packets/vector-host.ts'
import type { Vector } from '../packets/vectors.ts'

const [dataplane = '', number = ''] = process.argv.slice(2)

async function openHost(): Promise<VectorHost> {
  const bench = `pmv${process.ppid % 100_000}-${number}`
  switch (dataplane) {
    case 'wasm':
      return (await import('../packets/wasm-host.ts')).openWasmHost()
    case 'xdp':
      return (await import('../packets/wire-host.ts')).openWireHost(bench, 'xdp')
    case 'tc':
      return (await import('../packets/wire-host.ts')).openWireHost(bench, 'tc')
    case 'userspace':
      return (await import('../packets/wire-host.ts')).openWireHost(bench, 'userspace')
    default:
      throw new Error(`Unknown data plane ${JSON.stringify(dataplane)}`)
  }
}

const host = openHost()
let work: Promise<void> = Promise.resolve()

/** Namespaces go with the process that made them, also when something went wrong. */
async function end(status: number): Promise<never> {
  await host.then((opened) => opened.close()).catch(() => {})
  process.exit(status)
}

process.on('message', (message: Vector | 'end') => {
  work = work.then(async () => {
    if (message === 'end') await end(0)
    else process.send?.(await play(message, await host))
  })
  work.catch(async (error: unknown) => {
    console.error(error)
    await end(1)
  })
})
process.on('disconnect', () => void end(1))
