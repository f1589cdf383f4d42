/** A section in a process of its own: what it enters, maps or breaks ends with it. */
import { type Message, Skip, sendingReporter } from './section.ts'
import { SECTIONS } from './sections.ts'

const send = (message: Message): void => {
  process.send?.(message)
}

const [name, depth] = process.argv.slice(2)
const section = SECTIONS.find((candidate) => candidate.name === name)
if (section === undefined) throw new Error(`No section "${name}"`)
try {
  await section.run(sendingReporter(send), { quick: depth === 'quick' })
} catch (error) {
  const why = error instanceof Error ? error.message : String(error)
  send({ kind: error instanceof Skip ? 'skip' : 'fail', part: section.name, why })
}
process.disconnect?.()
