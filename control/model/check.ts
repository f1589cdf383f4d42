/**
 * A check: the question that decides whether a real server may get new connections. Plain and immutable,
 * as whoever read it from text has validated it; who asks, and how, is not its affair. Equal checks of one
 * address are asked once, whoever wants them.
 */
import type { IpAddress } from '../../net/address.ts'

/**
 * Where the question goes: `service` to the virtual address and port, delivered to this one real server by
 * its own forwarding method, so that all of a client's way is tried; `direct` to the real server's address.
 */
export type CheckPath = 'service' | 'direct'

/** How a TLS session is opened and what is asked of it. */
export interface CheckTls {
  /** SNI, and the name the certificate is held against; null: none is sent. */
  readonly serverName: string | null
  /** Whether a certificate that is expired, or of nobody we trust, fails the check. */
  readonly verify: boolean
  /** File with the authorities to trust instead of the system's; null: the system's. */
  readonly ca: string | null
}

/** One request of an HTTP check; all of a check's requests have to be answered as wanted. */
export interface HttpRequest {
  /** `/health?full=1` */
  readonly path: string
  /** Inclusive ranges of statuses that are good. */
  readonly status: readonly { readonly from: number; readonly to: number }[]
  /** Regular expression that the body has to match (RegExp, flag `s`); null: any body. */
  readonly body: string | null
  /** Digest the body has to have, lower-case hex; null: any. */
  readonly digest: { readonly algorithm: 'md5' | 'sha256'; readonly hex: string } | null
}

export const DNS_TYPES = ['A', 'AAAA', 'CNAME', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'TXT'] as const
export type DnsType = (typeof DNS_TYPES)[number]

/** What is asked, and what is a good answer. */
export type CheckQuestion =
  /** A connection is accepted. */
  | { readonly kind: 'tcp' }
  /** `tls` null: plain HTTP. */
  | {
      readonly kind: 'http'
      readonly tls: CheckTls | null
      readonly method: 'GET' | 'HEAD'
      readonly version: '1.0' | '1.1'
      /** Header `Host`; null: the address that is asked. */
      readonly host: string | null
      readonly requests: readonly HttpRequest[]
    }
  /** A TLS session is opened. */
  | { readonly kind: 'tls'; readonly tls: CheckTls }
  /** A name server answers without an error. */
  | { readonly kind: 'dns'; readonly name: string; readonly type: DnsType }
  /** Greeting, `HELO`, `QUIT`. */
  | { readonly kind: 'smtp'; readonly helo: string }
  /** An ICMP error means down; without `reply` wanted, silence is good. */
  | {
      readonly kind: 'udp'
      /** Lower-case hex; empty: an empty datagram. */
      readonly payload: string
      readonly reply: {
        readonly required: boolean
        /** Regular expression over the answer read as Latin-1; null: any. */
        readonly match: string | null
      }
    }
  | { readonly kind: 'ping' }
  /** grpc.health.v1.Health/Check says SERVING; an empty service is the whole server. */
  | { readonly kind: 'grpc'; readonly service: string; readonly tls: CheckTls | null }
  /**
   * A program: exit status 0 is good. `weight`: keepalived's dynamic form, 1 is bad, 0 leaves the weight
   * as it is, and 2 to 255 is that weight plus 2.
   */
  | {
      readonly kind: 'exec'
      readonly command: readonly string[]
      readonly user: string | null
      readonly result: 'status' | 'weight'
    }
  /** A number in a file, times `factor`, is added to the weight; the smallest possible one is bad. */
  | { readonly kind: 'file'; readonly file: string; readonly factor: number }
  /** A line like that of HAProxy's agent-check: `75%`, `drain`, `down`, `up`, ... */
  | { readonly kind: 'agent'; readonly send: string }

export type CheckKind = CheckQuestion['kind']

/** When a check is asked, and how often it has to say the same to be believed. */
export interface CheckTiming {
  /** From one question to the next while the last answer was good. */
  readonly intervalMs: number
  /** The same while it was not. */
  readonly retryIntervalMs: number
  readonly timeoutMs: number
  /** Good answers in a row that bring a real server up. */
  readonly rise: number
  /** Bad answers in a row that bring it down. */
  readonly fall: number
  /** The first question comes at a random time within this, so that many do not come at once. */
  readonly startJitterMs: number
}

export interface Check extends CheckTiming {
  /** For people, unique within its service: what logs and lists call it. */
  readonly name: string
  readonly question: CheckQuestion
  readonly path: CheckPath
  /** Asked instead of the real server (`direct`) or the virtual address (`service`); null: that one. */
  readonly address: IpAddress | null
  /** Asked instead of the real server's (`direct`) or the service's (`service`) port; null: that one. */
  readonly port: number | null
  /** Our own address to ask from; null: the one the kernel takes. `service` has an address of its own. */
  readonly source: IpAddress | null
}
