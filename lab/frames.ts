/**
 * Sends raw Ethernet frames: `frames.ts INTERFACE`, one frame in hexadecimal per line of standard
 * input. Frames the kernel refuses (too short, too long) are counted, not fatal: prints
 * "SENT sent, REFUSED refused" at the end.
 */
import { readFileSync } from 'node:fs'
import koffi from 'koffi'

const AF_PACKET = 17
const SOCK_RAW = 3
/** struct sockaddr_ll of linux/if_packet.h: family, protocol, ifindex, then what sending ignores. */
const SOCKADDR_LL_BYTES = 20

const libc = koffi.load('libc.so.6')
const socket = libc.func('int socket(int domain, int type, int protocol)')
const ifNameToIndex = libc.func('unsigned int if_nametoindex(const char *name)')
const sendTo = libc.func(
  'int64_t sendto(int fd, const uint8_t *data, size_t length, int flags, const uint8_t *address, uint32_t addressLength)',
)

function main(device: string): void {
  const index: number = ifNameToIndex(device)
  if (index === 0) throw new Error(`No interface "${device}" here`)
  const fd: number = socket(AF_PACKET, SOCK_RAW, 0)
  if (fd < 0) throw new Error(`Cannot open a packet socket: errno ${koffi.errno()}`)
  const address = Buffer.alloc(SOCKADDR_LL_BYTES)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeInt32LE(index, 4)

  let sent = 0
  let refused = 0
  for (const line of readFileSync(0, 'utf8').split('\n')) {
    const frame = Buffer.from(line.trim(), 'hex')
    if (frame.length === 0) continue
    const result = Number(sendTo(fd, frame, frame.length, 0, address, address.length))
    if (result === frame.length) sent += 1
    else refused += 1
  }
  process.stdout.write(`${sent} sent, ${refused} refused\n`)
}

main(process.argv[2] ?? '')
