/** Carries requests out on a director, and says what went wrong in ipvsadm's words. */
import type { Director } from '../../model/director.ts'
import type { Errno, Outcome } from '../../model/outcome.ts'
import type { ServiceListing } from '../../model/service.ts'
import {
  connectionLine,
  connectionTitles,
  daemonLine,
  listTitles,
  serverLine,
  serviceLine,
  timeoutLine,
  versionLine,
} from './format.ts'
import type { Names } from './names.ts'
import { sortServers, sortServices } from './order.ts'
import type { ListStyle, Request } from './parse.ts'
import { saveRules } from './save.ts'

export interface Done {
  readonly status: number
  /** What it prints, made as it is read: a listing may be long. Names are asked for meanwhile. */
  readonly stdout: Iterable<string>
  readonly stderr: string
  /** Something may have changed, so the packet path must catch up before the command is over. */
  readonly changed: boolean
  /** The original exits on the spot: a restore ends here. */
  readonly ends: boolean
}

/** Requests this module carries out; the others need no director or more than one step. */
export type DirectorRequest = Exclude<Request, { readonly kind: 'restore' | 'help' | 'version' }>

/** Exit status when the director refuses: -1 as seen by a parent for commands, 1 for listings. */
const REFUSED = 255
const LIST_REFUSED = 1

const NO_SCHEDULER = 'Scheduler or persistence engine not found'
const NO_SERVICE = 'No such service'
const NO_SERVICE_FOR_SERVER = 'Service not defined'
const NO_SERVER = 'No such destination'

/** Refusals that have words of their own for a command. */
const COMMAND_ERRORS: Readonly<Partial<Record<Request['kind'], Partial<Record<Errno, string>>>>> = {
  'add-service': { EEXIST: 'Service already exists', ENOENT: NO_SCHEDULER },
  'edit-service': { ESRCH: NO_SERVICE, ENOENT: NO_SCHEDULER },
  'delete-service': { ESRCH: NO_SERVICE },
  zero: { ESRCH: NO_SERVICE },
  'list-services': { ESRCH: NO_SERVICE },
  'add-server': { ESRCH: NO_SERVICE_FOR_SERVER, EEXIST: 'Destination already exists' },
  'edit-server': { ESRCH: NO_SERVICE_FOR_SERVER, ENOENT: NO_SERVER },
  'delete-server': { ESRCH: NO_SERVICE_FOR_SERVER, ENOENT: NO_SERVER },
  'start-daemon': { EEXIST: 'Daemon has already run' },
  'stop-daemon': { ESRCH: 'No daemon is running' },
}

/** ipvsadm's words for any command; those of the C library where it has none. */
const ERRORS: Readonly<Record<Errno, string>> = {
  EPERM: 'Permission denied (you must be root)',
  EINVAL: 'Invalid operation.  Possibly wrong module version, address not unicast, ...',
  ENOPROTOOPT: 'Protocol not available',
  ENOMEM: 'Memory allocation problem',
  EOPNOTSUPP: 'Operation not supported with IPv6',
  EAFNOSUPPORT: 'Operation not supported with specified address family',
  EMSGSIZE: 'Module is wrong version',
  ENOENT: 'No such file or directory',
  ESRCH: 'No such process',
  EEXIST: 'File exists',
  ERANGE: 'Numerical result out of range',
  ENODEV: 'No such device',
  ENOSPC: 'No space left on device',
  EBUSY: 'Device or resource busy',
  ENOTSUP: 'Operation not supported',
}

/** Of these IPVS has no words: who has a service, or what does not go together, and what to do instead, is all that helps. */
const OURS: ReadonlySet<Errno> = new Set(['EBUSY', 'ENOTSUP'])

const printed = (stdout: Iterable<string>): Done => ({
  ...{ status: 0, stdout, stderr: '', changed: false, ends: false },
})

type Refused = Extract<Outcome<unknown>, { readonly ok: false }>

/** A refused listing ends the program, a refused change does not. */
function refused(kind: Request['kind'], { errno, message }: Refused, status: number): Done {
  const words = OURS.has(errno) ? message : (COMMAND_ERRORS[kind]?.[errno] ?? ERRORS[errno])
  const stderr = `${words}\n`
  return { status, stdout: [], stderr, changed: false, ends: status === LIST_REFUSED }
}

function changed(kind: Request['kind'], outcome: Outcome): Done {
  if (!outcome.ok) return refused(kind, outcome, REFUSED)
  return { status: 0, stdout: [], stderr: '', changed: true, ends: false }
}

/** What a file or a registry states is theirs to take away; the exit status is about what was ours. */
function flushed(outcome: Outcome<number>): Done {
  if (!outcome.ok) return refused('flush', outcome, REFUSED)
  const left = outcome.value
  const stderr =
    left === 0 ? '' : `${left} services belong to other sources and stay, see: pointsman sources\n`
  return { status: 0, stdout: [], stderr, changed: true, ends: false }
}

export function execute(request: DirectorRequest, director: Director, names: Names): Done {
  switch (request.kind) {
    case 'add-service':
      return changed(request.kind, director.addService(request.service))
    case 'edit-service':
      return changed(request.kind, director.editService(request.service))
    case 'delete-service':
      return changed(request.kind, director.deleteService(request.id))
    case 'flush':
      return flushed(director.flush())
    case 'zero':
      return changed(request.kind, request.id === null ? director.zero() : director.zero(request.id))
    case 'add-server':
      return changed(request.kind, director.addServer(request.id, request.server))
    case 'edit-server':
      return changed(request.kind, director.editServer(request.id, request.server))
    case 'delete-server':
      return changed(request.kind, director.deleteServer(request.id, request.server))
    case 'set':
      return changed(request.kind, director.setTimeouts(request.timeouts))
    case 'start-daemon':
      return changed(request.kind, director.startDaemon(request.daemon))
    case 'stop-daemon':
      return changed(request.kind, director.stopDaemon(request.state))
    case 'save':
      return printed([saveRules(director.rules(), request.numeric ? null : names)])
    case 'list-timeouts':
      return printed([timeoutLine(director.timeouts())])
    case 'list-daemons':
      return printed(listDaemons(director))
    case 'list-connections':
      return printed(listConnections(director, request.style, request.style.numeric ? null : names))
    case 'list-services': {
      const shownNames = request.style.numeric ? null : names
      if (request.id === null) {
        const head = versionLine(director.connectionTableSize())
        return printed(listServices([head], director.services(), request.style, shownNames))
      }
      const service = director.service(request.id)
      if (!service.ok) return refused(request.kind, service, LIST_REFUSED)
      return printed(listServices([], [service.value], request.style, shownNames))
    }
    default:
      return request satisfies never
  }
}

function* listServices(
  head: readonly string[],
  services: readonly ServiceListing[],
  style: ListStyle,
  names: Names | null,
): Generator<string> {
  yield* head
  yield listTitles(style.format)
  for (const service of style.sorted ? sortServices(services) : services) {
    yield serviceLine(service, style, names)
    const { servers } = service
    for (const server of style.sorted ? sortServers(servers) : servers)
      yield serverLine(server, service.id, style, names)
  }
}

function* listConnections(director: Director, style: ListStyle, names: Names | null): Generator<string> {
  yield connectionTitles(style)
  for (const connection of director.connections()) yield connectionLine(connection, style, names)
}

function listDaemons(director: Director): string[] {
  const daemons = director.daemons()
  const inState = (state: 'master' | 'backup') => daemons.filter((daemon) => daemon.state === state)
  return [...inState('master'), ...inState('backup')].map(daemonLine)
}
