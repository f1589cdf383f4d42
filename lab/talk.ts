/** What a client of the lab can be asked to do: the messages between `client.ts` and `client-process.ts`. */
import type { Answer } from './server.ts'

export interface Target {
  readonly address: string
  readonly port: number
}

export interface HttpRequest extends Target {
  /** Bytes to upload (POST); without it a GET. */
  readonly upload?: number
  /** Bytes to have behind the answer. */
  readonly pad?: number
  readonly timeoutMs?: number
}

export interface UdpRequest extends Target {
  /** Length of the datagram, at least that of the token. */
  readonly size?: number
  /** Sent again after `timeoutMs` (default 1 s) until tries are used up; default half a minute of them. */
  readonly tries?: number
  readonly timeoutMs?: number
  readonly sourcePort?: number
}

export interface LoadRequest extends Target {
  readonly requests: number
  /** Connections under way at any time. */
  readonly concurrency: number
}

export interface LoadReport {
  /** Answers by real server. */
  readonly answers: Readonly<Record<string, number>>
  /** What went wrong, by message. */
  readonly failures: Readonly<Record<string, number>>
  /** Addresses under which the real servers saw the client. */
  readonly clients: readonly string[]
  readonly seconds: number
}

/** A long connection over which one small request follows the other. */
export interface ConversationReport {
  readonly id: number
  readonly server: string
  readonly localPort: number
  readonly requests: number
  /** Longest wait for an answer, including one that is still awaited. */
  readonly slowestMs: number
  /** Why it ended before it was closed. */
  readonly failure: string | null
}

export interface Verbs {
  http: { ask: HttpRequest; answer: Answer & { readonly received: number } }
  udp: { ask: UdpRequest; answer: Answer }
  load: { ask: LoadRequest; answer: LoadReport }
  /** Opens a conversation and returns after its first answer. */
  open: { ask: Target & { readonly intervalMs: number }; answer: ConversationReport }
  /** The state of all conversations that were not closed yet. */
  report: { ask: null; answer: readonly ConversationReport[] }
  /** Closes all conversations and returns their last state. */
  close: { ask: null; answer: readonly ConversationReport[] }
}

export type Verb = keyof Verbs
export interface Call<V extends Verb = Verb> {
  readonly id: number
  readonly verb: V
  readonly ask: Verbs[V]['ask']
}
export type Reply =
  | { readonly id: number; readonly ok: true; readonly answer: unknown }
  | { readonly id: number; readonly ok: false; readonly message: string }
