/**
 * Netlink messages and attributes as bytes (linux/netlink.h). Numbers are in host order, which is
 * little-endian on every machine this runs on.
 */

/** Offsets of `struct nlmsghdr`. */
const HEADER = { length: 0, type: 4, flags: 6, sequence: 8, port: 12, size: 16 } as const
const ATTRIBUTE_HEADER = 4
/** The top bits of an attribute's type say "nested" and "network order". */
const ATTRIBUTE_TYPE_MASK = 0x3fff

export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const NLM_F_REQUEST = 0x01
export const NLM_F_MULTI = 0x02
export const NLM_F_ACK = 0x04
/** The kernel changed what it was dumping: the dump may be inconsistent. */
export const NLM_F_DUMP_INTR = 0x10
/** Requests that read: everything of a kind. */
export const NLM_F_DUMP = 0x300
/** Requests that write. */
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400

export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** Of the socket that asked. */
  readonly port: number
  /** What follows the header, a view. */
  readonly body: Uint8Array
}

export interface NetlinkAttribute {
  readonly type: number
  readonly value: Uint8Array
}

/** A request as the kernel wants it. `header` is the family's fixed part (`struct rtmsg`, ...). */
export function encodeRequest(
  request: {
    readonly type: number
    readonly flags: number
    readonly sequence: number
    readonly port?: number
  },
  header: Uint8Array,
  attributes: readonly NetlinkAttribute[] = [],
): Uint8Array {
  const start = HEADER.size + padded(header.length)
  const encoded = encodeAttributes(attributes)
  const length = start + encoded.length
  const bytes = new Uint8Array(length)
  const view = viewOf(bytes)
  view.setUint32(HEADER.length, length, true)
  view.setUint16(HEADER.type, request.type, true)
  view.setUint16(HEADER.flags, request.flags, true)
  view.setUint32(HEADER.sequence, request.sequence, true)
  view.setUint32(HEADER.port, request.port ?? 0, true)
  bytes.set(header, HEADER.size)
  bytes.set(encoded, start)
  return bytes
}

/** One behind the other, as in a request or in an attribute that nests others. */
export function encodeAttributes(attributes: readonly NetlinkAttribute[]): Uint8Array {
  let length = 0
  for (const { value } of attributes) length += padded(ATTRIBUTE_HEADER + value.length)
  const bytes = new Uint8Array(length)
  const view = viewOf(bytes)
  let at = 0
  for (const { type, value } of attributes) {
    view.setUint16(at, ATTRIBUTE_HEADER + value.length, true)
    view.setUint16(at + 2, type, true)
    bytes.set(value, at + ATTRIBUTE_HEADER)
    at += padded(ATTRIBUTE_HEADER + value.length)
  }
  return bytes
}

/** The messages of one datagram. Ends at the first header that does not fit: the kernel sends none. */
export function decodeMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = viewOf(bytes)
  const messages: NetlinkMessage[] = []
  let at = 0
  while (at + HEADER.size <= bytes.length) {
    const length = view.getUint32(at + HEADER.length, true)
    if (length < HEADER.size || at + length > bytes.length) break
    messages.push({
      type: view.getUint16(at + HEADER.type, true),
      flags: view.getUint16(at + HEADER.flags, true),
      sequence: view.getUint32(at + HEADER.sequence, true),
      port: view.getUint32(at + HEADER.port, true),
      body: bytes.subarray(at + HEADER.size, at + length),
    })
    at += padded(length)
  }
  return messages
}

/** Attributes behind a fixed part of `offset` bytes, in their order. */
export function attributesIn(body: Uint8Array, offset: number): NetlinkAttribute[] {
  const attributes: NetlinkAttribute[] = []
  const view = viewOf(body)
  let at = padded(offset)
  while (at + ATTRIBUTE_HEADER <= body.length) {
    const length = view.getUint16(at, true)
    if (length < ATTRIBUTE_HEADER || at + length > body.length) break
    const type = view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK
    attributes.push({ type, value: body.subarray(at + ATTRIBUTE_HEADER, at + length) })
    at += padded(length)
  }
  return attributes
}

/** The same by type; of repeated ones the last. */
export function decodeAttributes(body: Uint8Array, offset: number): Map<number, Uint8Array> {
  return new Map(attributesIn(body, offset).map(({ type, value }) => [type, value]))
}

/** The error number of an NLMSG_ERROR message, positive; 0 is an acknowledgement. */
export function errorOf(message: NetlinkMessage): number {
  return message.body.length < 4 ? 0 : 0 - viewOf(message.body).getInt32(0, true)
}

/** The kernel's own words on an error (NLMSGERR_ATTR_MSG), if it had any. */
export function errorText(message: NetlinkMessage): string | null {
  const NLM_F_CAPPED = 0x100
  const NLM_F_ACK_TLVS = 0x200
  const NLMSGERR_ATTR_MSG = 1
  if ((message.flags & NLM_F_ACK_TLVS) === 0 || message.body.length < 4 + HEADER.size) return null
  const quoted = (message.flags & NLM_F_CAPPED) !== 0 ? HEADER.size : viewOf(message.body).getUint32(4, true)
  const text = decodeAttributes(message.body, 4 + quoted).get(NLMSGERR_ATTR_MSG)
  return text === undefined ? null : textOf(text)
}

/** Text with its terminating zero left out. */
export function textOf(value: Uint8Array): string {
  const end = value.indexOf(0)
  return new TextDecoder().decode(value.subarray(0, end < 0 ? value.length : end))
}

export function u32Of(value: Uint8Array | undefined): number | null {
  return value === undefined || value.length < 4 ? null : viewOf(value).getUint32(0, true)
}

export function u32Value(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, true)
  return bytes
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Messages and attributes start at multiples of 4. */
function padded(length: number): number {
  return (length + 3) & ~3
}
