/** Debian's ZooKeeper as a process of a test, on loopback, in a folder of its own. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RegistryAddress } from '../../../control/model/pool.ts'
import { ZkSession } from '../../../control/registry/zookeeper/session.ts'
import { ServerProcess } from '../../../lab/processes.ts'
import { addressOf } from './addresses.ts'

const JARS = [
  ...['zookeeper', 'zookeeper-jute', 'slf4j-api', 'slf4j-nop', 'netty-all', 'snappy-java', 'metrics-core'],
  ...['commons-cli', 'commons-io'],
].map((name) => `/usr/share/java/${name}.jar`)
const TRIES = 600

/** Why it cannot be run; false: it can. */
export const zookeeperMissing: string | false =
  existsSync(JARS[0]!) && existsSync('/usr/bin/java')
    ? false
    : 'ZooKeeper is missing: apt-get install zookeeper default-jre-headless'

export class ZooKeeper extends ServerProcess {
  readonly port: number

  constructor(port: number) {
    super('zookeeper')
    this.port = port
    const settings = {
      tickTime: 200,
      dataDir: join(this.folder, 'data'),
      clientPort: port,
      clientPortAddress: '127.0.0.1',
      'admin.enableServer': false,
      maxClientCnxns: 0,
      // Sessions are told in milliseconds of the ticks; this is what a client may ask for.
      minSessionTimeout: 400,
      maxSessionTimeout: 20_000,
      forceSync: 'no',
    }
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`)
    writeFileSync(join(this.folder, 'zoo.cfg'), lines.join(''))
  }

  get endpoint(): string {
    return `127.0.0.1:${this.port}`
  }

  /** Settles when it grants sessions: it takes connections somewhat earlier. */
  async start(): Promise<void> {
    const child = this.run([
      'java',
      ...['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-cp', JARS.join(':')],
      ...['org.apache.zookeeper.server.quorum.QuorumPeerMain', join(this.folder, 'zoo.cfg')],
    ])
    for (let tries = 0; tries < TRIES && child.exitCode === null; tries++) {
      try {
        const session = await openSession(this.endpoint, 2000)
        session.close()
        return
      } catch {
        await sleep(50)
      }
    }
    throw new Error(`ZooKeeper does not answer; it has ended with ${child.exitCode}`)
  }
}

export async function openSession(
  endpoint: string,
  sessionMs: number,
  more: Partial<RegistryAddress> = {},
): Promise<ZkSession> {
  return await ZkSession.open(
    {
      address: addressOf('zookeeper', [endpoint], more),
      ...{ endpoint, sessionMs, session: null, lastZxid: 0n },
      event: () => {},
      alive: () => {},
    },
    new AbortController().signal,
  )
}
