/** The director of `watched.ts`, in a process whose memory is its own. Started with --expose-gc. */
import { openWatched } from '../control/page/director.ts'

/** `go on` for so many samples of the hour; how large it is then. */
export interface Asked {
  readonly samples: number
}

export interface Told {
  readonly url: string
  readonly metrics: string
  /** Of objects that are still needed, bytes. */
  readonly heap: number
  readonly failures: number
}

const CLIENTS = 500
const watched = await openWatched(CLIENTS)

function tell(): void {
  globalThis.gc?.()
  const told: Told = {
    ...{ url: watched.url, metrics: watched.metrics },
    heap: process.memoryUsage().heapUsed,
    failures: watched.failures.length,
  }
  process.send?.(told)
}

/** Of its own, besides those that come over the network: what a scrape left lying would be seen after thousands. */
const SAMPLES_A_SCRAPE = 4

process.on('message', async ({ samples }: Asked) => {
  for (let i = 0; i < samples; i++) {
    watched.goOn()
    if (i % SAMPLES_A_SCRAPE === 0) await watched.scrape()
  }
  tell()
})
process.on('disconnect', () => process.exit(0))
tell()
