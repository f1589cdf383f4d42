/** The thread that explains one packet: its copy of the maps comes in pieces, and goes with it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { builtFile, packageRoot } from '../../../../dataplane/assets.ts'
import { loadModule } from '../../../../dataplane/userspace/wasm-file.ts'
import type { NextHop } from '../../../../linux/netlink/next-hop.ts'
import { Desk, type WayQuestion } from '../desk.ts'
import { Explainer } from '../explain.ts'
import { frameOf, frameOfHex, PacketError, packetInWords } from '../packet.ts'
import { readSnapshot } from '../snapshot.ts'
import type { Explanation } from '../told.ts'
import { verdictWords } from '../verdict-words.ts'
import type { FromThread, PacketAsked, ToThread } from './protocol.ts'

const pieces: Uint8Array[] = []
let answered: (hop: NextHop) => void = () => {}

function tell(message: FromThread): void {
  parentPort?.postMessage(message)
}

function way(question: WayQuestion): Promise<NextHop> {
  return new Promise((resolve) => {
    answered = resolve
    tell({ kind: 'way', question })
  })
}

async function explained(asked: PacketAsked): Promise<Explanation> {
  const explainer = new Explainer({
    snapshot: readSnapshot(Buffer.concat(pieces.splice(0))),
    module: loadModule(builtFile('pointsman.wasm')),
    words: verdictWords(readFileSync(join(packageRoot(), 'docs/verdicts.md'), 'utf8')),
  })
  const desk = new Desk(explainer, way)
  if (asked.frame !== undefined) {
    const [first] = explainer.interfaces()
    const frame = frameOfHex(asked.frame, desk.macOf(first?.ifindex ?? 0))
    const ifindex = desk.interfaceOfFrame(frame, asked.interface)
    if (ifindex === null)
      throw new PacketError(
        `No packets are taken from interface "${asked.interface ?? ''}": see pointsman status`,
      )
    return await desk.explain(frame, ifindex, 'restored')
  }
  const packet = packetInWords(asked.words, asked.flags)
  const ifindex = await desk.interfaceOf(asked.interface, packet)
  return await desk.explain(frameOf(packet, desk.macOf(ifindex)), ifindex, 'restored')
}

parentPort?.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'piece':
      pieces.push(message.bytes)
      tell({ kind: 'taken' })
      break
    case 'way':
      answered(message.hop)
      break
    case 'explain':
      explained(message.asked).then(
        (explanation) => tell({ kind: 'explained', explanation }),
        (error: unknown) => {
          if (!(error instanceof PacketError)) throw error
          tell({ kind: 'refused', why: error.message })
        },
      )
      break
    default:
      message satisfies never
  }
})
