/** Between the stopwatch and a stand: what is asked of the packet program of a tree. */
import type { Verdict } from '../../dataplane/layout/layout.gen.ts'
import type { Method } from '../methods.ts'
import type { Family, Traffic } from '../traffic.ts'

/** Verdicts by name: their numbers differ between commits. */
export type VerdictName = keyof typeof Verdict

export interface Scene {
  readonly method: Method
  readonly family: Family
  /** Of direct routing and tunnels; NAT has one real server, so that its answers are known beforehand. */
  readonly servers: number
  readonly scheduler: 'rr' | 'wlc'
  /** Real servers are behind the interface that clients are behind, too: frames go back where they came from. */
  readonly oneArm: boolean
}

export type Ask =
  /** The program with tables of its own, in a network namespace of its own. */
  | { readonly ask: 'open'; readonly lines: Readonly<Record<Family, number>> }
  /** One service, no connections; `keep`: it stands already, only its packets are wanted. */
  | { readonly ask: 'serve'; readonly scene: Scene; readonly keep: boolean }
  /** So many connections, all of them settled. */
  | { readonly ask: 'establish'; readonly method: Method; readonly family: Family; readonly flows: number }
  | { readonly ask: 'forget'; readonly family: Family }
  /** Next hops stay valid for a while; verdicts are counted from here. */
  | { readonly ask: 'mark' }
  /** Since the mark; an error when packets fared otherwise. */
  | { readonly ask: 'expect'; readonly verdict: VerdictName; readonly packets: number }
  | { readonly ask: 'close' }

export interface Opened {
  /** The kernel's number of the loaded program. */
  readonly program: number
  /** Path of the network namespace. */
  readonly namespace: string
  /** Interfaces there. */
  readonly client: string
  readonly server: string
}

export interface Served {
  readonly syn: Traffic
  readonly clients: Traffic
  /** Of the real server, to clients. */
  readonly answers: Traffic
  /** Of clients, to a port of the virtual address that nobody serves. */
  readonly otherPort: Traffic
}

export interface Answers {
  readonly open: Opened
  readonly serve: Served
  readonly establish: null
  readonly forget: null
  readonly mark: null
  readonly expect: null
  readonly close: null
}

/** `null`: the stand itself could not be set up. */
export type Reply =
  | { readonly number: number | null; readonly ok: true; readonly answer: unknown }
  | { readonly number: number | null; readonly ok: false; readonly why: string }
