/**
 * A director that ends by kill -9 after a number of steps: opens the data plane, attaches, detaches if
 * asked to. Its argument is a JSON of `Ending`; it prints how many steps there were if it gets through.
 */
import { KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { knowOlder } from './older.ts'

export interface Ending {
  readonly options: KernelOptions
  readonly interfaces: readonly string[]
  readonly detach: boolean
  /** Ends after this many steps. */
  readonly after: number
  /** Whether this process knows the older layout. */
  readonly older: boolean
}

const { options, interfaces, detach, after, older }: Ending = JSON.parse(process.argv[2] ?? '')
if (older) knowOlder()
const steps: string[] = []
const trace = (step: string): void => {
  steps.push(step)
  if (steps.length === after) {
    process.stdout.write(`${step}\n`)
    process.kill(process.pid, 'SIGKILL')
  }
}
const plane = await KernelDataplane.open({ ...options, trace })
await plane.attach(interfaces)
if (detach) await plane.detach()
process.stdout.write(`through after ${steps.length} steps\n`)
process.exit()
