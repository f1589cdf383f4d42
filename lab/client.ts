/** The lab's client as seen from outside its namespace: ask it for requests, get what came back. */
import { type ChildProcess, spawn } from 'node:child_process'
import { labProcess } from './built.ts'
import { inNamespace } from './namespace.ts'
import type {
  ConversationReport,
  HttpRequest,
  LoadReport,
  LoadRequest,
  Reply,
  Target,
  UdpRequest,
  Verb,
  Verbs,
} from './talk.ts'

/** Command line that runs a TypeScript file of the lab. */
export function typescript(source: string, args: readonly string[] = []): string[] {
  return [process.execPath, '--import', import.meta.resolve('tsx'), source, ...args]
}

export interface Client {
  http(ask: HttpRequest): Promise<Verbs['http']['answer']>
  udp(ask: UdpRequest): Promise<Verbs['udp']['answer']>
  load(ask: LoadRequest): Promise<LoadReport>
  /** Opens a long connection with a request every `intervalMs`. */
  converse(ask: Target & { readonly intervalMs: number }): Promise<ConversationReport>
  conversations(): Promise<readonly ConversationReport[]>
  closeConversations(): Promise<readonly ConversationReport[]>
  stop(): Promise<void>
}

export async function startClient(namespace: string): Promise<Client> {
  const [program, ...args] = inNamespace(namespace, labProcess('client-process'))
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const waiting = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>()
  let lastId = 0

  const ready = new Promise<void>((resolve, reject) => {
    waiting.set(0, { resolve: () => resolve(), reject })
  })
  child.on('message', (reply: Reply) => {
    const caller = waiting.get(reply.id)
    waiting.delete(reply.id)
    if (reply.ok) caller?.resolve(reply.answer)
    else caller?.reject(new Error(reply.message))
  })
  const ended = new Promise<void>((resolve) => {
    const end = (why: string): void => {
      for (const caller of waiting.values()) caller.reject(new Error(`The lab's client ended: ${why}`))
      waiting.clear()
      resolve()
    }
    child.on('error', (error) => end(error.message))
    child.on('exit', (status, signal) => end(`status ${status ?? signal}`))
  })
  await ready

  const call = <V extends Verb>(verb: V, ask: Verbs[V]['ask']): Promise<Verbs[V]['answer']> =>
    new Promise<Verbs[V]['answer']>((resolve, reject) => {
      const id = ++lastId
      waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject })
      child.send({ id, verb, ask })
    })

  return {
    http: (ask) => call('http', ask),
    udp: (ask) => call('udp', ask),
    load: (ask) => call('load', ask),
    converse: (ask) => call('open', ask),
    conversations: () => call('report', null),
    closeConversations: () => call('close', null),
    stop: () => stop(child, ended),
  }
}

async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.connected) child.disconnect()
  await ended
}
