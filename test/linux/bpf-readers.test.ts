/** The kernel's word that no program is under way any more, held against one that takes its time. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { BpfReaders } from '../../linux/bpf-readers.ts'
import { libbpf, need, needPointer } from '../../linux/libbpf.ts'
import { addressOf, mapShared } from '../../linux/libc.ts'
import { compileBpf, skipWithoutClang } from '../dataplane/compile-bpf.ts'

const skip =
  process.getuid?.() !== 0
    ? 'takes root'
    : skipWithoutClang || (availableParallelism() < 2 && 'needs a processor beside that of the program')

/** On a busy machine the program may be through before anybody has looked. */
const TRIES = 200

/** Says when it begins and when it ends, some hundred milliseconds later. */
const SLOW = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 2);
	__type(key, __u32); __type(value, __u64); } said SEC(".maps");
static long inner(__u64 i, void *sum) { *(__u64 *)sum += i * i; return 0; }
static long outer(__u64 i, void *sum) { bpf_loop(1 << 16, inner, sum, 0); return 0; }
SEC("xdp") int slow(struct xdp_md *ctx)
{
	__u32 first = 0, second = 1;
	__u64 sum = 0, *begun = bpf_map_lookup_elem(&said, &first), *ended = bpf_map_lookup_elem(&said, &second);

	if (!begun || !ended)
		return XDP_ABORTED;
	__sync_fetch_and_add(begun, 1);
	bpf_loop(1 << 10, outer, &sum, 0);
	__sync_fetch_and_add(ended, 1 + (sum == 1));
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
`

test('whoever waits for programs gets its answer behind the end of one that was running', {
  skip,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-readers-'))
  const path = join(folder, 'slow.bpf.o')
  writeFileSync(path, compileBpf(SLOW))
  const object = needPointer(libbpf().bpf_object__open_file(path, null), 'open the slow program')
  need(libbpf().bpf_object__load(object), 'load the slow program')
  const program = libbpf().bpf_program__fd(libbpf().bpf_object__find_program_by_name(object, 'slow')!)
  const map = libbpf().bpf_map__fd(libbpf().bpf_object__find_map_by_name(object, 'said')!)
  const mapping = mapShared(map, 4096, 'what the slow program says')
  const said = new BigUint64Array(mapping.buffer, 0, 2)
  const frame = new Uint8Array(64)
  const request = Buffer.alloc(80)
  request.writeBigUInt64LE(80n, 0)
  request.writeBigUInt64LE(addressOf(frame), 8)
  request.writeUInt32LE(frame.length, 24)
  request.writeUInt32LE(1, 60)
  const run: unknown = libbpf().bpf_prog_test_run_opts
  const readers = new BpfReaders()
  try {
    await readers.wait()
    const start = (): Promise<number> =>
      new Promise((resolve, reject) => {
        ;(run as { async(...parameters: unknown[]): void }).async(
          program,
          addressOf(request),
          (error: Error | null, result: number) => (error === null ? resolve(result) : reject(error)),
        )
      })
    let ended: Promise<number>
    let before = 0n
    for (; ; before++) {
      ended = start()
      while (Atomics.load(said, 0) === before) await sleep(1)
      if (Atomics.load(said, 1) === before) break
      assert.equal(await ended, 0)
      assert.ok(before < TRIES, 'it is under way')
    }
    await readers.wait()
    assert.equal(Atomics.load(said, 1), before + 1n, 'it was through before the answer came')
    assert.equal(await ended, 0)
    assert.equal(frame.length, 64)
  } finally {
    readers.close()
    mapping.unmap()
    libbpf().bpf_object__close(object)
    rmSync(folder, { recursive: true })
  }
})
