/** What a director leaves in its machine: pins, and whatever else either plane sets up. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'

/** Where the director of a lab pins, which only its own network namespace can tell. */
export async function pinDirectory(lab: Lab): Promise<string> {
  const source = new URL('../../linux/bpffs.ts', import.meta.url).href
  const script = `import(${JSON.stringify(source)}).then((m) => console.log(m.defaultPinDirectory()))`
  const words = [process.execPath, '--import', import.meta.resolve('tsx'), '-e', script]
  return (await lab.exec('director', words)).stdout.trim()
}

/** What of either plane stands in the director, beside its own interfaces. */
async function leftovers(lab: Lab, pins: string): Promise<string[]> {
  const listing = async (...argv: string[]) => (await lab.exec('director', argv)).stdout
  return [
    ...((await listing('nft', 'list', 'tables')).includes('pointsman') ? ['nftables'] : []),
    ...((await listing('tc', 'qdisc', 'show')).includes('clsact') ? ['tc'] : []),
    ...((await listing('ip', 'link', 'show')).includes('pm-stack') ? ['veth'] : []),
    ...(/\bxdp/.test(await listing('ip', 'link', 'show')) ? ['xdp'] : []),
    ...([pins, `${pins}-new`].some((path) => existsSync(path)) ? ['pins'] : []),
    ...(lab.director.forwarder() === null ? [] : ['forwarder']),
    ...(existsSync(join(lab.director.runDir, 'userspace.maps')) ? ['maps'] : []),
  ]
}

/** For a process to start on a busy machine, and to see that it must not. */
const ENDING_MS = 60_000

/**
 * Waits until nothing is left: a forwarder that a killed daemon was starting finds that nobody wants it once it has
 * started, and one that was told to end is there until its last thread is not.
 */
export async function nothingIsLeft(lab: Lab, pins: string): Promise<void> {
  let left: readonly string[] = []
  await until('nothing to be left', ENDING_MS, async () => {
    left = await leftovers(lab, pins)
    return left.length === 0 ? true : undefined
  }).catch(() => assert.deepEqual(left, []))
}
