/** Synchronisation daemons as attributes. */
import type { NetlinkAttribute } from '../../../linux/netlink/message.ts'
import { addressToBytes, familyOf } from '../../../net/address.ts'
import { type Outcome, refuse, success } from '../../model/outcome.ts'
import type { DaemonRequest, SyncDaemon } from '../../model/sync-daemon.ts'
import { type Attributes, text, u8, u16, u32 } from './attributes.ts'
import { DAEMON } from './family.ts'

const STATES = [null, 'master', 'backup'] as const

export function readDaemonState(daemon: Attributes | null): Outcome<SyncDaemon['state']> {
  const number = daemon?.u32(DAEMON.state) ?? null
  const state = number === null ? null : (STATES[number] ?? null)
  return state === null
    ? refuse('EINVAL', `Cannot use state ${number ?? 'none'} of a sync daemon: expected 1 or 2`)
    : success(state)
}

export function readDaemon(daemon: Attributes | null): Outcome<DaemonRequest> {
  const name = daemon?.text(DAEMON.interface) ?? null
  const syncId = daemon?.u32(DAEMON.syncId) ?? null
  if (daemon === null || name === null || syncId === null || !daemon.has(DAEMON.state)) {
    return refuse('EINVAL', 'Cannot read the request: a sync daemon needs state, interface and sync id')
  }
  const state = readDaemonState(daemon)
  if (!state.ok) return state
  const group = daemon.address(DAEMON.group4, 4) ?? daemon.address(DAEMON.group6, 6)
  return success({
    state: state.value,
    interface: name,
    syncId,
    maxLength: daemon.u16(DAEMON.maxLength) ?? undefined,
    group: group ?? undefined,
    port: daemon.u16(DAEMON.port) ?? undefined,
    ttl: daemon.u8(DAEMON.ttl) ?? undefined,
  })
}

export function daemonAttributes(daemon: SyncDaemon): readonly NetlinkAttribute[] {
  const group = familyOf(daemon.group) === 4 ? DAEMON.group4 : DAEMON.group6
  return [
    u32(DAEMON.state, STATES.indexOf(daemon.state)),
    text(DAEMON.interface, daemon.interface),
    u32(DAEMON.syncId, daemon.syncId),
    u16(DAEMON.maxLength, daemon.maxLength),
    u16(DAEMON.port, daemon.port),
    u8(DAEMON.ttl, daemon.ttl),
    { type: group, value: addressToBytes(daemon.group) },
  ]
}
