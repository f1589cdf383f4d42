/** What the verifier of the oldest kernel would say about stack, without that kernel. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { builtFile } from '../../dataplane/assets.ts'
import { compileBpf, skipWithoutClang } from '../dataplane/compile-bpf.ts'
import { waysBack } from './flow.ts'
import { deepestChain, STACK_MAX } from './stack.ts'

const PROGRAMS = [
  'pointsman.bpf.o',
  'pointsman-tc.bpf.o',
  'pointsman-out.bpf.o',
  'pointsman-own.bpf.o',
  'pointsman-cut.bpf.o',
  'pointsman-recording.bpf.o',
  'pointsman-tc-recording.bpf.o',
]

for (const name of PROGRAMS)
  test(`the deepest chain of calls in ${name} fits the stack of Linux 6.1`, () => {
    const { bytes, chain } = deepestChain(readFileSync(builtFile(name)))
    assert.ok(chain.length >= 3, `a chain was found: ${chain.join(' → ')}`)
    assert.ok(bytes <= STACK_MAX, `${bytes} bytes, allowed are ${STACK_MAX}: ${chain.join(' → ')}`)
  })

test('frames are summed along calls and callbacks, each rounded up to 32 bytes', {
  skip: skipWithoutClang,
}, () => {
  const { bytes, chain } = deepestChain(
    compileBpf(`
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define FILL(bytes) volatile char room[bytes]; for (int i = 0; i < bytes; i++) room[i] = i;
static long each(__u64 i, void *data) { FILL(48) return room[7]; }
__attribute__((noinline)) int deep(int n) { FILL(40) bpf_loop(n, each, 0, 0); return room[3]; }
__attribute__((noinline)) int flat(int n) { FILL(70) return room[n & 7]; }
SEC("xdp") int outer(struct xdp_md *ctx) { return flat(ctx->rx_queue_index) + deep(ctx->ingress_ifindex); }
char _license[] SEC("license") = "GPL";
`),
  )
  assert.deepEqual({ bytes, chain }, { bytes: 32 + 64 + 64, chain: ['outer', 'deep', 'each'] })
})

test('no loop begins in its middle: Linux 6.1 refuses to go on into what it came from', () => {
  for (const name of [...PROGRAMS, 'steer.bpf.o', 'xsk.bpf.o', 'failures.bpf.o'])
    assert.deepEqual(waysBack(readFileSync(builtFile(name))), [], name)
})
