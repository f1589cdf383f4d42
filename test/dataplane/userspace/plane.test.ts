/** Daemon and forwarder as two processes: whichever ends, packets go on, and at the end nothing is left. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe } from 'node:test'
import type { ManagedDirector } from '../../../control/apply/open.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { forwarderBuild, startForwarder } from '../../../dataplane/userspace/forwarder/start.ts'
import { removeLeftovers } from '../../../dataplane/userspace/leftovers.ts'
import { UserspaceDataplane, type UserspaceOptions } from '../../../dataplane/userspace/plane.ts'
import { lockNetns, netnsHolder } from '../../../linux/netns-lock.ts'
import { parseAddress } from '../../../net/address.ts'
import { chainOf } from '../../chain.ts'
import { openDirector } from '../../control/opened-director.ts'
import { server, service } from '../../control/support.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { skipWithoutPrivileges, until } from '../private-network.ts'
import { fromClient, layTwoWires, REAL, SOURCE, VIP, wait } from '../two-wires.ts'

const HTTP = service(`tcp ${VIP}:80`, { scheduler: 'rr' })

function built(): string | null {
  try {
    return builtFile('pointsman-forwarder.js')
  } catch {
    return null
  }
}

const skip = skipWithoutPrivileges || (built() === null && 'needs npm run build')

describe('the userspace plane in two processes', { skip }, () => {
  const runDirectory = mkdtempSync(join(tmpdir(), 'pointsman-plane-'))
  const log: string[] = []
  let plane: UserspaceDataplane
  let managed: ManagedDirector
  let c: PacketSocket
  let r: PacketSocket
  let lastPort = 1000
  let marked = 0
  let isOpen = false

  const open = async (more: Partial<UserspaceOptions> = {}) => {
    plane = await UserspaceDataplane.open({
      sizes: SMALL_SIZES,
      runDirectory,
      ringBytes: 1 << 20,
      log: (line) => log.push(line),
      ...more,
    })
    const sources = { [REAL]: parseAddress(SOURCE)! }
    managed = openDirector({ dataplane: plane, host: fixedHost({ sources }) })
    isOpen = true
    await managed.director.settle()
  }
  /** As the daemon does: what the director still has to do is not done to maps that are gone. */
  const close = async () => {
    if (!isOpen) return
    isOpen = false
    await managed.applier.stop()
    await plane.close()
  }
  const attach = async () => {
    const results = await plane.attach(['c0', 'r0'])
    assert.ok(
      results.every((result) => 'attached' in result),
      JSON.stringify(results),
    )
  }
  const pid = (): number => {
    assert.notEqual(plane.forwarder, null, log.join('; '))
    return plane.forwarder!
  }
  /** Until its last thread has ended it holds locks and sockets, though the first may be a zombie by then. */
  const running = (process_: number): boolean => {
    try {
      const threads = readdirSync(`/proc/${process_}/task`)
      const isOver = (thread: string) =>
        /^State:\t[ZX]/m.test(readFileSync(`/proc/${process_}/task/${thread}/status`, 'utf8'))
      return !threads.every(isOver)
    } catch {
      return false
    }
  }
  const received = async (socket: PacketSocket, count: number, timeoutMs = 60_000): Promise<Uint8Array[]> => {
    const frames: Uint8Array[] = []
    for (const end = Date.now() + timeoutMs; ; await wait(5)) {
      const late = Date.now() >= end
      for (let frame = socket.receive(); frame !== null; frame = socket.receive())
        if (frame[12] === 0x08 && frame[13] === 0x00) frames.push(frame)
      if (frames.length >= count || late) return frames
    }
  }
  /** A connection of which the real server has heard; its port. */
  const connect = async (): Promise<number> => {
    lastPort += 1
    c.send(fromClient(lastPort, 80, 'S'))
    assert.equal((await received(r, 1)).length, 1, log.join('; '))
    return lastPort
  }
  /** Later packets of it arrive, and the kernel says nothing of its own. */
  const goesOn = async (sport: number) => {
    const words = `packet ${++marked}`
    c.send(fromClient(sport, 80, 'A', words))
    // One that was sent before may come as late as the thread that has it gets its turn.
    for (let found = false; !found; ) {
      const frames = await received(r, 1)
      assert.ok(frames.length > 0, log.join('; '))
      found = frames.some((frame) => Buffer.from(frame).includes(words))
    }
    assert.deepEqual(await received(c, 1, 50), [])
  }
  const left = (): string[] => {
    const show = (program: string, ...words: string[]) => execFileSync(program, words, { encoding: 'utf8' })
    return [
      ...(show('nft', 'list', 'tables').includes('pointsman') ? ['nftables'] : []),
      ...(show('tc', 'qdisc', 'show').includes('clsact') ? ['tc'] : []),
      ...(show('ip', 'link', 'show').includes('pm-') ? ['veth'] : []),
      ...(netnsHolder('plane') === null ? [] : ['process']),
      ...readdirSync(runDirectory).filter((name) => name !== 'forwarder.log'),
    ]
  }

  const serve = async () => {
    managed.director.addService(HTTP)
    managed.director.addServer(HTTP.id, server(`${REAL}:8080`))
    await managed.director.settle()
  }
  const begin = async () => {
    await open()
    await attach()
    await serve()
  }
  const step = chainOf(async () => {
    await close()
    await removeLeftovers(runDirectory)
    rmSync(runDirectory, { recursive: true, force: true })
    mkdirSync(runDirectory)
    await begin()
  })

  before(async () => {
    layTwoWires()
    c = new PacketSocket('wire-c')
    r = new PacketSocket('wire-r')
    await begin()
  })
  after(async () => {
    if (isOpen) await plane.detach()
    await close()
    c.close()
    r.close()
    rmSync(runDirectory, { recursive: true, force: true })
  })

  step('a daemon that ends leaves the forwarder running, and the next one finds it', async () => {
    const forwarder = pid()
    const old = await connect()
    await close()
    assert.ok(running(forwarder))
    await goesOn(old)
    // New connections are made without any daemon.
    const orphan = await connect()
    await open()
    assert.equal(plane.adopted, true)
    assert.equal(pid(), forwarder)
    assert.equal(managed.director.rules().length, 1)
    await attach()
    await goesOn(old)
    await goesOn(orphan)
  })

  step('a forwarder that is killed costs no connection, and another one is there soon', async (t) => {
    const times: number[] = []
    for (let round = 0; round < 3; round++) {
      const forwarder = pid()
      const old = await connect()
      process.kill(forwarder, 'SIGKILL')
      const killed = performance.now()
      let heard = 0
      // The client goes on as TCP would; the kernel must not answer meanwhile.
      while (heard === 0 && performance.now() - killed < 60_000) {
        c.send(fromClient(old, 80, 'A'))
        heard = (await received(r, 1, 20)).length
      }
      const tookMs = performance.now() - killed
      assert.ok(heard > 0, log.join('; '))
      assert.deepEqual(await received(c, 1, 50), [], 'a RST of the kernel')
      times.push(Math.round(tookMs))
      await until(() => plane.interfaces().length === 2, 'the daemon to see it')
      assert.notEqual(pid(), forwarder)
      // What the client has sent meanwhile is through.
      while ((await received(r, 1000, 100)).length > 0);
      await goesOn(old)
    }
    t.diagnostic(`forwarding again ${times.join(', ')} ms after kill -9`)
  })

  step('rules changed while there is no forwarder are in force when that is answered', async () => {
    const other = service(`tcp ${VIP}:81`, { scheduler: 'rr' })
    process.kill(pid(), 'SIGKILL')
    await wait(5)
    managed.director.addService(other)
    managed.director.addServer(other.id, server(`${REAL}:8081`))
    await until(() => plane.forwarder !== null && plane.interfaces().length === 2, 'another one')
    await managed.director.settle()
    c.send(fromClient(7, 81, 'S'))
    assert.equal((await received(r, 1)).length, 1)
    assert.deepEqual(await received(c, 1, 50), [])
    managed.director.deleteService(other.id)
    await managed.director.settle()
  })

  step('another set-up replaces the forwarder under its connections', async () => {
    const old = await connect()
    const forwarder = pid()
    await close()
    await open({ workers: 2 })
    assert.notEqual(pid(), forwarder)
    await until(() => !running(forwarder), 'the old one to end')
    await attach()
    await goesOn(old)
    assert.equal(plane.adopted, true)
  })

  step('more workers than there were rows for: rules and connections stay', async () => {
    const old = await connect()
    await close()
    await open({ workers: SMALL_SIZES.cpus + 1 })
    assert.equal(plane.sizes.cpus, SMALL_SIZES.cpus + 1)
    assert.equal(existsSync(join(runDirectory, 'userspace.maps.before')), false)
    assert.equal(managed.director.rules().length, 1)
    await attach()
    await goesOn(old)
  })

  step('another table size, and interfaces that do not exist: rules and connections stay', async () => {
    const old = await connect()
    await close()
    await open({ sizes: { ...SMALL_SIZES, connections4: SMALL_SIZES.connections4 * 4 }, workers: 2 })
    const [result] = await plane.attach(['typo'])
    assert.ok(result !== undefined && 'refused' in result && result.absent)
    await close()
    await open({ workers: 2 })
    assert.equal(managed.director.rules().length, 1)
    await attach()
    await goesOn(old)
    assert.match(
      log.join('; '),
      /The maps in use keep their sizes \(connections4 \d+\): run pointsman detach/,
    )
  })

  step('frames held for a daemon that is killed are let go', async () => {
    await plane.hold()
    lastPort += 1
    c.send(fromClient(lastPort, 80, 'S'))
    assert.deepEqual(await received(r, 1, 100), [])
    await plane.quiesce()
    await close()
    assert.equal((await received(r, 1)).length, 1)
    await open({ workers: 2 })
    await attach()
  })

  step('only root can talk to it, and nonsense does no harm', async () => {
    const socket = join(runDirectory, 'forwarder.sock')
    assert.equal(statSync(socket).mode & 0o777, 0o600)
    const { connect: connectTo } = await import('node:net')
    const stranger = connectTo(socket)
    stranger.on('error', () => {})
    stranger.resume()
    stranger.write('{"order":"make tea","number":1}\nnonsense\n')
    await new Promise<void>((resolve) => stranger.once('close', () => resolve()))
    await goesOn(await connect())
  })

  step('maps that cannot be read are made anew, by name, and the plane works', async () => {
    await close()
    writeFileSync(join(runDirectory, 'userspace.maps'), 'spoilt')
    await open()
    assert.equal(plane.adopted, false)
    assert.match(log.join('; '), /are lost: .*does not begin as expected/)
    await attach()
    await serve()
    await goesOn(await connect())
  })

  step('maps of a version that this one does not know are left to it, and forwarded by', async () => {
    const old = await connect()
    const forwarder = pid()
    await close()
    const path = join(runDirectory, 'userspace.maps')
    const head = readFileSync(path).subarray(0, 4096)
    const at = head.indexOf('"layout":"') + 10
    const own = head.toString('latin1', at, at + 16)
    const write = (fingerprint: string) => {
      const fd = openSync(path, 'r+')
      writeSync(fd, fingerprint, at, 'latin1')
      closeSync(fd)
    }
    write('0123456789abcdef')
    await assert.rejects(open(), /maps of another version in .*layout \d+, .*pointsman detach/)
    assert.ok(running(forwarder))
    write(own)
    await open({ workers: 1 })
    assert.equal(plane.adopted, true)
    await attach()
    await goesOn(old)
  })

  step('why no forwarder can be started is said for as long as it is so', async () => {
    assert.equal(plane.trouble(), null)
    const path = join(runDirectory, 'forwarder.log')
    rmSync(path)
    mkdirSync(path)
    const forwarder = pid()
    process.kill(forwarder, 'SIGKILL')
    await until(() => plane.trouble() !== null, 'the reason')
    assert.match(
      plane.trouble() ?? '',
      /Cannot start the forwarder: its log cannot be written .*findmnt --target/,
    )
    await assert.rejects(plane.published(), /its log cannot be written/)
    rmSync(path, { recursive: true })
    await until(() => plane.trouble() === null, 'another forwarder')
    await attach()
    await goesOn(await connect())
  })

  step('detach without a daemon ends the forwarder and removes everything', async () => {
    const forwarder = pid()
    await close()
    assert.equal(await removeLeftovers(), true)
    await until(() => !running(forwarder), 'it to end')
    assert.deepEqual(left(), [])
    assert.equal(await removeLeftovers(), false)
    // The kernel has its packets again.
    c.send(fromClient(5000, 80, 'S'))
    assert.equal((await received(c, 1)).length, 1)
    await open()
    assert.equal(plane.adopted, false)
    await attach()
  })

  step('what a killed forwarder leaves goes too', async () => {
    const forwarder = pid()
    await close()
    process.kill(forwarder, 'SIGKILL')
    await until(() => !running(forwarder), 'it to end')
    assert.equal(await removeLeftovers(runDirectory), true)
    assert.deepEqual(
      left().filter((name) => name !== 'forwarder.sock'),
      [],
    )
    await open()
    await attach()
  })

  step('one that is being started while everything is detached sets nothing up', async () => {
    const killed = pid()
    const maps = join(runDirectory, 'userspace.maps')
    await close()
    process.kill(killed, 'SIGKILL')
    await until(() => !running(killed), 'it to end')
    // Where it waits for the one before it.
    const lock = lockNetns('plane', { pid: process.pid, program: 'plane.test' })
    const setup = { workers: 1, intake: 'packet', busyPoll: false, ringBytes: 1 << 20 } as const
    const identity = { build: forwarderBuild(), maps: statSync(maps).ino }
    const started = startForwarder({ runDirectory, setup: { ...setup, ...identity }, interfaces: [] })
    const said = started.then(() => 'it forwards', String)
    const isMapped = (name: string): boolean => {
      try {
        return readFileSync(`/proc/${name}/maps`, 'latin1').includes(maps)
      } catch {
        return false
      }
    }
    const others = () =>
      readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== `${process.pid}`)
    try {
      await until(() => others().some(isMapped), 'the maps to be opened')
      rmSync(maps)
    } finally {
      lock.release()
    }
    assert.match(await said, /Cannot use the maps: they have been (removed|replaced)/)
    await removeLeftovers(runDirectory)
    assert.deepEqual(
      left().filter((name) => name !== 'forwarder.sock'),
      [],
    )
    await open()
    await attach()
  })

  step('what nobody comes back for is gone after half a minute', async () => {
    await serve()
    const forwarder = pid()
    await close()
    process.kill(forwarder, 'SIGKILL')
    await until(() => !running(forwarder), 'it to end')
    assert.deepEqual(left().slice(0, 3), ['nftables', 'tc', 'veth'])
    // The next forwarder takes over what there is, and the old one's lease does it no harm.
    await open()
    await attach()
    await wait(32_000)
    await goesOn(await connect())
    const second = pid()
    await close()
    process.kill(second, 'SIGKILL')
    await until(() => left().every((name) => name.includes('.')), `all to be removed: ${left()}`, 120_000)
    await open()
    await attach()
    await goesOn(await connect())
  })

  step(
    'without its run directory it can never be told to end: it does, and takes everything along',
    async () => {
      const forwarder = pid()
      await close()
      rmSync(runDirectory, { recursive: true })
      await until(() => !running(forwarder), 'it to end', 60_000)
      assert.ok(!existsSync(runDirectory))
      execFileSync('mkdir', [runDirectory])
      assert.deepEqual(left(), [])
      await open()
      await attach()
    },
  )

  step('a forwarder that cannot be started holds up no end', async () => {
    const logFile = join(runDirectory, 'forwarder.log')
    rmSync(logFile)
    mkdirSync(logFile)
    process.kill(pid(), 'SIGKILL')
    await until(() => log.some((line) => line.includes('EISDIR')), 'a start that fails')
    await wait(700)
    const began = Date.now()
    isOpen = false
    void managed.applier.stop()
    await plane.close()
    // One that waits for a forwarder waits for 20 s.
    assert.ok(Date.now() - began < 15_000, `it took ${Date.now() - began} ms`)
    rmSync(logFile, { recursive: true })
    await open()
    await attach()
  })

  step('a forwarder that ends over a detach makes no failure of it: nothing is left', async () => {
    const stuck = pid()
    process.kill(stuck, 'SIGSTOP')
    const detached = plane.detach()
    await wait(50)
    process.kill(stuck, 'SIGKILL')
    await detached
    await close()
    assert.deepEqual(left(), [])
    await open()
    await attach()
  })

  step('detach by the daemon leaves nothing', async () => {
    const forwarder = pid()
    await plane.detach()
    await until(() => !running(forwarder), 'it to end')
    assert.deepEqual(left(), [])
  })
})
