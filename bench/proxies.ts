/** HAProxy and nginx as forwarders of TCP, where they are installed. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { must, until } from '../lab/command.ts'
import { needCommand } from './native.ts'
import type { Namespaces } from './network.ts'
import { Skip } from './section.ts'
import { makeTriangle, type Processes, TRIANGLE, type Triangle, within } from './triangle.ts'

export const PROXIES = ['HAProxy', 'nginx stream'] as const
export type ProxyName = (typeof PROXIES)[number]

/** Of Debian's libnginx-mod-stream; others have it built in. */
const NGINX_STREAM = '/usr/lib/nginx/modules/ngx_stream_module.so'

interface Proxy {
  /** Throws `Skip` when it is not installed. */
  need(): Promise<void>
  /** @param folder for what it has to write */
  configuration(port: number, folder: string): readonly string[]
  command(file: string): readonly string[]
  /** Whether it has read and written all that it wants in its folder. */
  settled(folder: string): boolean
}

const KINDS: Readonly<Record<ProxyName, Proxy>> = {
  HAProxy: {
    need: () => needCommand('haproxy'),
    configuration: (port) => [
      'global',
      '  maxconn 1000',
      '  nbthread 2',
      'defaults',
      '  mode tcp',
      '  timeout connect 5s',
      '  timeout client 60s',
      '  timeout server 60s',
      'listen bench',
      `  bind ${TRIANGLE.vip}:${port}`,
      `  server one ${TRIANGLE.server.address}:${port}`,
    ],
    command: (file) => ['haproxy', '-db', '-f', file],
    settled: () => true,
  },
  'nginx stream': {
    async need() {
      await needCommand('nginx', 'nginx-light libnginx-mod-stream')
      const options = await must(['sh', '-c', 'nginx -V 2>&1'])
      if (existsSync(NGINX_STREAM) || /--with-stream(\s|$)/.test(options)) return
      throw new Skip('this nginx has no stream module: apt-get install libnginx-mod-stream')
    },
    configuration: (port, folder) => [
      ...(existsSync(NGINX_STREAM) ? [`load_module ${NGINX_STREAM};`] : []),
      'daemon off;',
      'worker_processes 2;',
      `pid ${folder}/pid;`,
      'error_log stderr;',
      'events { worker_connections 1000; }',
      'stream {',
      '  server {',
      `    listen ${TRIANGLE.vip}:${port};`,
      `    proxy_pass ${TRIANGLE.server.address}:${port};`,
      '  }',
      '}',
    ],
    command: (file) => ['nginx', '-e', 'stderr', '-c', file],
    settled: (folder) => existsSync(join(folder, 'pid')),
  },
}

/** Starts one in a triangle of its own, with the virtual address on its director; returns when it listens. */
export async function startProxy(
  name: ProxyName,
  namespaces: Namespaces,
  processes: Processes,
  port: number,
): Promise<{ readonly triangle: Triangle; readonly pid: number }> {
  const kind = KINDS[name]
  await kind.need()
  const triangle = await makeTriangle(namespaces, name.split(' ')[0]!.toLowerCase())
  const inside = (argv: readonly string[]) => within(triangle.director, argv)
  await must(inside(['ip', 'addr', 'add', `${TRIANGLE.vip}/32`, 'dev', 'lo']))
  const folder = mkdtempSync(join(tmpdir(), 'pmbench-'))
  try {
    const file = join(folder, 'configuration')
    writeFileSync(file, [...kind.configuration(port, folder), ''].join('\n'))
    const child = await processes.start(
      inside(['sh', '-c', 'echo ready; exec "$@"', 'sh', ...kind.command(file)]),
    )
    await until(`${name} to listen`, 5000, async () => {
      const listening = await must(inside(['ss', '-Hltn', `sport = :${port}`]))
      return listening.trim() !== '' && kind.settled(folder) ? true : undefined
    })
    return { triangle, pid: child.pid! }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
