/** What the emulated machine runs: kernel IPVS beside the packet program, a line of JSON for each message. */
import { besideIpvs } from './e2e.ts'
import { type Message, Skip, sendingReporter } from './section.ts'

const send = (message: Message): void => void process.stdout.write(`${JSON.stringify(message)}\n`)
try {
  await besideIpvs(sendingReporter(send))
} catch (error) {
  const why = error instanceof Error ? error.message : String(error)
  send({ kind: error instanceof Skip ? 'skip' : 'fail', part: 'guest', why })
}
