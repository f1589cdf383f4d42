/** Plays recorded sessions without a daemon: the grammar on rules that reach no packets. */
import { readFileSync } from 'node:fs'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm, STDIN_WANTED } from '../../../../control/front/ipvsadm/run.ts'
import type { Director } from '../../../../control/model/director.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost, type HostInterface } from '../../../../control/rules/host.ts'
import { parseAddress } from '../../../../net/address.ts'
import { type Player, playAll, type Result } from './play.ts'
import type { Output, Recording } from './scenario.ts'

/** Interfaces as `ip -brief address` prints them: name, state, addresses with prefix lengths. */
export function parseInterfaces(text: string): HostInterface[] {
  return text
    .split('\n')
    .map((line) => line.split(' ').filter((word) => word !== ''))
    .filter((words) => words.length >= 2)
    .map(([name, state, ...addresses], i) => ({
      name: name!.replace(/@.*/, ''),
      ifindex: i + 1,
      mac: null,
      mtu: name === 'lo' ? 65536 : 1500,
      up: state !== 'DOWN',
      addresses: addresses.map((text) => {
        const [address, prefixLength] = text.split('/')
        return {
          address: parseAddress(address!)!,
          family: address!.includes(':') ? (6 as const) : (4 as const),
          prefixLength: Number(prefixLength),
        }
      }),
    }))
}

function readServices(): string {
  try {
    return readFileSync('/etc/services', 'latin1')
  } catch {
    throw new Error('Cannot read /etc/services: install netbase, whose names the recordings use')
  }
}

export class InProcessPlayer implements Player {
  readonly programs = ['ipvsadm']
  director: Director
  readonly #interfaces: readonly HostInterface[]
  readonly #hosts: string
  readonly #services: string

  constructor(environment: Recording['environment']) {
    this.#interfaces = parseInterfaces(environment.interfaces)
    this.#hosts = environment.hosts
    this.#services = readServices()
    this.director = this.#newDirector()
  }

  #newDirector(): Director {
    return createDirector({ host: fixedHost({ interfaces: this.#interfaces }) })
  }

  async reset(): Promise<void> {
    this.director = this.#newDirector()
  }

  async run(argv: readonly string[], stdin = ''): Promise<Output> {
    const result = await runIpvsadm({
      argv,
      stdin,
      director: this.director,
      names: () => namesFrom(this.#hosts, this.#services),
    })
    if (result === STDIN_WANTED) throw new Error(`Cannot run ${argv.join(' ')}: ${result}`)
    return {
      status: result.status,
      stdout: result.stdout.toString('utf8'),
      stderr: result.stderr.toString('utf8'),
    }
  }
}

export function playInProcess(recording: Recording, report: (result: Result) => void): Promise<Result[]> {
  return playAll(recording, new InProcessPlayer(recording.environment), report)
}
