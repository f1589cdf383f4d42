/** Packet programs of a few lines with the real maps: what loading and pinning need, quick to verify. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Hook } from '../../../dataplane/kernel/pins.ts'
import { compileBpf } from '../compile-bpf.ts'

const HOOKS: Readonly<Record<Hook, { section: string; context: string; pass: string }>> = {
  out: { section: 'tc', context: '__sk_buff', pass: '-1' },
  own: { section: 'tc', context: '__sk_buff', pass: '-1' },
  cut: { section: 'tc', context: '__sk_buff', pass: '-1' },
  relay: { section: 'tc', context: '__sk_buff', pass: '-1' },
  xdp: { section: 'xdp', context: 'xdp_md', pass: 'XDP_PASS' },
  tc: { section: 'tc', context: '__sk_buff', pass: '-1' },
}

/** A program that counts every frame as verdict number `verdict` and passes it on. */
function source(verdict: number, hook: Hook = 'xdp'): string {
  const { section, context, pass } = HOOKS[hook]
  return `#include "types.h"
#include "maps.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define DEFINE(name, record, n) struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); \\
	__uint(max_entries, n); __type(key, __u32); __type(value, record); } name SEC(".maps");
PM_MAPS(DEFINE)
const volatile struct pm_limits pm_limits;
SEC("${section}") int pointsman(struct ${context} *ctx)
{
	__u32 index = ${verdict} + (pm_limits.cpus - 1) * PM_VERDICT_MAX;
	__u64 *count = bpf_map_lookup_elem(&verdicts, &index);

	if (count)
		__sync_fetch_and_add(count, 1);
	return ${pass};
}
char _license[] SEC("license") = "GPL";
`
}

/** Objects in a folder of their own. */
export class TinyPrograms {
  readonly #folder = mkdtempSync(join(tmpdir(), 'pointsman-object-'))
  /** The types.h each object was compiled with, by path. */
  readonly #compiled = new Map<string, string>()

  /** Path of an object; `types` alters types.h, and so the layout. */
  compile(
    verdict: number,
    types: (header: string) => string = (header) => header,
    hook: Hook = 'xdp',
  ): string {
    const header = readFileSync(new URL('../../../bpf/types.h', import.meta.url), 'utf8')
    const altered = types(header)
    const path = join(
      this.#folder,
      `${hook === 'xdp' ? 'program' : hook}-${verdict}${altered === header ? '' : '-altered'}.bpf.o`,
    )
    const known = this.#compiled.get(path)
    if (known !== altered) {
      writeFileSync(path, compileBpf(source(verdict, hook), altered === header ? {} : { 'types.h': altered }))
      this.#compiled.set(path, altered)
    }
    return path
  }

  /** Path of an object `NAME.bpf.o` whose source was altered. */
  compileSource(name: string, alter: (source: string) => string, hook: Hook = 'xdp'): string {
    const path = join(this.#folder, `${name}.bpf.o`)
    writeFileSync(path, compileBpf(alter(source(3, hook))))
    return path
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true })
  }
}
