/** Debian's ldirectord, unmodified, drives our ipvsadm: it calls /sbin/ipvsadm and reads its listings. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { builtFile } from '../../dataplane/assets.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { hostNamed, topology } from '../../lab/topology.ts'
import { inList } from './listed.ts'
import { missingFor, withDirector } from './scene.ts'

const LDIRECTORD = '/usr/sbin/ldirectord'
const skip =
  missingFor('xdp') ||
  (existsSync(LDIRECTORD) ? false : `${LDIRECTORD} is missing: apt-get install ldirectord`)
const WITHIN_MS = 60_000
const CLIENT = `ipvsadm-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}`

const VIRTUAL = { address: topology.virtual.nat.ipv4, port: topology.ports.http }
const at = (name: string): string => `${hostNamed(name).servers!.ipv4}:${topology.ports.httpBehindNat}`

const CONFIGURATION = `checktimeout=10
checkinterval=1
autoreload=no
quiescent=no
virtual=${VIRTUAL.address}:${VIRTUAL.port}
\treal=${at('rs1')} masq 2
\treal=${at('rs2')} masq 3
\tfallback=${at('rs3')} masq
\tservice=http
\tscheduler=wrr
\tprotocol=tcp
\tchecktype=negotiate
\trequest="/"
\treceive="."
`

async function answering(lab: Lab): Promise<readonly string[]> {
  const report = await lab.client.load({ ...VIRTUAL, requests: 20, concurrency: 2 })
  assert.deepEqual(report.failures, {})
  return Object.keys(report.answers).sort()
}

test('ldirectord checks real servers, and falls back', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const file = `${lab.director.runDir}/ldirectord.cf`
    const log = `${lab.director.runDir}/ldirectord.log`
    writeFileSync(file, CONFIGURATION)
    const script = `mount --bind ${builtFile(CLIENT)} /usr/sbin/ipvsadm && exec ${LDIRECTORD} -d ${file} start > ${log} 2>&1`
    const [program, ...args] = inNamespace(lab.director.namespace, [
      ...['unshare', '--mount', '--propagation', 'private', '--'],
      ...['sh', '-c', script],
    ])
    const child = spawn(program, args, { stdio: 'ignore', env: lab.director.environment() })
    const ended = once(child, 'exit')
    try {
      await inList(lab, `${at('rs1')} 2, ${at('rs2')} 3`, WITHIN_MS)
      assert.deepEqual(await answering(lab), ['rs1', 'rs2'])
      await lab.stopServer('rs1')
      await inList(lab, `${at('rs2')} 3`, WITHIN_MS)
      assert.deepEqual(await answering(lab), ['rs2'])
      await lab.stopServer('rs2')
      await inList(lab, `${at('rs3')} 1`, WITHIN_MS)
      assert.deepEqual(await answering(lab), ['rs3'], 'the fallback')
      await lab.startServer('rs1')
      await inList(lab, `${at('rs1')} 2`, WITHIN_MS)
    } catch (error) {
      console.error(existsSync(log) ? readFileSync(log, 'utf8').slice(-4000) : 'ldirectord said nothing')
      throw error
    } finally {
      child.kill('SIGTERM')
      await ended
    }
  }),
)
