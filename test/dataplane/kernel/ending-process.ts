/**
 * A director that ends by kill -9 after a number of steps: opens the data plane, attaches, has companions
 * and detaches if asked to. Its argument is a JSON of `Ending`; it prints which steps there were if it gets through.
 */
import { KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { knowOlder } from './older.ts'

export interface Ending {
  readonly options: KernelOptions
  readonly interfaces: readonly string[]
  readonly detach: boolean
  /** Whether what stands beside the packet program comes, and goes again as far as it does. */
  readonly companions?: boolean
  /** Ends after this many steps, with companions of theirs. */
  readonly after: number
  /** Whether this process knows the older layout. */
  readonly older: boolean
}

const { options, interfaces, detach, companions, after, older }: Ending = JSON.parse(process.argv[2] ?? '')
if (older) knowOlder()
const steps: string[] = []
let counts = companions !== true
const trace = (step: string): void => {
  if (!counts) return
  steps.push(step)
  if (steps.length === after) {
    process.stdout.write(`${step}\n`)
    process.kill(process.pid, 'SIGKILL')
  }
}
const plane = await KernelDataplane.open({ ...options, trace })
await plane.attach(interfaces)
if (companions === true) {
  counts = true
  plane.cutLarger(true, true)
  for (const on of [true, false]) {
    plane.seeAnswers(on)
    plane.serveOwn(on)
  }
}
if (detach) await plane.detach()
process.stdout.write(`through after ${steps.length} steps\n${steps.join('\n')}\n`)
process.exit()
