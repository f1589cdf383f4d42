import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { btfOfElf } from '../../../dataplane/layout/btf.ts'
import {
  Conn4Record,
  Conn6Record,
  ConnRecord,
  ConnStatus,
  CountersRecord,
  FibRecord,
  InterfaceRecord,
  JobRecord,
  LimitsRecord,
  LiveRecord,
  LocalBucketRecord,
  MAP_NAMES,
  MAPS,
  MemberRecord,
  PM_NONE,
  PM_TICK_SHIFT,
  PM_VERDICT_MAX,
  RECORD_LAYOUTS,
  RealRecord,
  ScheduleRecord,
  ServiceBucketRecord,
  ServiceFlag,
  ServiceRecord,
  SettingsRecord,
  TcpState,
  tcpStateNames,
  Verdict,
  verdictNames,
} from '../../../dataplane/layout/layout.gen.ts'
import { isPadding, LayoutError, SCALAR_SIZE } from '../../../dataplane/layout/record.ts'
import { layoutSource } from '../../../scripts/layout-source.ts'
import { Random } from '../../differential/random.ts'
import { SEED } from '../../property.ts'
import { compileBpf, skipWithoutClang } from '../compile-bpf.ts'

interface Codec<T> {
  readonly size: number
  read(view: DataView, base: number): T
  write(view: DataView, base: number, value: T): void
}

const random = new Random(SEED)

/** Decodes random bytes at an odd place and encodes them again. */
function assertRoundTrip<T>(cName: string, codec: Codec<T>): void {
  const layout = RECORD_LAYOUTS.find(({ name }) => name === cName)
  assert.ok(layout, cName)
  assert.equal(codec.size, layout.size, cName)
  const base = 3
  const before = random.bytes(base + codec.size + 5)
  const bytes = random.bytes(before.length)
  const want = new Uint8Array(bytes)
  want.set(before.subarray(base, base + codec.size), base)
  for (const field of layout.fields.filter(isPadding)) {
    const size = typeof field.type === 'string' ? SCALAR_SIZE[field.type] : 0
    want.fill(0, base + field.offset, base + field.offset + size * (field.count ?? 1))
  }
  codec.write(new DataView(bytes.buffer), base, codec.read(new DataView(before.buffer), base))
  assert.deepEqual(Buffer.from(bytes).toString('hex'), Buffer.from(want).toString('hex'), cName)
}

test('layout: what a codec decodes it encodes again, padding as zero, and nothing around it', () => {
  for (let run = 0; run < 50; run++) {
    assertRoundTrip('pm_settings', SettingsRecord)
    assertRoundTrip('pm_interface', InterfaceRecord)
    assertRoundTrip('pm_service', ServiceRecord)
    assertRoundTrip('pm_schedule', ScheduleRecord)
    assertRoundTrip('pm_member', MemberRecord)
    assertRoundTrip('pm_real', RealRecord)
    assertRoundTrip('pm_live', LiveRecord)
    assertRoundTrip('pm_counters', CountersRecord)
    assertRoundTrip('pm_service_bucket', ServiceBucketRecord)
    assertRoundTrip('pm_local_bucket', LocalBucketRecord)
    assertRoundTrip('pm_conn', ConnRecord)
    assertRoundTrip('pm_conn4', Conn4Record)
    assertRoundTrip('pm_conn6', Conn6Record)
    assertRoundTrip('pm_limits', LimitsRecord)
    assertRoundTrip('pm_job', JobRecord)
    assertRoundTrip('pm_fib', FibRecord)
  }
})

test('layout: wire fields are big-endian numbers, host fields little-endian, byte by byte', () => {
  const bytes = new Uint8Array(ServiceRecord.size).fill(0xee)
  const view = new DataView(bytes.buffer)
  ServiceRecord.write(view, 0, {
    ...ServiceRecord.read(new DataView(new ArrayBuffer(ServiceRecord.size)), 0),
    slot: 1,
    family: 4,
    protocol: 6,
    port: 80,
    addr: Uint8Array.of(192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    netmask: 0xffffff00,
  })
  assert.equal(
    Buffer.from(bytes.subarray(0, 24)).toString('hex'),
    ['01000000', '04', '06', '0050', 'c000020a', '000000000000000000000000'].join(''),
  )
  assert.equal(ServiceRecord.getPort(view, 0), 80)
  assert.equal(ServiceRecord.getNetmask(view, 0), 0xffffff00)
  ServiceRecord.setPort(view, 0, 0x1f90)
  assert.equal(Buffer.from(bytes.subarray(6, 8)).toString('hex'), '1f90')

  const bucket = new Uint8Array(ServiceBucketRecord.size)
  ServiceBucketRecord.setEntry(new DataView(bucket.buffer), 0, 1, 0x0000000212345679n)
  assert.equal(Buffer.from(bucket.subarray(8, 16)).toString('hex'), '7956341202000000')

  const member = new Uint8Array(MemberRecord.size)
  MemberRecord.write(new DataView(member.buffer), 0, { real: 5, weight: -1 })
  assert.equal(Buffer.from(member).toString('hex'), '05000000ffffffff')
})

test('layout: a value that does not fit its field is refused by name', () => {
  const view = new DataView(new ArrayBuffer(512))
  const real = RealRecord.read(view, 0)
  assert.throws(
    () => RealRecord.write(view, 0, { ...real, addr: new Uint8Array(4) }),
    /RealRecord.addr is 4 bytes, expected 16/,
  )
  const settings = SettingsRecord.read(view, 0)
  assert.throws(
    () => SettingsRecord.write(view, 0, { ...settings, timeouts: [1] }),
    /SettingsRecord.timeouts has 1 elements, expected 16/,
  )
  assert.throws(() => SettingsRecord.getTimeouts(view, 0, 16), /no element 16, expected 0 to 15/)
})

test('layout: enums keep the numbers of types.h, with names for people', () => {
  assert.equal(Verdict.PassNotIp, 1)
  assert.equal(verdictNames[1], 'pass_not_ip')
  assert.equal(Verdict.ForwardNatReply, 33)
  assert.equal(TcpState.Established, 1)
  assert.equal(tcpStateNames[TcpState.SynSent], 'syn_sent')
  assert.equal(ServiceFlag.Sched1, 8)
  assert.equal(ConnStatus.Live, 3)
  assert.equal(PM_NONE, 0xffffffff)
  assert.equal(PM_TICK_SHIFT, 23)
  assert.equal(PM_VERDICT_MAX, 128)
  assert.ok(!('Max' in Verdict), 'a limit is no verdict')
  const numbers = Object.values(Verdict)
  assert.equal(new Set(numbers).size, numbers.length)
})

test('layout: the table of maps follows maps.h', () => {
  const header = readFileSync(new URL('../../../bpf/maps.h', import.meta.url), 'utf8')
  assert.deepEqual(
    [...header.matchAll(/MAP\((\w+),/g)].map((match) => match[1]),
    MAP_NAMES,
  )
  MAP_NAMES.forEach((name, index) => {
    assert.equal(MAPS[name].index, index)
    assert.equal(MAPS[name].entrySize % 8, 0, name)
  })
  assert.equal(MAPS.connections4.entrySize, 32, 'a set is two cache lines')
  assert.equal(MAPS.connections6.entrySize, 64, 'one cache line')
})

// ---- the generator's refusals

const TYPES = `typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
`
const MAPS_H = '#define PM_MAPS(MAP) MAP(things, struct pm_thing, 4)\n'
const PROGRAM = `#include "types.h"
#include "maps.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define DEFINE(name, record, n) struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, n); \\
	__type(key, __u32); __type(value, record); } name SEC(".maps");
PM_MAPS(DEFINE)
`

function generate(types: string, maps = MAPS_H, more = ''): string {
  const headers = { 'types.h': TYPES + types, 'maps.h': maps }
  const btf = btfOfElf(compileBpf(PROGRAM + more, headers))
  return layoutSource({ btf, typesHeader: headers['types.h'], mapsHeader: maps })
}

const refusals: { name: string; types: string; maps?: string; more?: string; want: RegExp }[] = [
  {
    name: 'a bit-field',
    types: 'struct pm_thing {\n __u32 low : 4, high : 28; __u32 rest;\n};',
    want: /^struct pm_thing, field low: is a bit-field/,
  },
  {
    name: 'a hole between fields',
    types: 'struct pm_thing {\n __u8 small; __u32 wide;\n};',
    want: /^struct pm_thing, field wide: a hole of 3 bytes before offset 4/,
  },
  {
    name: 'a hole at the end',
    types: 'struct pm_thing {\n __u64 wide; __u32 word;\n};',
    want: /^struct pm_thing, after its last field: a hole of 4 bytes/,
  },
  {
    name: 'a plain C integer, whose byte order nobody knows',
    types: 'struct pm_thing {\n unsigned int plain; __u32 word;\n};',
    want: /^struct pm_thing, field plain: has unknown type int unsigned int, expected one of __u8/,
  },
  {
    name: 'a foreign typedef',
    types: 'typedef __u64 size_type;\nstruct pm_thing {\n size_type size;\n};',
    want: /^struct pm_thing, field size: has unknown type size_type/,
  },
  {
    name: 'a pointer',
    types: 'struct pm_thing {\n void *pointer;\n};',
    want: /^struct pm_thing, field pointer: has unknown type pointer/,
  },
  {
    name: 'a union',
    types: 'struct pm_thing {\n union { __u32 a; __u32 b; } either; __u32 word;\n};',
    want: /^struct pm_thing, field either: has unknown type union/,
  },
  {
    name: 'an array of arrays',
    types: 'struct pm_thing {\n __u32 grid[2][2];\n};',
    want: /^struct pm_thing, field grid: is an array of arrays/,
  },
  {
    name: 'a record that the array map would space differently',
    types: 'struct pm_thing {\n __u32 a, b, c;\n};',
    want: /^map things: pm_thing is 12 bytes, expected a multiple of 8/,
  },
  {
    name: 'a struct that nothing in the object refers to',
    types: 'struct pm_thing {\n __u64 a;\n};\nstruct pm_lost {\n __u32 a;\n};',
    want: /^struct pm_lost is not in the BTF/,
  },
  {
    name: 'an enum that nothing in the object refers to',
    types: 'struct pm_thing {\n __u64 a;\n};\nenum pm_lost {\n PM_LOST_A = 1,\n};',
    want: /^enum pm_lost is not in the BTF/,
  },
  {
    name: 'a map that the object lacks',
    types: 'struct pm_thing {\n __u64 a;\n};',
    maps: `#define PM_MAPS(MAP) MAP(things, struct pm_thing, 4)\n/* */\n#define OTHER(MAP) MAP(absent, struct pm_thing, 4)\n`,
    want: /^map absent is in maps.h but not in the object's .maps/,
  },
  {
    name: 'two constants that would get one name',
    types: 'struct pm_thing {\n __u64 a;\n};\nenum pm_kind {\n PM_KIND_A = 1,\n PM_A = 2,\n};',
    more: 'const enum pm_kind *keep;',
    want: /^enum pm_kind: PM_KIND_A and PM_A would both be named A/,
  },
]

for (const { name, types, maps, more, want } of refusals) {
  test(`generator: refuses ${name}`, { skip: skipWithoutClang }, () => {
    assert.throws(
      () => generate(types, maps, more),
      (error) => error instanceof LayoutError && want.test(error.message),
    )
  })
}

test('generator: reads a struct of every kind of field', { skip: skipWithoutClang }, () => {
  const source = generate(
    '#define PM_DEPTH 3u\nstruct pm_part {\n __u16 a; __u16 b[2]; __u16 pad;\n};\nstruct pm_thing {\n struct pm_part part; __u64 wide; __u8 mac[8];\n};',
  )
  assert.match(source, /export const PM_DEPTH = 3$/m)
  assert.match(source, /part: PartRecord\.read\(view, base \+ 0\)/)
  assert.match(source, /wide: view\.getBigUint64\(base \+ 8, true\)/)
  assert.match(source, /mac: copyOf\(view, base \+ 16, 8\)/)
  assert.match(source, /clear\(view, base \+ 6, 2\)/)
  assert.match(source, /things: \{ index: 0, record: 'pm_thing', entrySize: 24, entries: 4 \}/)
})

test('generator: the fingerprint changes with a mapped record, not with others', {
  skip: skipWithoutClang,
}, () => {
  const print = (types: string) =>
    /LAYOUT_FINGERPRINT = '(\w{16})'/.exec(generate(types, MAPS_H, 'struct pm_aside *keep_aside;'))?.[1]
  const base = print('struct pm_thing {\n __u64 a;\n};\nstruct pm_aside {\n __u32 a;\n};')
  assert.ok(base)
  assert.equal(print('struct pm_thing {\n __u64 a;\n};\nstruct pm_aside {\n __u64 a;\n};'), base)
  assert.notEqual(print('struct pm_thing {\n __u64 b;\n};\nstruct pm_aside {\n __u32 a;\n};'), base)
})
