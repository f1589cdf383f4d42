/** What directors of vanished network namespaces left pinned goes; what living ones have pinned stays. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { removeDeadPins } from '../../../dataplane/kernel/dead-pins.ts'
import { detachPinned, KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'

const realObject = fileURLToPath(new URL('../../../dist/pointsman.bpf.o', import.meta.url))
const skip =
  skipWithoutPrivileges || (existsSync(realObject) ? false : 'needs dist/pointsman.bpf.o: npm run build')

test('pins of a network namespace that is gone are removed, those of a living one stay', {
  skip,
}, async () => {
  enterPrivateNetwork()
  ip('link add dp0 type veth peer name dp1')
  for (const name of ['dp0', 'dp1']) ip(`link set ${name} up`)
  const directory = defaultPinDirectory()
  const plane = await KernelDataplane.open({ sizes: { ...SMALL_SIZES, cpus: possibleCpus() } })
  await plane.attach(['dp0'])
  await plane.close()
  const resident = spawn('sleep', ['60'], { stdio: 'ignore' })
  try {
    enterPrivateNetwork()
    assert.ok(!removeDeadPins().includes(directory), 'a living namespace')
    assert.ok(existsSync(directory))
    resident.kill('SIGKILL')
    await once(resident, 'exit')
    // The kernel takes namespaces apart in its own time.
    // Pins are the machine's: another director that starts meanwhile may have been quicker.
    const isRemoved = () => removeDeadPins().includes(directory) || !existsSync(directory)
    await until(isRemoved, 'pins of the dead namespace removed', 60_000)
    assert.ok(!existsSync(directory))
  } finally {
    resident.kill('SIGKILL')
    if (existsSync(directory)) detachPinned(directory)
  }
})
