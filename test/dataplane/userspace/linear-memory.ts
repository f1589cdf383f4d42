/** The program's linear memory with a table of jobs in it, for tests of what goes on around the program. */
import { builtFile } from '../../../dataplane/assets.ts'
import { ArrivalRecord, FibResult, JobRecord } from '../../../dataplane/layout/layout.gen.ts'
import { loadModule } from '../../../dataplane/userspace/wasm-file.ts'
import { JobTable } from '../../../dataplane/userspace/worker/jobs.ts'
import { createMemory, type FrameMover, ProgramOwner } from '../../../dataplane/wasm/instance.ts'

export interface LinearMemory {
  readonly mover: FrameMover
  readonly jobs: JobTable
  readonly view: DataView
  /** Zeroed bytes, their address a multiple of 64. */
  allocate(bytes: number): number
}

export function linearMemory(capacity: number): LinearMemory {
  const memory = createMemory()
  const owner = new ProgramOwner(loadModule(builtFile('pointsman.wasm')), memory, () => FibResult.NoRoute)
  const base = owner.allocate(capacity * JobRecord.size)
  const arrivals = owner.allocate(capacity * ArrivalRecord.size)
  return {
    mover: owner.mover,
    jobs: new JobTable(memory.buffer as SharedArrayBuffer, base, arrivals, capacity),
    view: new DataView(memory.buffer),
    allocate: (bytes) => owner.allocate(bytes),
  }
}
