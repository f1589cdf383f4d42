/** What `ipvsadm` lists of the lab's director while a daemon of somebody else's changes its rules. */
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'

/** Real servers by NAT in the list, with their weights. */
export async function members(lab: Lab): Promise<string> {
  const listed = await lab.director.rule('-Sn')
  return [...listed.matchAll(/-r (\S+) -m -w (\d+)/g)]
    .map(([, server, weight]) => `${server} ${weight}`)
    .sort()
    .join(', ')
}

/** Waits until they are the wanted ones, and in force. */
export async function inList(lab: Lab, wanted: string, withinMs: number): Promise<void> {
  let found = ''
  await until(`the real servers ${wanted}`, withinMs, async () => {
    found = await members(lab)
    if (found !== wanted) return undefined
    found += ', not in force'
    return (await lab.director.isInForce()) ? true : undefined
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}, found ${found}`)
  })
}
