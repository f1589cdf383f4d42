/** What the daemon and the thread that explains a packet tell each other. */
import type { NextHop } from '../../../../linux/netlink/next-hop.ts'
import type { WayQuestion } from '../desk.ts'
import type { Explanation } from '../told.ts'

/** A packet in words, or the bytes of its frame. */
export interface PacketAsked {
  /** Protocol, client, virtual address; none: `frame` has it. */
  readonly words: readonly string[]
  readonly flags: string | undefined
  /** Hexadecimal digits. */
  readonly frame: string | undefined
  readonly interface: string | undefined
}

export type ToThread =
  | { readonly kind: 'piece'; readonly bytes: Uint8Array }
  | { readonly kind: 'explain'; readonly asked: PacketAsked }
  | { readonly kind: 'way'; readonly hop: NextHop }

export type FromThread =
  | { readonly kind: 'taken' }
  | { readonly kind: 'way'; readonly question: WayQuestion }
  | { readonly kind: 'explained'; readonly explanation: Explanation }
  /** What is wrong with the packet. */
  | { readonly kind: 'refused'; readonly why: string }
