/** Traffic control beside XDP: it is there as long as XDP counts on it, by links and by filters. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { egressFlagsIn } from '../../../dataplane/egress-table.ts'
import { detachPinned, KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { filterProgram } from '../../../dataplane/kernel/tc.ts'
import { EgressFlag } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { readLinks } from '../../../linux/links.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'
import type { DirectorRequest } from './director-process.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const programs = new TinyPrograms()

if (!skip) {
  enterPrivateNetwork()
  ip('link add re0 type veth peer name re0p')
  for (const name of ['re0', 're0p']) ip(`link set ${name} up`)
}

after(() => {
  programs.remove()
  if (!skip) detachPinned()
})

function options(more: Partial<KernelOptions>): KernelOptions {
  return {
    ...{ sizes, objectPath: programs.compile(3), tcObjectPath: programs.compile(4, undefined, 'tc') },
    ...more,
  }
}

function ifindex(): number {
  return readLinks().named('re0')!.ifindex
}

function isTold(plane: KernelDataplane): boolean {
  return (egressFlagsIn(plane.map('egress'), ifindex()) & EgressFlag.Relay) !== 0
}

function pinned(): string[] {
  const directory = defaultPinDirectory()
  if (!existsSync(directory)) return []
  return readdirSync(directory)
    .filter((name) => /^program|^(link|tc|filter|relay|filter-relay)-\d+$/.test(name))
    .map((name) => name.replace(/\d+$/, 'N'))
    .sort()
}

for (const [by, tcLinks, beside] of [
  ['links', true, ['program-relay', 'relay-N']],
  ['filters, before Linux 6.6', false, ['filter-relay-N', 'program-relay']],
] as const) {
  const withRelay = ['link-N', 'program', ...beside].sort()

  test(`by ${by}: it comes with native XDP and goes with it`, { skip }, async () => {
    const plane = await KernelDataplane.open(options({ tcLinks }))
    try {
      await plane.attach(['re0'])
      assert.deepEqual(pinned(), withRelay)
      assert.equal(isTold(plane), true)
      assert.deepEqual(
        plane.interfaces().map(({ mode, relayed }) => [mode, relayed]),
        [['native', true]],
      )
      plane.choose('native')
      await plane.attach(['re0'])
      assert.deepEqual(pinned(), ['link-N', 'program'])
      assert.equal(isTold(plane), false)
      assert.deepEqual(
        plane.interfaces().map(({ mode, relayed }) => [mode, relayed]),
        [['native', undefined]],
      )
      plane.choose('auto')
      await plane.attach(['re0'])
      assert.equal(isTold(plane), true)
      // Where all packets are traffic control's, nothing stands beside.
      plane.choose('tc')
      await plane.attach(['re0'])
      assert.deepEqual(pinned(), ['program-tc', tcLinks ? 'tc-N' : 'filter-N'].sort())
      assert.notEqual(tcLinks ? 1 : filterProgram(ifindex()), 0)
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
    assert.doesNotMatch(ip('link show re0'), /clsact/)
  })

  test(`by ${by}: killed, the next process goes on with it`, { skip }, async () => {
    const request: DirectorRequest = { options: options({ tcLinks }), interfaces: ['re0'], weight: 7 }
    const script = fileURLToPath(new URL('./director-process.ts', import.meta.url))
    const child: ChildProcess = spawn(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), script, JSON.stringify(request)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const ended = once(child, 'exit')
    await once(child.stdout!, 'data')
    child.kill('SIGKILL')
    await ended
    assert.deepEqual(pinned(), withRelay)
    const plane = await KernelDataplane.open(options({ tcLinks }))
    try {
      assert.equal(plane.adopted, true)
      assert.equal(isTold(plane), true)
      await plane.attach(['re0'])
      assert.deepEqual(pinned(), withRelay)
      assert.equal(plane.interfaces()[0]?.relayed, true)
    } finally {
      await plane.detach()
      await plane.close()
    }
    assert.deepEqual(pinned(), [])
  })

  test(`by ${by}: taken off by somebody, it is put back`, { skip }, async () => {
    const plane = await KernelDataplane.open(options({ tcLinks }))
    try {
      await plane.attach(['re0'])
      ip('link del re0')
      ip('link add re0 type veth peer name re0p')
      for (const name of ['re0', 're0p']) ip(`link set ${name} up`)
      await plane.attach(['re0'])
      assert.equal(isTold(plane), true)
      assert.deepEqual(pinned(), withRelay)
    } finally {
      await plane.detach()
      await plane.close()
    }
  })
}
