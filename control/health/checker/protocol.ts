/** What the daemon and the program that asks say to each other: lists of jobs, lists of answers. */
import type { Family, IpAddress } from '../../../net/address.ts'
import type { CheckQuestion } from '../../model/check.ts'

export interface Job {
  readonly id: number
  readonly question: CheckQuestion
  readonly to: { readonly address: IpAddress; readonly family: Family; readonly port: number }
  /** Our own end; null: as the kernel chooses. */
  readonly from: { readonly address: IpAddress; readonly port: number } | null
  /** Over the service's own way: the socket is bound to this device. */
  readonly device: string | null
  readonly timeoutMs: number
  /** For programs: what is asked about, as words of their environment. */
  readonly environment: Readonly<Record<string, string>>
}

/** What an answer makes of a weight; null: nothing. */
export type WeightChange =
  | { readonly kind: 'is'; readonly weight: number }
  | { readonly kind: 'plus'; readonly weight: number }
  | { readonly kind: 'share'; readonly share: number }

export interface Verdict {
  /** `void`: it could not be asked, which says nothing about who was to answer. */
  readonly state: 'good' | 'bad' | 'void'
  /** `HTTP 503, wanted 200-399` */
  readonly words: string
  readonly weight?: WeightChange
}

export interface Reply extends Verdict {
  readonly id: number
  /** From the question to the answer. */
  readonly ms: number
}

export type FromChecker =
  | {
      readonly kind: 'ready'
      /** ifindex of the packet program's end; null: there is no pair, and why. */
      readonly check: number | null
      readonly why: string | null
    }
  | { readonly kind: 'replies'; readonly replies: readonly Reply[] }

export type ToChecker = { readonly kind: 'jobs'; readonly jobs: readonly Job[] }

export const good = (words: string): Verdict => ({ state: 'good', words })
export const bad = (words: string): Verdict => ({ state: 'bad', words })
