/**
 * How near a program is to what the verifier looks at before it gives up (1,000,000 instructions): the one of all
 * that has the most code. Another one must be able to get what is still to come.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { builtFile } from '../../dataplane/assets.ts'
import { libbpf, need, needPointer } from '../../linux/libbpf.ts'
import { skipWithoutPrivileges } from '../dataplane/private-network.ts'

const ROOM = 700_000

test('the largest program leaves the verifier room', { skip: skipWithoutPrivileges }, (t) => {
  const file = builtFile('pointsman-tc-recording.bpf.o')
  const bpf = libbpf()
  const object = needPointer(bpf.bpf_object__open_file(file, null), `open ${file}`)
  try {
    need(bpf.bpf_object__load(object), `load ${file}`)
    const program = needPointer(bpf.bpf_object__find_program_by_name(object, 'pointsman'), 'find its program')
    const facts = readFileSync(`/proc/self/fdinfo/${bpf.bpf_program__fd(program)}`, 'utf8')
    const verified = Number(/^verified_insns:\s*(\d+)$/m.exec(facts)?.[1])
    t.diagnostic(`${verified} verified instructions`)
    assert.ok(verified > 0 && verified < ROOM, `${verified} verified instructions`)
  } finally {
    bpf.bpf_object__close(object)
  }
})
