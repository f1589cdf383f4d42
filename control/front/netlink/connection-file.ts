/** Connections as the kernel writes them to /proc/net/ip_vs_conn. */
import { addressWords, type IpAddress } from '../../../net/address.ts'
import type { ConnectionListing } from '../../model/connection.ts'

const TITLE = 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n'
const GROUPS = 8
const WORD_DIGITS = 8

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')

/** IPv4: eight capital digits; IPv6: eight groups of four small ones. */
function addressText(address: IpAddress): string {
  const words = addressWords(address)
  if (!address.includes(':')) return hex(words[0], WORD_DIGITS).toUpperCase()
  const digits = words.map((word) => hex(word, WORD_DIGITS)).join('')
  return Array.from({ length: GROUPS }, (_, i) => digits.slice(4 * i, 4 * i + 4)).join(':')
}

function line(connection: ConnectionListing): string {
  const ends = [
    [connection.client, connection.clientPort],
    [connection.virtual, connection.virtualPort],
    [connection.destination, connection.destinationPort],
  ] as const
  const words = ends.map(([address, port]) => `${addressText(address)} ${hex(port, 4).toUpperCase()}`)
  const seconds = Math.max(0, Math.trunc(connection.remainingMs / 1000))
  const engine = connection.engine === null ? '' : ` ${connection.engine.name} ${connection.engine.data}`
  return `${connection.protocol.toUpperCase().padEnd(3)} ${words.join(' ')} ${connection.state.padEnd(11)} ${String(seconds).padStart(7)}${engine}\n`
}

/** Pieces are sent as large as this: a million lines are not whole in memory. */
const PIECE = 64 * 1024

export async function* connectionFile(connections: Iterable<ConnectionListing>): AsyncGenerator<Uint8Array> {
  let text = TITLE
  for (const connection of connections) {
    text += line(connection)
    if (text.length < PIECE) continue
    yield Buffer.from(text, 'latin1')
    text = ''
  }
  if (text !== '') yield Buffer.from(text, 'latin1')
}
