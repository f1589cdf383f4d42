/**
 * Which options may stand together: the tables of `grammar.ts`, and the few rules no table can hold.
 *
 * The checks come in the original's order, and the first that fails is the one reported.
 */
import type { Draft } from './draft.ts'
import {
  COMMANDS,
  type CommandName,
  type Legality,
  OPTION_NAMES,
  type OptionName,
  TUNNEL_OPTIONS,
  TUNNELS,
} from './grammar.ts'

export type OptionSet = ReadonlySet<OptionName>

/** Whether a row has nothing to say against these options: the common case, decided without the order. */
function isLegal(
  options: OptionSet,
  row: Partial<Readonly<Record<OptionName, Legality>>>,
  needed: number,
): boolean {
  let found = 0
  let exclusive = 0
  for (const option of options) {
    const legality = row[option]
    if (legality === undefined) return false
    if (legality === 'needed') found++
    if (legality === 'exclusive') exclusive++
  }
  return found === needed && exclusive <= 1
}

const NEEDED = new Map(
  Object.entries(COMMANDS).map(([name, row]) => [
    name,
    Object.values(row).filter((legality) => legality === 'needed').length,
  ]),
)

/** Judges options by one row of a table; `what` names the row in messages. */
function checkRow(
  options: OptionSet,
  order: readonly OptionName[],
  row: Partial<Readonly<Record<OptionName, Legality>>>,
  what: string,
): string | null {
  let exclusive: OptionName | null = null
  for (const option of order) {
    const legality = row[option]
    if (!options.has(option)) {
      if (legality === 'needed') return `You need to supply the '${option}' option for ${what}`
    } else if (legality === undefined) {
      return `Illegal '${option}' option with ${what}`
    } else if (legality === 'exclusive') {
      if (exclusive !== null)
        return `The option '${option}' conflicts with the '${exclusive}' option in ${what}`
      exclusive = option
    }
  }
  return null
}

const LIST_INSTEAD_OF_SERVICES = ['connection', 'timeout', 'daemon'] as const
const LIST_NUMBERS = ['stats', 'rate', 'thresholds'] as const

const some = (options: OptionSet, wanted: readonly OptionName[]): boolean =>
  wanted.some((option) => options.has(option))

/** Returns the message that refuses the command, or null. */
export function checkLegality(command: CommandName, options: OptionSet, draft: Draft): string | null {
  if (!isLegal(options, COMMANDS[command], NEEDED.get(command) ?? 0)) {
    return checkRow(options, OPTION_NAMES, COMMANDS[command], `the '${command}' command`)
  }
  switch (command) {
    case 'add-service':
    case 'edit-service':
      return checkService(draft)
    case 'add-server':
    case 'edit-server':
      return checkServer(options, draft)
    case 'list':
      return checkList(options)
    default:
      return null
  }
}

function checkService(draft: Draft): string | null {
  if (draft.mark !== 0) return null
  if (draft.port === 0 && draft.persistenceTimeoutS === 0) {
    return 'Zero port specified for non-persistent service'
  }
  if (draft.onePacket && draft.protocol !== 'udp') {
    return 'One-Packet Scheduling is only for UDP virtual services'
  }
  return null
}

function checkServer(options: OptionSet, draft: Draft): string | null {
  if (draft.method !== 'tunnel') {
    if (draft.serverFamily !== draft.family) {
      return 'Different address family is allowed only for tunneling servers'
    }
    if (options.has('tun-type') || some(options, TUNNEL_OPTIONS)) {
      return 'Tunnel options conflict with forward method'
    }
  }
  if (draft.tunnelType === 'ipip' && !some(options, TUNNEL_OPTIONS)) return null
  return checkRow(options, TUNNEL_OPTIONS, TUNNELS[draft.tunnelType], `the '${draft.tunnelType}' tunnel type`)
}

function checkList(options: OptionSet): string | null {
  const clash =
    (some(options, LIST_INSTEAD_OF_SERVICES) && some(options, LIST_NUMBERS)) ||
    (some(options, ['timeout', 'daemon']) && options.has('persistent-conn'))
  return clash ? 'options conflicts in the list command' : null
}
