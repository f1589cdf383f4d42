/**
 * The forwarder as a process. It is started by a daemon, outlives it, and ends when it is told to: by an
 * order, by SIGTERM, or when its run directory is gone, since then nobody can ever tell it anything.
 */

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FileLock } from '../../../linux/lock.ts'
import { MachineError } from '../../../linux/machine-error.ts'
import { lockNetns } from '../../../linux/netns-lock.ts'
import type { WantedInterface } from '../../dataplane.ts'
import { catchUp, MapsFile, removeMaps } from '../maps-file.ts'
import { ControlServer } from './control-server.ts'
import { DeadMansSwitch, SWEEP, sweep } from './dead-mans-switch.ts'
import { Forwarder } from './forwarder.ts'
import { ForwarderLink } from './forwarder-link.ts'
import { CONTROL_SOCKET, type ForwarderSetup, MAPS_NAME } from './protocol.ts'

/** On the command line, as JSON. */
export interface ForwarderArguments {
  readonly runDirectory: string
  readonly setup: ForwarderSetup
  /** Taken at once: whoever started this tells it again. */
  readonly interfaces: readonly WantedInterface[]
}

/** The one before it is letting go, or has been killed an instant ago. */
const LOCK_MS = 10_000
const LOCK_PAUSE_MS = 5
const LOOK_MS = 2000
/** Looks in a row without a run directory. */
const MISSING_MAX = 3

async function lockPlane(socket: string): Promise<FileLock> {
  const holder = { pid: process.pid, program: 'pointsman-forwarder', socket }
  for (const end = performance.now() + LOCK_MS; ; await sleep(LOCK_PAUSE_MS)) {
    try {
      return lockNetns('plane', holder)
    } catch (error) {
      if (!(error instanceof MachineError) || performance.now() > end) throw error
    }
  }
}

/** Whoever forwards now lets go. */
async function replace(socket: string): Promise<void> {
  const link = await ForwarderLink.connect(socket).catch(() => null)
  await link?.order({ order: 'leave' }).catch(() => {})
  link?.close()
}

async function main({ runDirectory, setup, interfaces }: ForwarderArguments): Promise<void> {
  const maps = MapsFile.open(join(runDirectory, MAPS_NAME))
  if (!(maps instanceof MapsFile)) throw new Error(`Cannot use the maps: ${maps.reason}`)
  if (maps.inode !== setup.maps) throw new Error('Cannot use the maps: they have been replaced')
  const socket = join(runDirectory, CONTROL_SOCKET)
  const server = new ControlServer(setup)
  const forwarder = await Forwarder.open({
    sizes: maps.sizes,
    maps,
    workers: setup.workers,
    intake: setup.intake,
    busyPoll: setup.busyPoll,
    ...(setup.ringBytes === 0 ? {} : { ringBytes: setup.ringBytes }),
    log: (text) => server.log(text),
    changed: () => server.interfacesChanged(),
  })
  // What takes time is done: the one before it goes on until here.
  await replace(socket)
  const lock = await lockPlane(socket)
  // Whoever detached while this was starting could not see it, and nobody would ever find what it sets up.
  if (statSync(maps.path, { throwIfNoEntry: false })?.ino !== maps.inode)
    throw new Error('Cannot use the maps: they have been removed, or replaced')
  // Nobody works on the maps before these any more, if there were others.
  catchUp(maps)
  const lease = new DeadMansSwitch()
  let ending = false
  const end = async (how: 'close' | 'detach'): Promise<void> => {
    if (ending) return
    ending = true
    server.greetNoMore()
    let status = 0
    try {
      if (how === 'detach') {
        await forwarder.detach()
        removeMaps(maps.path)
        await lease.disarm()
      }
      await forwarder.close()
    } catch (error) {
      status = 1
      server.log(error instanceof Error ? error.message : String(error))
    }
    // The socket goes before the lock: whoever comes next binds the same name.
    const closed = server.close()
    lock.release()
    await closed
    process.exit(status)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end('close'))
  process.on('SIGHUP', () => {})
  if (interfaces.length > 0) {
    await forwarder.attach(interfaces).catch((error: Error) => server.log(error.message))
  }
  await server.listen(socket, forwarder, end)
  let missing = 0
  setInterval(() => {
    missing = existsSync(socket) ? 0 : missing + 1
    if (missing >= MISSING_MAX) void end('detach')
  }, LOOK_MS)
}

const argument = process.argv[2]
if (argument === undefined) throw new Error('The forwarder is started by pointsmand')
if (argument === SWEEP) {
  await sweep()
  process.exit(0)
}
await main(JSON.parse(argument) as ForwarderArguments)
