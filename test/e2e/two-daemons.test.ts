/** In one network namespace one daemon works; whoever else comes is refused before it touches anything. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { executable } from '../../lab/director.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { addServer, addService, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed } from '../../lab/topology.ts'
import { stepsOf } from '../chain.ts'
import { missingFor, PLANES, withDirector } from './scene.ts'

const service: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }

for (const plane of PLANES) {
  test(`${plane}: a living daemon's plane is nobody else's to take`, { skip: missingFor(plane) }, (t) =>
    withDirector(plane, async (lab) => {
      const step = stepsOf(t)
      const { director } = lab
      const elsewhere = mkdtempSync(join(tmpdir(), 'pointsman-elsewhere-'))
      const { address, port } = virtualEndpoint(service)
      await director.restore([addService(service), addServer(service, hostNamed('rs1'))])
      const goesOn = async () => {
        assert.equal((await lab.client.http({ address, port })).server, 'rs1')
        await director.rule('--set 900 120 300')
        assert.equal((await director.pointsman(['status'])).status, 0)
      }
      await goesOn()
      const named = new RegExp(`process ${director.pid()}\\).*POINTSMAN_SOCKET=${director.socket} `)
      try {
        await step('detach with a forgotten POINTSMAN_SOCKET', async () => {
          const command = [
            'env',
            `POINTSMAN_SOCKET=${elsewhere}/none.sock`,
            executable('pointsman'),
            'detach',
          ]
          const { status, stderr } = await director.command(command)
          assert.equal(status, 1)
          assert.match(stderr, named)
          await goesOn()
        })

        for (const second of PLANES) {
          await step(`a second daemon, ${second}, with another run directory`, async () => {
            const { status, stderr } = await director.command([
              ...[executable('pointsmand'), '--interface', 'c0', '--interface', 'r0'],
              ...['--run-dir', elsewhere, '--dataplane', second],
            ])
            assert.equal(status, 1)
            assert.match(stderr, named)
            await goesOn()
          })
        }
      } finally {
        rmSync(elsewhere, { recursive: true })
      }
    }),
  )
}

test(
  'a name in the abstract namespace of sockets, which anybody may bind, holds up no start',
  {
    skip: missingFor('xdp'),
  },
  () =>
    withDirector('xdp', async (lab) => {
      const { director } = lab
      // What the lock of earlier versions was.
      const script = `const { createHash } = require('node:crypto'); const dir = ${JSON.stringify(`run ${director.runDir}`)}
      const name = '\\0pointsman-' + createHash('sha256').update(dir).digest('hex').slice(0, 32)
      require('node:net').createServer().listen(name, () => console.log('bound'))`
      await director.end('SIGTERM')
      const words = ['setpriv', '--reuid=65534', '--clear-groups', process.execPath, '-e', script]
      const [program, ...args] = inNamespace(director.namespace, words)
      const squatter = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
      try {
        await new Promise((resolve) => squatter.stdout.once('data', resolve))
        await director.start({ dataplane: 'xdp' })
      } finally {
        squatter.kill('SIGKILL')
      }
    }),
)
