/** Debian's bind9 as a process of a test, on loopback, with one zone. */
import { existsSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { askServer } from '../../../control/registry/dns/ask.ts'
import { ServerProcess } from '../../../lab/processes.ts'

const NAMED = '/usr/sbin/named'

/** Why it cannot be run; false: it can. */
export const namedMissing: string | false = existsSync(NAMED)
  ? false
  : 'bind is missing: apt-get install bind9'

export class Named extends ServerProcess {
  readonly port: number
  #serial = 1

  constructor(port: number) {
    super('named')
    this.port = port
  }

  get endpoint(): string {
    return `127.0.0.1:${this.port}`
  }

  /** @param records lines of the zone lab.test; the last one of the authority says how long there is nothing */
  write(records: string): void {
    const zone = `$TTL 1
@ IN SOA ns.lab.test. hostmaster.lab.test. ${this.#serial++} 3600 600 86400 1
@ IN NS ns.lab.test.
ns IN A 127.0.0.1
${records}
`
    const file = join(this.folder, 'lab.test.zone')
    writeFileSync(file, zone)
    // What has the time of the last one is not read again, and times have whole seconds there.
    const seconds = Date.now() / 1000 + 10 * this.#serial
    utimesSync(file, seconds, seconds)
    writeFileSync(
      join(this.folder, 'named.conf'),
      `options {
  directory "${this.folder}"; pid-file "${this.folder}/named.pid"; session-keyfile "${this.folder}/session.key";
  listen-on port ${this.port} { 127.0.0.1; }; listen-on-v6 { none; };
  recursion no; dnssec-validation no; minimal-responses no; notify no;
};
controls { };
zone "lab.test" { type primary; file "${this.folder}/lab.test.zone"; };
`,
    )
    // Zones are read again.
    this.signal('SIGHUP')
  }

  async start(): Promise<void> {
    this.run([NAMED, '-g', '-n', '1', '-c', join(this.folder, 'named.conf')])
    for (let tries = 0; tries < 1000; tries++) {
      try {
        const place = { host: '127.0.0.1', port: this.port }
        await askServer(place, 'ns.lab.test', 'A', new AbortController().signal)
        return
      } catch {
        await sleep(50)
      }
    }
    throw new Error('named does not answer')
  }
}
