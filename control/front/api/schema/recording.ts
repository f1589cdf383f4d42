/** Recordings as they cross the API. */
import { z } from 'zod'
import { verdictNames } from '../../../../dataplane/layout/layout.gen.ts'
import { SNAP_DEFAULT, SNAP_MAX } from '../../../../dataplane/recording.ts'
import { prefixText } from '../../../../net/prefix.ts'
import { PROTOCOL_NUMBERS } from '../../../../net/protocol.ts'
import type { CaptureAsked } from '../route.ts'
import { serviceBody } from './filter.ts'
import { prefix } from './mark.ts'

const VERDICTS: ReadonlyMap<string, number> = new Map(
  Object.entries(verdictNames).map(([number, name]) => [name, Number(number)]),
)

const verdict = z.string().transform((name, context): number => {
  const number = VERDICTS.get(name)
  if (number !== undefined) return number
  const like = [...VERDICTS.keys()].filter(
    (known) => known.includes(name) || known.startsWith(name[0] ?? ' '),
  )
  const some = (like.length > 0 ? like : [...VERDICTS.keys()]).slice(0, 8).join(', ')
  context.addIssue({ code: 'custom', message: `no verdict; there are ${some}, ...: see pointsman verdicts` })
  return z.NEVER
})

/** What is longer than this nobody waits for in a terminal. */
const DAY_S = 86_400

export const recordingBody = z
  .strictObject({
    service: serviceBody.optional(),
    client: prefix.optional().meta({ description: 'packets from there, and answers to it' }),
    verdicts: z.array(verdict).min(1).max(128).optional(),
    snap: z
      .int()
      .min(64)
      .max(SNAP_MAX)
      .default(SNAP_DEFAULT)
      .meta({ description: 'bytes of a frame that are kept' }),
    sample: z.int().min(1).max(1_000_000).default(1).meta({ description: 'one packet of so many' }),
    packets: z.int().min(1).optional(),
    bytes: z.int().min(1).optional().meta({ description: 'of the capture' }),
    seconds: z.int().min(1).max(DAY_S).optional(),
  })
  .meta({ id: 'Recording', description: 'what is recorded, and until when' })

/** Without any limit of its own it ends some day all the same. */
const SECONDS = 600
const BYTES = 1 << 30

export function captureAsked(body: z.output<typeof recordingBody>): CaptureAsked {
  const { service, client = null, verdicts = null, snap, sample, packets = null, bytes, seconds } = body
  const address = service !== undefined && 'address' in service ? service : null
  const mark = service !== undefined && 'fwmark' in service ? service : null
  const markService = mark === null ? null : `${mark.family === 6 ? 'fwmark6' : 'fwmark'}/${mark.fwmark}`
  const words = [
    ...(address === null ? [] : [`service ${address.protocol} ${address.address} ${address.port}`]),
    ...(markService === null ? [] : [`service ${markService}`]),
    ...(client === null ? [] : [`client ${prefixText(client)}`]),
    ...(verdicts === null ? [] : [`verdicts ${verdicts.map((number) => verdictNames[number]).join(', ')}`]),
    ...(sample === 1 ? [] : [`one of ${sample}`]),
  ]
  return {
    wanted: {
      client,
      service:
        address === null
          ? null
          : { protocol: PROTOCOL_NUMBERS[address.protocol], address: address.address, port: address.port },
      verdicts,
      snap,
      sample,
    },
    markService,
    packets,
    bytes: bytes ?? BYTES,
    seconds: seconds ?? SECONDS,
    words: words.length === 0 ? 'all packets' : words.join('; '),
  }
}
