/** kill -9 at every step while programs beside the packet program come and go: the next director leaves nothing behind. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import test, { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Sizes } from '../../../dataplane/dataplane.ts'
import { detachPinned, KernelDataplane, type KernelOptions } from '../../../dataplane/kernel/plane.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { readLinks } from '../../../linux/links.ts'
import { skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges } from '../private-network.ts'
import type { Ending } from './ending-process.ts'
import { TinyPrograms } from './tiny-program.ts'

const skip = skipWithoutPrivileges || skipWithoutClang
const sizes: Sizes = { ...SMALL_SIZES, cpus: skip ? 1 : possibleCpus() }
const programs = new TinyPrograms()
const SCRIPT = fileURLToPath(new URL('./ending-process.ts', import.meta.url))

if (!skip) {
  enterPrivateNetwork()
  ip('link add in0 type veth peer name in0p')
  for (const name of ['in0', 'in0p']) ip(`link set ${name} up`)
}
after(() => {
  programs.remove()
  if (!skip) detachPinned()
})

const options = (tcLinks: boolean): KernelOptions => ({
  ...{ sizes, tcLinks, mode: 'native' },
  objectPath: programs.compile(3),
  outObjectPath: programs.compile(6, undefined, 'out'),
  ownObjectPath: programs.compile(6, undefined, 'own'),
  cutObjectPath: programs.compile(6, undefined, 'cut'),
})

/** What a director says that is killed after so many steps; all of them if it gets through. */
function killedAfter(steps: number, tcLinks: boolean): string {
  const request = { interfaces: ['in0'], detach: false, companions: true, older: false }
  const argument = JSON.stringify({ ...request, options: options(tcLinks), after: steps } satisfies Ending)
  const argv = ['--import', import.meta.resolve('tsx'), SCRIPT, argument]
  const { stdout, stderr, signal } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
  if (signal !== 'SIGKILL') assert.match(stdout, /^through/, stderr)
  return stdout.trim()
}

/** Numbers of the first and the last step of each kind (a link pinned, a program unpinned). */
function stepsToKillAfter(tcLinks: boolean): number[] {
  const [, ...steps] = killedAfter(0, tcLinks).split('\n')
  const kinds = steps.map((step) => step.replace(/\d+/, ''))
  return kinds.flatMap((kind, i) =>
    kinds.indexOf(kind) === i || kinds.lastIndexOf(kind) === i ? [i + 1] : [],
  )
}

/** What stands in the kernel for one of the companions. */
function left(hook: string): string[] {
  return [
    ...readdirSync(defaultPinDirectory()).filter((name) =>
      new RegExp(`^program-${hook}(-new)?$|^(filter-)?${hook}-`).test(name),
    ),
    ...(hook === 'own'
      ? readLinks()
          .all()
          .flatMap(({ name }) => (/^pm-/.test(name) ? [name] : []))
      : []),
  ]
}

for (const [by, tcLinks] of [
  ['links', true],
  ['filters, before Linux 6.6', false],
] as const)
  test(`by ${by}: whatever was begun or not yet ended goes once nobody wants it`, { skip }, async () => {
    const kills = stepsToKillAfter(tcLinks)
    assert.ok(kills.length > 10, `${kills}`)
    detachPinned()
    for (const steps of kills) {
      const step = killedAfter(steps, tcLinks)
      const plane = await KernelDataplane.open(options(tcLinks))
      try {
        await plane.attach(['in0'])
        // As the applier does, which has neither local servers nor services.
        if (plane.answers() !== null) plane.seeAnswers(false)
        if (plane.ownClients() !== null) plane.serveOwn(false)
        for (const hook of ['out', 'own']) assert.deepEqual(left(hook), [], `killed after: ${step}`)
        if (plane.cutting() === null) assert.deepEqual(left('cut'), [], `killed after: ${step}`)
      } finally {
        await plane.detach()
        await plane.close()
      }
    }
  })
