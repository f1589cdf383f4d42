/** The playground without a browser: the real grammar, the real program, and every example tells what it is about. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { EXAMPLES } from '../../../control/cli/page/playground/examples.ts'
import { Playground, type Told } from '../../../control/cli/page/playground/playground.ts'
import { verdictWords } from '../../../control/insight/explain/verdict-words.ts'
import { builtFile, packageRoot } from '../../../dataplane/assets.ts'
import { loadModule } from '../../../dataplane/userspace/wasm-file.ts'

const module = loadModule(builtFile('pointsman.wasm'))
const words = verdictWords(readFileSync(join(packageRoot(), 'docs/verdicts.md'), 'utf8'))

async function played(text: string) {
  const playground = new Playground({ module, words })
  const all: Told[] = []
  for (const line of text.split('\n')) {
    const told = await playground.run(line)
    if (told !== null) all.push(told)
  }
  const packets = all.flatMap((told) => (told.kind === 'packet' ? [told.explanation] : []))
  const said = all.flatMap((told) => (told.kind === 'command' && told.text !== '' ? [told] : []))
  return { playground, packets, said }
}

const example = (name: string) => played(EXAMPLES.find((one) => one.name === name)!.lines)

test('NAT: a client is sent to a real server, and its answer comes back from the virtual address', async () => {
  const { packets, said, playground } = await example('NAT')
  assert.deepEqual(said, [])
  assert.deepEqual(
    packets.map(({ verdict, realServer, connection }) => [verdict, realServer, connection]),
    [
      ['forward_nat', '10.0.0.2:8080', 'made'],
      ['forward_nat_reply', '10.0.0.2:8080', 'found'],
    ],
  )
  assert.match(await playground.listing('-Ln'), /-> 10\.0\.0\.2:8080\s+Masq\s+1\s+1\s+0/)
})

test('direct routing goes by weight, a tunnel wraps, a client of a persistent service comes back', async () => {
  const direct = await example('Direct routing')
  assert.ok(direct.packets.every(({ verdict }) => verdict === 'forward_dr'))
  const tunnel = await example('Tunnel')
  assert.ok(tunnel.packets.every(({ verdict }) => verdict === 'forward_tun'))
  assert.match(JSON.stringify(tunnel.packets[0]!.steps), /ipv4 192\.0\.2\.1 > 203\.0\.113\.\d/)
  const [first, other, again] = (await example('Persistence')).packets
  assert.equal(first!.realServer, again!.realServer)
  assert.notEqual(first!.realServer, other!.realServer)
})

test('drain: who is there goes on, who comes goes elsewhere; time ends what nobody goes on with', async () => {
  const { packets, said, playground } = await example('Drain')
  const [first, goesOn, comes] = packets
  assert.deepEqual([first!.realServer, goesOn!.realServer], ['10.0.0.2:80', '10.0.0.2:80'])
  assert.equal(comes!.realServer, '10.0.0.1:80')
  assert.equal(said.length, 1)
  await playground.run('wait 1000')
  assert.doesNotMatch(await playground.listing('-Lnc'), /198\.51\.100\./)
})

test('what is refused is refused as ipvsadm does, and what makes no sense says what would', async () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1', /Service not defined/],
    ['ipvsadm -A -t nonsense:80', /illegal virtual server address/],
    ['$ sudo ipvsadm -A -t 192.0.2.10:80 -s nosuch', /Scheduler or persistence engine not found/],
    ['ls', /./],
    ['send tcp nobody 192.0.2.10:80', /Cannot read "nobody"/],
    ['send', /Cannot read the packet|Cannot explain a packet/],
    ['send hex 45zz', /Cannot read "z" in the frame/],
    ['wait a while', /Cannot wait "a while": expected seconds/],
  ]
  for (const [line, message] of cases) {
    const { said } = await played(line)
    assert.match(said[0]?.text ?? '', message, line)
    assert.equal(said[0]?.failed, true, line)
  }
  assert.equal(await new Playground({ module, words }).run('  # only a remark'), null)
})

test('its script asks nobody for anything, and is small', async () => {
  const { gzipSync } = await import('node:zlib')
  const script = readFileSync(builtFile('playground.js'))
  assert.ok(gzipSync(script).length <= 200_000, `${gzipSync(script).length} bytes`)
  assert.doesNotMatch(script.toString('latin1'), /\bfetch\(|XMLHttpRequest|WebSocket|import\(/)
  assert.equal(
    readFileSync(join(packageRoot(), 'docs/playground/index.html'), 'utf8'),
    readFileSync(builtFile('playground.html'), 'utf8'),
  )
})
