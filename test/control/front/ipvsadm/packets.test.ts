/** Recorded sessions in which clients send packets, with the packet program in wasm and in the kernel. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { skipWithoutPrivileges } from '../../../dataplane/private-network.ts'
import { openKernelPlayer, openWasmPlayer, type PacketPlayer, playWithPackets } from './packet-player.ts'
import { needsPackets } from './play.ts'
import { loadRecording, type Recording } from './scenario.ts'

const whole = loadRecording(
  fileURLToPath(new URL('../../../recordings/ipvsadm/golden.json', import.meta.url)),
)
const recording = { ...whole, scenarios: whole.scenarios.filter(needsPackets) }

async function allPass(
  t: TestContext,
  open: (recording: Recording) => PacketPlayer | Promise<PacketPlayer>,
): Promise<void> {
  const results = await playWithPackets(recording, open, () => {})
  assert.ok(results.length > 0)
  for (const { name, outcome, lines } of results)
    await t.test(name, () => assert.equal(outcome, 'passed', lines.join('\n')))
}

test('ipvsadm lists what packets have done, as recorded, in wasm', (t) => allPass(t, openWasmPlayer))
test(
  'ipvsadm lists what packets have done, as recorded, in the kernel',
  { skip: skipWithoutPrivileges },
  (t) => allPass(t, openKernelPlayer),
)
