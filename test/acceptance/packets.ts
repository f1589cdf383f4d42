/** The packet program's own tests, on the virtual machine's kernel: the oldest that pointsman runs on. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../../lab/command.ts'
import { PACKET_TESTS } from './result.ts'
import { step, Wrong } from './story.ts'

/** The verifier alone takes most of a minute there. */
const FILE_MS = 60 * 60_000

export async function packetTests(): Promise<void> {
  const folder = join('/job', PACKET_TESTS, 'test/packets')
  for (const name of readdirSync(folder).sort()) {
    await step(`packets on this kernel: ${name.replace(/\.test\.mjs$/, '')}`, async () => {
      const { status, stdout, stderr } = await run(['node', '--test-reporter', 'tap', join(folder, name)], {
        timeoutMs: FILE_MS,
      })
      const count = (word: string): number =>
        Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(stdout)?.[1] ?? 0)
      if (status !== 0 || count('pass') === 0)
        throw new Wrong([...stdout.matchAll(/^ *not ok .*$/gm)].join('\n') || stderr)
      return `${count('pass')} passed, ${count('skipped')} skipped`
    })
  }
}
