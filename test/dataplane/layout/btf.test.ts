import assert from 'node:assert/strict'
import test from 'node:test'
import {
  btfOfElf,
  findEnum,
  findStruct,
  mapValueTypes,
  parseBtf,
  unqualified,
} from '../../../dataplane/layout/btf.ts'
import { parseElf } from '../../../dataplane/layout/elf.ts'
import { compileBpf, skipWithoutClang } from '../compile-bpf.ts'

const SOURCE = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum colour { RED = 1, BLUE = 0x80000000 };
struct inner { __be32 address; };
struct outer {
	volatile __u32 word;
	unsigned int low : 3, high : 5;
	__u16 list[3];
	struct inner inner;
	union { __u64 wide; __u8 bytes[8]; } either;
	struct outer *next;
};
const enum colour *keep_colour;
const volatile struct outer settings_of_test = { .word = 1 };
int counter_of_test;
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct outer);
} table SEC(".maps");
SEC("xdp") int program(struct xdp_md *ctx) { return settings_of_test.word + counter_of_test; }
`

test('btf: structs, arrays, enums, typedefs and variables of an object are read', {
  skip: skipWithoutClang,
}, () => {
  const object = compileBpf(SOURCE)
  const btf = btfOfElf(object)

  const outer = findStruct(btf, 'outer')
  assert.ok(outer)
  assert.equal(outer.size, 32)
  const members = outer.members.map(({ name, bitOffset, bitFieldSize }) => [name, bitOffset, bitFieldSize])
  assert.deepEqual(members, [
    ['word', 0, 0],
    ['low', 32, 3],
    ['high', 35, 5],
    ['list', 48, 0],
    ['inner', 96, 0],
    ['either', 128, 0],
    ['next', 192, 0],
  ])

  const [word, , , list, inner, either, next] = outer.members.map(({ type }) => unqualified(btf, type))
  assert.ok(word?.kind === 'typedef' && word.name === '__u32', 'volatile is taken off, the typedef is kept')
  assert.ok(list?.kind === 'array' && list.length === 3)
  assert.ok(inner?.kind === 'struct' && inner.name === 'inner')
  assert.ok(either?.kind === 'union' && either.size === 8)
  assert.ok(next?.kind === 'pointer')
  assert.deepEqual(findEnum(btf, 'colour')?.values, [
    { name: 'RED', value: 1n },
    { name: 'BLUE', value: 0x80000000n },
  ])
  assert.equal(mapValueTypes(btf).get('table'), outer)
  const symbol = parseElf(object).symbols.find(({ name }) => name === 'settings_of_test')
  assert.deepEqual(symbol, { name: 'settings_of_test', section: '.rodata', offset: 0, size: 32 })
})

test('btf: bytes that are no object, no BTF or cut off are refused', { skip: skipWithoutClang }, () => {
  assert.throws(() => parseElf(new Uint8Array(10)), /Cannot read ELF: no ELF header in 10 bytes/)
  assert.throws(
    () => parseBtf(new Uint8Array(30)),
    /Cannot read BTF: no little-endian BTF header in 30 bytes/,
  )
  const object = compileBpf(SOURCE)
  const section = parseElf(object).sections.find(({ name }) => name === '.BTF')
  assert.ok(section)
  assert.throws(() => parseBtf(section.bytes.subarray(0, 100)), /Cannot read BTF/)
  const foreign = Buffer.from(object)
  foreign[5] = 2 // big-endian
  assert.throws(() => parseElf(foreign), /data 2: expected 2 \(64-bit\), 1 \(little-endian\)/)
})
