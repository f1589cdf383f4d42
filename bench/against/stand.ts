/**
 * The packet program of the tree that this file stands in, with rules and connections, for a stopwatch in
 * another process. It is copied into the other tree and uses what it finds beside it: rules are written by
 * the codecs of that commit, so that records may have any layout. What is measured, with which frames and by
 * which clock, is the stopwatch's business alone.
 *
 *     stand.ts    as a child with IPC, serialization `advanced`
 */
import { readFileSync } from 'node:fs'
import type { Answers, Ask, Reply, Scene } from './protocol.ts'

/** What a tree has to have; an import that fails says what is missing. */
async function tree() {
  const [subject, rules, methods, network, traffic, wrapper, bpf, layout, cpus, netns] = await Promise.all([
    import('../subject.ts'),
    import('../rules.ts'),
    import('../methods.ts'),
    import('../network.ts'),
    import('../traffic.ts'),
    import('../wrapper.ts'),
    import('../bpf.ts'),
    import('../../dataplane/layout/layout.gen.ts'),
    import('../../linux/cpus.ts'),
    import('../../linux/netns.ts'),
  ])
  return {
    ...subject,
    ...rules,
    ...methods,
    ...network,
    ...traffic,
    ...wrapper,
    ...bpf,
    ...layout,
    ...cpus,
    ...netns,
  }
}

type Tree = Awaited<ReturnType<typeof tree>>
type Opened = Awaited<ReturnType<Tree['open']>>

class Stand {
  readonly #tree: Tree
  readonly #namespace: string
  readonly #wrapper: InstanceType<Tree['Wrapper']>
  #bench: Opened | null = null
  #before: readonly bigint[] = []

  constructor(from: Tree, namespace: string) {
    this.#tree = from
    this.#namespace = namespace
    this.#wrapper = new from.Wrapper(from.possibleCpus())
  }

  get #open(): Opened {
    if (this.#bench === null) throw new Error('Open the packet program first')
    return this.#bench
  }

  async open(lines: Readonly<Record<4 | 6, number>>): Promise<Answers['open']> {
    await this.close()
    const bench = await this.#tree.open(this.#wrapper, lines)
    this.#bench = bench
    const { client, server } = this.#tree.DIRECTOR
    return {
      program: numberOf(bench.plane.programFd),
      namespace: this.#namespace,
      client: client.device,
      server: server.device,
    }
  }

  serve({ method, family, servers, scheduler, oneArm }: Scene, keep: boolean): Answers['serve'] {
    const { endpoint, DIRECTOR, fromClients, toClients } = this.#tree
    const { rules } = this.#open
    const address = oneArm ? DIRECTOR.gateway[family] : DIRECTOR.real[family]
    const count = method === 'nat' ? 1 : servers
    const at = endpoint(family)
    if (!keep) {
      rules.clear()
      rules.add({
        at,
        method,
        scheduler,
        servers: Array.from({ length: count }, (_, number) => ({ address, port: 8000 + number })),
        source: DIRECTOR.server[family],
      })
    }
    return {
      syn: fromClients(at, { flags: 'S' }),
      clients: fromClients(at),
      answers: toClients({ address, port: 8000 }, 'A'),
      otherPort: fromClients({ ...at, port: 443 }),
    }
  }

  do(asked: Exclude<Ask, { readonly ask: 'open' | 'serve' | 'close' }>): null {
    const { establish, expectVerdict, readVerdicts, Verdict } = this.#tree
    const bench = this.#open
    switch (asked.ask) {
      case 'establish':
        establish(bench, asked.method, asked.family, asked.flows)
        return null
      case 'forget':
        bench.rules.forgetConnections(asked.family)
        return null
      case 'mark':
        bench.rules.holdNextHops()
        this.#before = readVerdicts(bench.plane)
        return null
      case 'expect': {
        const verdict = Verdict[asked.verdict]
        if (verdict === undefined) throw new Error(`it has no verdict ${asked.verdict}`)
        expectVerdict(bench.plane, this.#before, verdict, asked.packets)
        return null
      }
      default:
        return asked satisfies never
    }
  }

  async close(): Promise<null> {
    await this.#bench?.plane.close()
    this.#bench = null
    return null
  }
}

/** By what the kernel says of a descriptor: another process opens the program by that number. */
function numberOf(program: number): number {
  const number = /^prog_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${program}`, 'utf8'))?.[1]
  if (number === undefined) throw new Error(`Descriptor ${program} is no BPF program`)
  return Number(number)
}

const why = (error: unknown): string => (error instanceof Error ? error.message : String(error))

async function main(): Promise<void> {
  const send = (reply: Reply): void => void process.send?.(reply)
  try {
    const found = await tree()
    const namespaces = new found.Namespaces()
    const path = found.namespacePath(await found.makeDirector(namespaces, 'against'))
    const stand = new Stand(found, path)
    found.enterNetns(path)
    // The wrapper counts flows on each CPU: a pass that moves to another CPU would miss some. Not on the
    // stopwatch's, which is the last one.
    found.stayOnCpu(0)
    const answer = (asked: Ask): Promise<unknown> | unknown => {
      if (asked.ask === 'open') return stand.open(asked.lines)
      if (asked.ask === 'serve') return stand.serve(asked.scene, asked.keep)
      if (asked.ask === 'close') return stand.close()
      return stand.do(asked)
    }
    // One after the other, in the order they come.
    let turn = Promise.resolve()
    process.on('message', ({ number, asked }: { number: number; asked: Ask }) => {
      turn = turn.then(async () => {
        try {
          send({ number, ok: true, answer: await answer(asked) })
        } catch (error) {
          send({ number, ok: false, why: why(error) })
        }
      })
    })
    process.once('disconnect', () => {
      turn = turn.then(async () => {
        await stand.close()
        await namespaces.remove()
        process.exit()
      })
    })
    send({ number: null, ok: true, answer: null })
  } catch (error) {
    send({ number: null, ok: false, why: why(error) })
    process.disconnect?.()
  }
}

await main()
