/** What recorders cost packets: nothing before a recording and after it, since another program takes the usual one's place. */
import { cpus } from 'node:os'
import { possibleCpus } from '../linux/cpus.ts'
import { enterNetns } from '../linux/netns.ts'
import { stayOnCpu } from './bpf.ts'
import { FORWARDED } from './methods.ts'
import { makeDirector, Namespaces, namespacePath } from './network.ts'
import { expectVerdict, readVerdicts } from './rules.ts'
import type { Goal, Section } from './section.ts'
import { compare } from './statistics.ts'
import { endpoint, establish, oneService, open } from './subject.ts'
import { fromClients } from './traffic.ts'
import { Wrapper } from './wrapper.ts'

const ROUNDS = 25
const PACKETS = 20_000
const FLOWS = 1024
const NO_COST: Goal = { of: 'ratio', bound: 'most', limit: 1.01 }

export const recording: Section = {
  name: 'recording',
  about: 'what packets pay for recorders while nobody records',
  secondsMax: 90,
  async run(report) {
    const namespaces = new Namespaces()
    try {
      enterNetns(namespacePath(await makeDirector(namespaces, 'record')))
      stayOnCpu(cpus().length - 1)
      const wrapper = new Wrapper(possibleCpus())
      const bench = await open(wrapper, { 4: 16_384, 6: 4 })
      const { plane, client } = bench
      try {
        oneService(bench, 'direct-routing', 4)
        establish(bench, 'direct-routing', 4, FLOWS)
        wrapper.choose({ traffic: fromClients(endpoint(4)), flows: FLOWS, random: true })
        const round = (): number => {
          bench.rules.holdNextHops()
          return wrapper.run(plane.programFd, client, PACKETS).ns
        }
        round()
        const counted = readVerdicts(plane)
        const before = Array.from({ length: ROUNDS }, round)
        const { id } = plane.program()
        const wanted = { client: null, service: null, verdicts: null, snap: 256, sample: 1 }
        const tape = await plane.record(wanted)
        await tape.close()
        if (plane.program().id !== id) throw new Error('Another program is there after the recording')
        const after = Array.from({ length: ROUNDS }, round)
        expectVerdict(plane, counted, FORWARDED['direct-routing'], 2 * ROUNDS * PACKETS)
        const { value, reference, ratio, interval } = compare(after, before)
        report.row({
          name: 'established, DR IPv4, when a recording has come and gone',
          unit: 'ns/packet',
          value,
          best: Math.min(...after),
          reference: { name: 'before it', value: reference },
          ratio,
          ...(interval === null ? {} : { ratioInterval: interval }),
          goal: NO_COST,
          note: `best before it ${Math.min(...before).toFixed(1)}; the wrapper's share is in it`,
        })
      } finally {
        wrapper.close()
        await plane.close()
      }
    } finally {
      await namespaces.remove()
    }
  },
}
