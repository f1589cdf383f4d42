/**
 * A director in a process of its own: opens the data plane as its argument says, attaches, writes a mark
 * into `reals`, says so on stdout and stays until it is killed.
 */

import { KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { RealRecord } from '../../../dataplane/layout/layout.gen.ts'

export interface DirectorRequest {
  readonly options: KernelOptions
  readonly interfaces: readonly string[]
  readonly weight: number
}

const request: DirectorRequest = JSON.parse(process.argv[2] ?? '')
const plane = await KernelDataplane.open(request.options)
await plane.attach(request.interfaces)
RealRecord.setWeight(plane.map('reals').view, 0, request.weight)
console.log(JSON.stringify({ pinDirectory: plane.pinDirectory, warnings: plane.warnings }))
setInterval(() => {}, 60_000)
