/** `pointsman record` beside real traffic: each packet as it came and as it left, as tshark reads it. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { executable } from '../../lab/director.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { ALL_PLANES, capabilitiesOfUnit, missingFor, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const noTshark = existsSync('/usr/bin/tshark') ? false : 'needs tshark: apt-get install tshark'

/** A recording that has begun, by what it says on standard error. */
class Recorder {
  readonly process: ChildProcess
  #said = ''

  constructor(lab: Lab, words: readonly string[]) {
    this.process = spawn(executable('pointsman'), ['record', ...words], {
      env: { ...process.env, ...lab.director.environment() },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.process.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text
    })
  }

  async begun(): Promise<void> {
    while (!this.#said.includes('recording into')) {
      const ended = this.process.exitCode ?? this.process.signalCode
      if (ended !== null) throw new Error(`pointsman record has ended (${ended}): ${this.#said}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** All that it has said, when it has ended. */
  async ended(signal?: NodeJS.Signals): Promise<string> {
    const exit = this.process.exitCode === null ? once(this.process, 'close') : Promise.resolve()
    if (signal !== undefined) this.process.kill(signal)
    await exit
    return this.#said
  }
}

interface Row {
  readonly at: string
  readonly from: string
  readonly to: string
  readonly comment: string
}

function read(path: string): readonly Row[] {
  const fields = ['frame.interface_name', 'ip.src', 'tcp.srcport', 'ip.dst', 'tcp.dstport', 'frame.comment']
  const text = execFileSync(
    'tshark',
    ['-r', path, '-n', '-T', 'fields', ...fields.flatMap((field) => ['-e', field])],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  )
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [at = '', source, sport, destination, dport, comment = ''] = line.split('\t')
      return { at, from: `${source}:${sport}`, to: `${destination}:${dport}`, comment }
    })
}

for (const plane of ALL_PLANES) {
  test(
    `${plane}: with the unit's capabilities, packets of a service are recorded as they came and as they left`,
    { skip: missingFor(plane) || noTshark },
    () => withDirector(plane, recorded, { capabilities: capabilitiesOfUnit() }),
  )
}

async function recorded(lab: Lab): Promise<void> {
  const { director, client } = lab
  const service = virtualEndpoint(NAT)
  const to = `${service.address}:${service.port}`
  await director.restore(allRules(NAT))
  await client.http(service)
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-record-'))
  try {
    const path = join(folder, 'packets.pcapng')
    const recorder = new Recorder(lab, ['-w', path, '--service', `tcp/${to}`])
    await recorder.begun()
    const second = await director.pointsman(['record', '-w', join(folder, 'second')])
    assert.match(second.stderr, /somebody does already/)
    const { server } = await client.http(service)
    const real = `10.0.2.1${server.replace('rs', '')}:8080`
    const said = await recorder.ended('SIGINT')
    assert.equal(recorder.process.exitCode, 0, said)
    assert.match(said, /[1-9]\d* packets recorded, 0 lost; ended: it was called off\n$/)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const rows = read(path)
    const [syn, sent] = rows
    assert.ok(syn !== undefined && sent !== undefined, 'a packet as it came and as it left')
    assert.equal(syn.to, to)
    assert.match(
      syn.comment,
      new RegExp(`^#1 came: forward_nat; service tcp/${to}; real server ${real} \\(nat\\); connection `),
    )
    assert.deepEqual({ from: sent.from, to: sent.to, at: sent.at }, { from: syn.from, to: real, at: 'r0' })
    assert.match(sent.comment, /^#1 left: forward_nat; /)
    const answers = rows.filter(({ from, at }) => from === to && at !== 'r0')
    assert.ok(answers.length > 0 && answers.every(({ to: whom }) => whom === syn.from), 'and answers')
    const ends = new Set([syn.from, to, real])
    assert.deepEqual(
      rows.filter((row) => !ends.has(row.from) || !ends.has(row.to)),
      [],
      'and nobody else',
    )
    await client.http(service)
    await stopsByItself(lab, folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** At its limit; and when whoever asked for it is killed, for the next one to begin. */
async function stopsByItself(lab: Lab, folder: string): Promise<void> {
  const service = virtualEndpoint(NAT)
  const killed = new Recorder(lab, ['-w', join(folder, 'killed.pcapng')])
  await killed.begun()
  await killed.ended('SIGKILL')
  const path = join(folder, 'limited.pcapng')
  for (;;) {
    const words = ['-w', path, '--limit', '3', '60s', '--client', '192.0.2.0/24', '--snap', '64']
    const recorder = new Recorder(lab, words)
    try {
      await recorder.begun()
    } catch (error) {
      // The daemon has not heard of the other's end yet.
      if (String(error).includes('somebody does already')) continue
      throw error
    }
    await lab.client.http(service)
    assert.match(await recorder.ended(), /\n.*3 packets recorded, 0 lost; ended: 3 packets are full\n$/s)
    break
  }
  const events = await lab.director.pointsman(['events', '--kind', 'dataplane'])
  assert.match(events.stdout, /recording begun: client 192\.0\.2\.0\/24/)
  assert.match(events.stdout, /recording ended: \d+ packets, 0 lost: nobody reads it any more/)
}
