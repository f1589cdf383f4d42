/** A section in a process of its own: what it enters, maps or breaks ends with it. */
import { type Message, type Reporter, Skip } from './section.ts'
import { SECTIONS } from './sections.ts'

const send = (message: Message): void => {
  process.send?.(message)
}

const [name, depth] = process.argv.slice(2)
const section = SECTIONS.find((candidate) => candidate.name === name)
if (section === undefined) throw new Error(`No section "${name}"`)
try {
  const report: Reporter = {
    title: (text) => send({ kind: 'title', text }),
    row: (row) => send({ kind: 'row', row }),
    skip: (part, why) => send({ kind: 'skip', part, why }),
    fail: (part, why) => send({ kind: 'fail', part, why }),
  }
  await section.run(report, { quick: depth === 'quick' })
} catch (error) {
  const why = error instanceof Error ? error.message : String(error)
  send({ kind: error instanceof Skip ? 'skip' : 'fail', part: section.name, why })
}
process.disconnect?.()
