/**
 * The generic netlink family `IPVS`: a request as its clients send it, and the messages the kernel would
 * answer it with. Refusals come in the kernel's order (docs/spec/netlink.md §7).
 */
import { constants } from 'node:os'
import {
  encodeAttributes,
  encodeRequest,
  type NetlinkAttribute,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  viewOf,
} from '../../../linux/netlink/message.ts'
import type { Director } from '../../model/director.ts'
import { type Outcome, refuse, success } from '../../model/outcome.ts'
import type { ServiceId } from '../../model/service.ts'
import { Attributes, nest, text, u16, u32 } from './attributes.ts'
import {
  COMMAND,
  FAMILY_ID,
  FAMILY_NAME,
  FAMILY_VERSION,
  INFO,
  IPVS_VERSION,
  TOP,
  TOP_MAX,
} from './family.ts'
import { readServer, readServerId, serverAttributes } from './server.ts'
import { readService, readServiceId, serviceAttributes } from './service.ts'
import { daemonAttributes, readDaemon, readDaemonState } from './sync-daemon.ts'

/** `struct genlmsghdr`: command, version, two bytes of nothing. */
const GENERIC_HEADER = 4

/** The controller, which gives families their numbers (linux/genetlink.h). */
const CONTROLLER = { family: 0x10, getFamily: 3, newFamily: 1, version: 2 } as const
const CTRL = { id: 1, name: 2, version: 3, headerSize: 4, maxAttribute: 5 } as const

/** What carrying a request out has come to. */
export interface Answered {
  /** Netlink messages, one behind the other. */
  readonly bytes: Uint8Array
  /** Services that the packet path has to catch up with; null: nothing has changed. */
  readonly changed: readonly ServiceId[] | null
}

/** A message of an answer: the command and attributes behind its header. */
interface Reply {
  readonly command: number
  readonly attributes: readonly NetlinkAttribute[]
}

type Carried =
  | { readonly kind: 'replies'; readonly replies: readonly Reply[] }
  | { readonly kind: 'changed'; readonly own: readonly ServiceId[] }

const replies = (...list: Reply[]): Outcome<Carried> => success({ kind: 'replies', replies: list })

/** The answer to one request. */
export function answer(request: NetlinkMessage, director: Director): Answered {
  if (request.type === CONTROLLER.family) return answerController(request)
  const outcome = carryOut(request, director)
  if (!outcome.ok) return { bytes: error(request, constants.errno[outcome.errno]), changed: null }
  const carried = outcome.value
  const dump = isDump(request)
  const parts =
    carried.kind === 'changed'
      ? []
      : carried.replies.map(({ command, attributes }) =>
          message(request, { type: FAMILY_ID, flags: dump ? NLM_F_MULTI : 0 }, [
            Uint8Array.of(command, FAMILY_VERSION, 0, 0),
            encodeAttributes(attributes),
          ]),
        )
  if (dump) parts.push(message(request, { type: NLMSG_DONE, flags: NLM_F_MULTI }, [new Uint8Array(4)]))
  else if ((request.flags & NLM_F_ACK) !== 0) parts.push(error(request, 0))
  return { bytes: Buffer.concat(parts), changed: carried.kind === 'changed' ? carried.own : null }
}

/** What a request comes to that was carried out and could not be brought into force. */
export function failed(request: NetlinkMessage): Uint8Array {
  return error(request, constants.errno.ENOMEM)
}

/** Where the preload library asks for the family's number in the controller's stead. */
function answerController(request: NetlinkMessage): Answered {
  const attributes = new Attributes(request.body, GENERIC_HEADER)
  if (request.body[0] !== CONTROLLER.getFamily || attributes.text(CTRL.name) !== FAMILY_NAME) {
    return { bytes: error(request, constants.errno.ENOENT), changed: null }
  }
  const family = message(request, { type: CONTROLLER.family, flags: 0 }, [
    Uint8Array.of(CONTROLLER.newFamily, CONTROLLER.version, 0, 0),
    encodeAttributes([
      text(CTRL.name, FAMILY_NAME),
      u16(CTRL.id, FAMILY_ID),
      u32(CTRL.version, FAMILY_VERSION),
      u32(CTRL.headerSize, 0),
      u32(CTRL.maxAttribute, TOP_MAX),
    ]),
  ])
  const acknowledged = (request.flags & NLM_F_ACK) === 0 ? [] : [error(request, 0)]
  return { bytes: Buffer.concat([family, ...acknowledged]), changed: null }
}

const isDump = ({ flags }: NetlinkMessage): boolean => (flags & NLM_F_DUMP) === NLM_F_DUMP

const DUMPED: ReadonlySet<number> = new Set([COMMAND.getService, COMMAND.getDest, COMMAND.getDaemon])
const ONLY_DUMPED: ReadonlySet<number> = new Set([COMMAND.getDest, COMMAND.getDaemon])

function carryOut(request: NetlinkMessage, director: Director): Outcome<Carried> {
  const command = request.body[0] ?? 0
  if (isDump(request) ? !DUMPED.has(command) : ONLY_DUMPED.has(command)) {
    return refuse('EOPNOTSUPP', `Cannot do command ${command} this way`)
  }
  const top = new Attributes(request.body, GENERIC_HEADER)
  switch (command) {
    case COMMAND.newService:
    case COMMAND.setService:
      return changeService(command, top, director)
    case COMMAND.delService:
      return aboutService(top, (id) => director.deleteService(id))
    case COMMAND.newDest:
    case COMMAND.setDest:
    case COMMAND.delDest:
      return changeServer(command, top, director)
    case COMMAND.getService:
      return isDump(request) ? replies(...director.services().map(serviceReply)) : oneService(top, director)
    case COMMAND.getDest:
      return servers(top, director)
    case COMMAND.newDaemon: {
      const daemon = readDaemon(top.nest(TOP.daemon))
      return daemon.ok ? changed(director.startDaemon(daemon.value), []) : daemon
    }
    case COMMAND.delDaemon: {
      const state = readDaemonState(top.nest(TOP.daemon))
      return state.ok ? changed(director.stopDaemon(state.value), []) : state
    }
    case COMMAND.getDaemon:
      return replies(
        ...director.daemons().map((daemon) => ({
          command: COMMAND.newDaemon,
          attributes: [nest(TOP.daemon, daemonAttributes(daemon))],
        })),
      )
    case COMMAND.setConfig:
      return changed(
        director.setTimeouts({
          tcp: top.u32(TOP.timeoutTcp) ?? 0,
          tcpFin: top.u32(TOP.timeoutTcpFin) ?? 0,
          udp: top.u32(TOP.timeoutUdp) ?? 0,
        }),
        [],
      )
    case COMMAND.getConfig:
      return replies({ command: COMMAND.setConfig, attributes: timeouts(director) })
    case COMMAND.getInfo:
      return replies({
        command: COMMAND.setInfo,
        attributes: [u32(INFO.version, IPVS_VERSION), u32(INFO.tableSize, director.connectionTableSize())],
      })
    case COMMAND.zero:
      return top.has(TOP.service)
        ? aboutService(top, (id) => director.zero(id))
        : changed(director.zero(), [])
    case COMMAND.flush:
      return changed(director.flush(), [])
    default:
      return refuse('EOPNOTSUPP', `No command ${command}`)
  }
}

function timeouts(director: Director): readonly NetlinkAttribute[] {
  const { tcp, tcpFin, udp } = director.timeouts()
  return [u32(TOP.timeoutTcp, tcp), u32(TOP.timeoutTcpFin, tcpFin), u32(TOP.timeoutUdp, udp)]
}

function changed(outcome: Outcome<unknown>, own: readonly ServiceId[]): Outcome<Carried> {
  return outcome.ok ? success({ kind: 'changed', own }) : outcome
}

const serviceReply = (service: ReturnType<Director['services']>[number]): Reply => ({
  command: COMMAND.newService,
  attributes: [nest(TOP.service, serviceAttributes(service))],
})

function aboutService(top: Attributes, action: (id: ServiceId) => Outcome): Outcome<Carried> {
  const id = readServiceId(top.nest(TOP.service))
  return id.ok ? changed(action(id.value), [id.value]) : id
}

function changeService(command: number, top: Attributes, director: Director): Outcome<Carried> {
  const nested = top.nest(TOP.service)
  const id = readServiceId(nested)
  if (!id.ok) return id
  const known = command === COMMAND.setService ? director.service(id.value) : null
  const service = readService(nested, id.value, known?.ok ? known.value : null)
  if (!service.ok) return service
  return changed(known === null ? director.addService(service.value) : director.editService(service.value), [
    id.value,
  ])
}

function changeServer(command: number, top: Attributes, director: Director): Outcome<Carried> {
  const id = readServiceId(top.nest(TOP.service))
  if (!id.ok) return id
  const nested = top.nest(TOP.dest)
  const serverId = readServerId(nested, id.value.family)
  const server = serverId.ok && command !== COMMAND.delDest ? readServer(nested!, serverId.value) : null
  // A service may have 100,000 real servers: it is looked at only to say what is wrong.
  const malformed = serverId.ok ? server : serverId
  if (malformed?.ok === false) {
    const known = director.service(id.value)
    return known.ok ? malformed : known
  }
  if (!serverId.ok) throw new Error('A real server without identity was not refused')
  if (server?.ok !== true) return changed(director.deleteServer(id.value, serverId.value), [id.value])
  return changed(
    command === COMMAND.newDest
      ? director.addServer(id.value, server.value)
      : director.editServer(id.value, server.value),
    [id.value],
  )
}

function oneService(top: Attributes, director: Director): Outcome<Carried> {
  const id = readServiceId(top.nest(TOP.service))
  if (!id.ok) return id
  const service = director.service(id.value)
  return service.ok ? replies(serviceReply(service.value)) : service
}

/** A service that is not there has none: the kernel answers with an empty dump. */
function servers(top: Attributes, director: Director): Outcome<Carried> {
  const id = readServiceId(top.nest(TOP.service))
  const service = id.ok ? director.service(id.value) : id
  if (!service.ok) return replies()
  return replies(
    ...service.value.servers.map((server) => ({
      command: COMMAND.newDest,
      attributes: [nest(TOP.dest, serverAttributes(server))],
    })),
  )
}

function message(
  { sequence, port }: NetlinkMessage,
  { type, flags }: { readonly type: number; readonly flags: number },
  body: readonly Uint8Array[],
): Uint8Array {
  return encodeRequest({ type, flags, sequence, port }, Buffer.concat(body))
}

/** An acknowledgement quotes the request's header, an error all of it. */
function error(request: NetlinkMessage, errno: number): Uint8Array {
  const number = new Uint8Array(4)
  viewOf(number).setInt32(0, -errno, true)
  const { type, flags, sequence, port, body } = request
  const quoted = encodeRequest({ type, flags, sequence, port }, body)
  const HEADER = 16
  return message(request, { type: NLMSG_ERROR, flags: 0 }, [
    number,
    errno === 0 ? quoted.subarray(0, HEADER) : quoted,
  ])
}
