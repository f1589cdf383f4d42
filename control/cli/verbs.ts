/** The words of `pointsman` that change something. */
import { dirname } from 'node:path'
import { detachWithoutDaemon } from '../apply/detach.ts'
import { ClientError, call, ForbiddenError, get, NoDaemonError, understood } from '../front/api/client.ts'
import { sysctlAnswer, sysctlsAnswer } from '../front/api/schema/settings.ts'
import { type Status, statusAnswer } from '../front/api/schema/status.ts'

/** Takes the notices that are not worth a failure. */
type Say = (notice: string) => void

const LOCAL_SERVERS_LOST =
  'connections to NAT real servers on this host are reset: the userspace plane does not carry them out (pointsman status names the services)'

export async function set(socket: string, assignments: readonly string[], say: Say): Promise<void> {
  const parsed = assignments.map((text) => {
    const match = /^([a-z_]+)=(-?\d{1,10})$/.exec(text)
    if (match === null) throw new ClientError(`Cannot set "${text}": expected NAME=VALUE with a whole number`)
    return { name: match[1]!, value: Number(match[2]) }
  })
  for (const { name, value } of parsed) {
    const path = `/v1/sysctls/${encodeURIComponent(name)}`
    const answer = understood(sysctlAnswer, await call(socket, 'PUT', path, { value }), `PUT ${path}`)
    if (!answer.inForce) say(`${name}=${value} is kept, not acted on`)
  }
}

/** Values by name, all of them if none is named; an unknown name is an error. */
export async function getSettings(socket: string, names: readonly string[]): Promise<Record<string, number>> {
  const { value } = await get(socket, '/v1/sysctls', sysctlsAnswer)
  if (names.length === 0) return value
  return Object.fromEntries(
    names.map((name) => {
      const known = value[name]
      if (known === undefined) {
        throw new ClientError(`Unknown setting "${name}": expected one of ${Object.keys(value).join(', ')}`)
      }
      return [name, known]
    }),
  )
}

export async function detach(socket: string, say: Say): Promise<void> {
  try {
    await call(socket, 'POST', '/v1/detach', {})
  } catch (error) {
    // One that does not talk to us may work here all the same.
    if (!(error instanceof NoDaemonError) || error instanceof ForbiddenError) throw error
    if (!(await detachWithoutDaemon(dirname(socket)))) say('nothing was attached in this network namespace')
  }
}

/** Changes to it, if a word is given; the data plane in use. */
export async function dataplane(
  socket: string,
  kind: string | undefined,
  say: Say,
): Promise<Status['dataplane']> {
  if (kind === 'userspace') {
    const { answers } = (await get(socket, '/v1/status', statusAnswer)).value.dataplane
    if (answers !== null) say(LOCAL_SERVERS_LOST)
  }
  if (kind !== undefined) await call(socket, 'PUT', '/v1/dataplane', { kind })
  return (await get(socket, '/v1/status', statusAnswer)).value.dataplane
}
