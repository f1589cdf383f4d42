/** Waits for the moment in which something can be seen of what another process does. */
import { existsSync } from 'node:fs'
import { sleep } from '../../lab/command.ts'

/** Until the file is there, or the work is over that was to make it. */
export async function seen(path: string, work: Promise<unknown>): Promise<void> {
  let isOver = false
  const over = (): void => {
    isOver = true
  }
  work.then(over, over)
  while (!isOver && !existsSync(path)) await sleep(1)
}
