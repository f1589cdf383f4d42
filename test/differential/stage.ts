/** A twin in a bench of its own, for the calling process: it moves into the bench's namespace for good. */

import type { Sizes } from '../../dataplane/dataplane.ts'
import { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { Bench } from '../packets/bench.ts'
import { enterNamespace, inNamespace, interfaceIndex } from '../packets/libc.ts'
import { attachPassProgram } from '../packets/pass-program.ts'
import { type KernelHost, stayOnCpu } from './program-run.ts'
import { Twin } from './twin.ts'

/** Tables so small that they fill up. */
function sizes(): Sizes {
  return {
    services: 16,
    serviceBuckets: 8,
    reals: 64,
    members: 32 * 261,
    connections4: 64,
    connections6: 32,
    cpus: possibleCpus(),
  }
}

export interface Stage {
  readonly twin: Twin
  close(): Promise<void>
}

export async function openStage(name: string, host: KernelHost = 'xdp'): Promise<Stage> {
  const bench = new Bench(name)
  try {
    enterNamespace(bench.director)
    // BPF_PROG_TEST_RUN takes a receiving interface only while its queues run NAPI.
    const programs = inNamespace(bench.director, () => [attachPassProgram('c0'), attachPassProgram('r0')])
    stayOnCpu(0)
    const kernel = await KernelDataplane.open({
      ...{ sizes: sizes(), pinDirectory: null },
      mode: host === 'tc' ? 'tc' : 'auto',
    })
    return {
      twin: new Twin(kernel, { c0: interfaceIndex('c0'), r0: interfaceIndex('r0') }),
      async close() {
        await kernel.close()
        for (const program of programs) program.close()
        bench.close()
      },
    }
  } catch (error) {
    bench.close()
    throw error
  }
}
