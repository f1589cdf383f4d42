/** Beside a program of ours that forwards, no second plane starts: it is taken over, or the start refused. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import {
  DEFAULT_CAPACITY,
  exchangeDataplane,
  type OpenOptions,
  openDataplane,
  sizesFor,
} from '../../../control/daemon/choose-plane.ts'
import { detachPinned, KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { SettingsRecord } from '../../../dataplane/layout/layout.gen.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { readLinks } from '../../../linux/links.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../../dataplane/private-network.ts'

const object = fileURLToPath(new URL('../../../dist/pointsman.bpf.o', import.meta.url))
const skip =
  skipWithoutPrivileges || (existsSync(object) ? false : 'needs dist/pointsman.bpf.o: npm run build')
const folder = mkdtempSync(join(tmpdir(), 'pointsman-choose-'))
const capacity = {
  ...DEFAULT_CAPACITY,
  realServers: 64,
  services: 64,
  connections4: 1024,
  connections6: 1024,
}

if (!skip) {
  enterPrivateNetwork()
  ip('link add cp0 type veth peer name cp0p')
  for (const name of ['cp0', 'cp0p']) ip(`link set ${name} up`)
}
afterEach(() => void (skip || detachPinned()))
after(() => rmSync(folder, { recursive: true }))

function options(choice: OpenOptions['choice'], more: Partial<OpenOptions> = {}): OpenOptions {
  return {
    choice,
    xdpMode: 'auto',
    interfaces: ['cp0'],
    capacity,
    runDirectory: folder,
    workers: 1,
    busyPoll: false,
    engine: 'packet',
    links: readLinks,
    log: () => {},
    ...more,
  }
}

/** A director has run here and its program forwards. */
async function leavePins(alter: (plane: KernelDataplane) => void = () => {}): Promise<string[]> {
  const plane = await KernelDataplane.open({ sizes: sizesFor(capacity, possibleCpus()) })
  await plane.attach(['cp0'])
  alter(plane)
  await plane.close()
  return readdirSync(defaultPinDirectory())
}

function assertUntouched(pins: readonly string[]): void {
  assert.deepEqual(readdirSync(defaultPinDirectory()), pins)
  assert.match(ip('link show cp0'), /xdp/)
  const tables = spawnSync('nft', ['list', 'tables'], { encoding: 'utf8' }).stdout
  assert.doesNotMatch(tables, /pointsman/, 'no userspace plane was begun')
}

for (const choice of ['auto', 'userspace'] as const) {
  test(`${choice}: pins without a map that this version has are refused and go on forwarding`, {
    skip,
  }, async () => {
    await leavePins()
    unlinkSync(join(defaultPinDirectory(), 'locals'))
    const pins = readdirSync(defaultPinDirectory())
    await assert.rejects(openDataplane(options(choice)), /a map is missing \(locals\).*pointsman detach/)
    assertUntouched(pins)
  })

  test(`${choice}: pins of a layout that nobody knows are refused and go on forwarding`, {
    skip,
  }, async () => {
    const pins = await leavePins((plane) => SettingsRecord.setLayout(plane.map('settings').view, 0, 999))
    await assert.rejects(openDataplane(options(choice)), /its layout has version 999.*pointsman detach/)
    assertUntouched(pins)
  })
}

test('auto: more workers than CPUs are no reason to leave the pins', { skip }, async () => {
  await leavePins()
  const { dataplane, adopted } = await openDataplane(options('auto', { workers: possibleCpus() + 6 }))
  assert.equal(dataplane?.plane, 'xdp')
  assert.equal(adopted, true)
  await dataplane?.close()
})

test('a change to userspace with more workers than the maps have room for names the remedy', {
  skip,
}, async () => {
  await leavePins()
  const more = options('auto', { workers: possibleCpus() + 6 })
  const { dataplane } = await openDataplane(more)
  await assert.rejects(
    exchangeDataplane(more, dataplane!, 'userspace'),
    new RegExp(`room for ${possibleCpus()}; start with --workers ${possibleCpus()}`),
  )
  await dataplane!.close()
})

test('userspace: more workers than the pinned maps have room for are refused', { skip }, async () => {
  const pins = await leavePins()
  await assert.rejects(
    openDataplane(options('userspace', { workers: possibleCpus() + 6 })),
    new RegExp(`room for ${possibleCpus()}; start with --workers ${possibleCpus()}`),
  )
  assertUntouched(pins)
})
