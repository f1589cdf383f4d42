import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { builtFile } from '../../../dataplane/assets.ts'
import { countSendFailures, type SendFailures } from '../../../dataplane/kernel/failures.ts'
import { attachXdp } from '../../../dataplane/kernel/xdp.ts'
import { libbpf, need, needPointer } from '../../../linux/libbpf.ts'
import { libc } from '../../../linux/libc.ts'
import { readLinks } from '../../../linux/links.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { compileBpf, skipWithoutClang } from '../compile-bpf.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, until } from '../private-network.ts'

const skip = skipWithoutPrivileges || skipWithoutClang

/** Redirects every frame to an interface. */
function redirector(ifindex: number): string {
  return `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int redirector(struct xdp_md *ctx) { return bpf_redirect(${ifindex}, 0); }
char _license[] SEC("license") = "GPL";
`
}

test('frames that the kernel took and did not send are counted by way out and error', { skip }, async () => {
  enterPrivateNetwork()
  ip('link add fa0 type veth peer name fa1')
  ip('link add br0 type bridge')
  for (const name of ['fa0', 'fa1', 'br0']) ip(`link set ${name} up`)
  const failures = countSendFailures(builtFile('failures.bpf.o')) as SendFailures
  assert.notEqual(typeof failures, 'string', String(failures))
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-failures-'))
  try {
    const links = readLinks()
    const bridge = links.named('br0')!.ifindex
    const path = join(folder, 'redirector.bpf.o')
    writeFileSync(path, compileBpf(redirector(bridge)))
    const object = needPointer(libbpf().bpf_object__open_file(path, null), 'open')
    need(libbpf().bpf_object__load(object), 'load')
    const program = needPointer(libbpf().bpf_object__find_program_by_name(object, 'redirector'), 'find')
    // From then on also the kernel's own frames out of fa1, which has just come up.
    const before = failures.read().reduce((sum, { frames }) => sum + frames, 0n)
    const { fd } = attachXdp(libbpf().bpf_program__fd(program), links.named('fa0')!, 'native')
    const socket = new PacketSocket('fa1')
    for (let i = 0; i < 5; i++) socket.send(new Uint8Array(60).fill(0xff))
    socket.close()
    const toBridge = () => failures.read().find(({ ifindex }) => ifindex === bridge)
    await until(() => (toBridge()?.frames ?? 0n) >= 5n, 'the kernel to fail five times')
    assert.match(toBridge()?.error ?? '', /^E(OP)?NOTSUPP?$/)
    assert.equal(before, 0n)
    libc.close(fd)
    libbpf().bpf_object__close(object)
  } finally {
    failures.close()
    rmSync(folder, { recursive: true })
  }
})

test('without an object to load it says why, and nothing else happens', { skip }, () => {
  const refused = countSendFailures('/nowhere/failures.bpf.o')
  assert.equal(typeof refused, 'string')
  assert.match(String(refused), /failures\.bpf\.o/)
})
