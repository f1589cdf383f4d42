/** Persistence on both planes: which real server a client comes back to, and how long. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  ConnKind,
  ConnRecord,
  ConnStatus,
  LiveRecord,
  PM_CONN_KIND_MASK,
  PM_CONN_STATUS,
  PM_CONTROL_OPEN,
} from '../../dataplane/layout/layout.gen.ts'
import { missingPrivilege } from '../conformance/vector-tests.ts'
import { Bench } from './bench.ts'
import { ip, type Segment, tcp, udp } from './frame.ts'
import { openedProgram } from './opened.ts'
import { openKernelProgram, openWasmProgram, type Program } from './programs.ts'
import { CLIENT4, ENDS, fromClient, fromServer, RS4, RS6, VIP4 } from './scenes.ts'

const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address)
const syn = (sport: number, dport = 80): Segment => tcp({ sport, dport, flags: 'S' })

/** A service with persistence, and its real servers by their order in the bench; last first in IPVS's list. */
function rules(at: string, options: string, servers: readonly string[], method = '-g'): string[] {
  return [
    `ipvsadm -A ${at} -s rr ${options}`.trimEnd(),
    ...servers.map((server) => `ipvsadm -a ${at} -r ${server} ${method}`),
  ]
}

function three(family: Family, options = '-p 300', port = 80, method = '-g'): string[] {
  const reals = family === 4 ? RS4 : RS6
  return rules(
    `-t ${bracket(ENDS[family].vip)}:${port}`,
    options,
    reals.map((real) => `${bracket(real)}:${port}`),
    method,
  )
}

interface Line {
  readonly family: Family
  readonly index: number
  readonly kind: number
  readonly base: number
}

function questions(open: () => Promise<Program>, skip: string | false): void {
  const it = openedProgram(open, skip)

  /** Number of the real server that a packet of this client goes to, from 0; or the verdict. */
  function from(
    client: string,
    segment: Segment,
    vip = client.includes(':') ? ENDS[6].vip : VIP4,
  ): number | string {
    const { verdict, frame } = it().send('c', fromClient(ip({ src: client, dst: vip, ttl: 64 }, segment)))
    return verdict.startsWith('forward_') ? (frame[5] ?? 0) - 0x11 : verdict
  }

  function lines(): Line[] {
    return FAMILIES.flatMap((family) => {
      const map = it().dataplane.map(family === 4 ? 'connections4' : 'connections6')
      return Array.from({ length: map.entries }, (_, index) => index)
        .filter((index) => ((map.u32[(index * map.entrySize) / 4] ?? 0) & PM_CONN_STATUS) === ConnStatus.Live)
        .map((index) => {
          const base = index * map.entrySize
          return { family, index, base, kind: ConnRecord.getTraits(map.view, base) & PM_CONN_KIND_MASK }
        })
    })
  }

  /** Lets the time of these lines go by, to one second before its end and `beyond` seconds further. */
  function expire(kinds: readonly number[], beyond = 2): void {
    const ticks = Math.round((beyond * 1e9) / 2 ** 23)
    for (const { family, base, kind } of lines()) {
      const { view } = it().dataplane.map(family === 4 ? 'connections4' : 'connections6')
      if (kinds.includes(kind)) ConnRecord.setExpires(view, base, (it().dataplane.nowTicks() - ticks) >>> 0)
    }
  }

  /** Rows of `ipvsadm -Lnc` without their time, sorted. */
  async function listed(): Promise<string[]> {
    const rows = (await it().run('ipvsadm -Lnc')).trimEnd().split('\n').slice(2)
    return rows.map((row) => row.replace(/^(\w+) \d+:\d\d */, '$1 ').replace(/\s+/g, ' ')).sort()
  }

  /** What is counted of templates, by two ways. */
  function templates(): { readonly counted: number; readonly met: number; readonly controlled: number } {
    const live = it().dataplane.map('live')
    let counted = 0
    for (let base = 0; base < live.bytes.length; base += live.entrySize) {
      counted += LiveRecord.getPersistent(live.view, base)
    }
    const met = lines().filter(({ kind }) => kind === ConnKind.Template)
    let controlled = 0
    for (const { family, index } of met) {
      const word = it().dataplane.map(family === 4 ? 'controls4' : 'controls6').u32[index] ?? 0
      assert.notEqual(word & PM_CONTROL_OPEN, 0, 'a live template is open')
      controlled += word & ~PM_CONTROL_OPEN
    }
    return { counted, met: met.length, controlled }
  }

  /** Connections first, then templates: nothing is left. */
  async function end(): Promise<void> {
    for (const kind of [ConnKind.In, ConnKind.Template]) {
      expire([kind, ConnKind.Reply])
      await it().run('ipvsadm -L')
    }
    assert.deepEqual(templates(), { counted: 0, met: 0, controlled: 0 })
    assert.deepEqual(lines(), [])
  }

  const CLIENTS = {
    4: ['198.51.100.6', '198.51.100.7', '203.0.113.1'],
    6: ['2001:db8:c::6', '2001:db8:c::7', '2001:db9::1'],
  } as const

  for (const family of FAMILIES) {
    const [one, two, far] = CLIENTS[family]

    test(`IPv${family}: a client keeps its real server`, { skip }, async () => {
      await it().load(three(family))
      assert.deepEqual(
        [from(one, syn(1)), from(one, syn(2)), from(two, syn(1)), from(two, syn(2)), from(one, syn(3))],
        [2, 2, 1, 1, 2],
      )
      assert.deepEqual(templates(), { counted: 2, met: 2, controlled: 5 })
    })

    test(`IPv${family}: clients under one mask share a real server`, { skip }, async () => {
      await it().load(three(family, family === 4 ? '-p 300 -M 255.255.255.0' : '-p 300 -M 48'))
      assert.deepEqual([from(one, syn(1)), from(two, syn(1)), from(far, syn(1))], [2, 2, 1])
      await it().load(three(family, family === 4 ? '-p 300 -M 255.255.255.254' : '-p 300 -M 127'))
      const next = family === 4 ? '198.51.100.8' : '2001:db8:c::8'
      assert.deepEqual([from(one, syn(1)), from(two, syn(1)), from(next, syn(1))], [2, 2, 1])
    })

    test(`IPv${family}: a template lasts as long as its connections`, { skip }, async () => {
      await it().load(three(family))
      assert.equal(from(one, syn(1)), 2)
      expire([ConnKind.Template])
      await it().run('ipvsadm -L')
      assert.deepEqual(templates(), { counted: 1, met: 1, controlled: 1 })
      assert.equal(from(one, syn(2)), 2, 'found before and after')
      expire([ConnKind.In])
      await it().run('ipvsadm -L')
      assert.deepEqual(templates(), { counted: 1, met: 1, controlled: 0 })
      expire([ConnKind.Template])
      assert.equal(from(one, syn(3)), 1, 'its packet sees that the time is over')
      await end()
    })

    test(`IPv${family}: a template that was prolonged stays for a minute from then on`, {
      skip,
    }, async () => {
      await it().load(three(family))
      const left = async (): Promise<number> => {
        const [, , ...rows] = (await it().run('ipvsadm -Lnc')).trimEnd().split('\n')
        const [, time = ''] = rows.find((row) => row.includes(' NONE '))?.split(/ +/) ?? []
        const [minutes = 0, seconds = 0] = time.split(':').map(Number)
        return minutes * 60 + seconds
      }
      from(one, syn(1))
      assert.ok((await left()) > 240)
      expire([ConnKind.Template])
      await it().run('ipvsadm -L')
      const prolonged = await left()
      assert.ok(prolonged > 30 && prolonged <= 60, `${prolonged}`)
      from(one, syn(2))
      const again = await left()
      assert.ok(again > 30 && again <= 60, `${again}`)
    })

    test(`IPv${family}: port 0 is all ports, each at the same port of the real server`, {
      skip,
    }, async () => {
      await it().load(three(family, '-p 300', 0, '-m'))
      assert.deepEqual([from(one, syn(1, 80)), from(one, syn(1, 443)), from(two, syn(1, 22))], [2, 2, 1])
      const rows = (await listed()).filter((row) => row.includes(`${bracket(one)}:0 `))
      assert.equal(rows.length, 1)
      assert.match(rows[0] ?? '', /^TCP NONE .*:0 .*:0 .*:0$/)
      const answer = fromServer(
        ip(
          { src: (family === 4 ? RS4 : RS6)[2], dst: one, ttl: 64 },
          tcp({ sport: 443, dport: 1, flags: 'SA' }),
        ),
        2,
      )
      assert.equal(it().send('r', answer).verdict, 'forward_nat_reply')
    })
  }

  test('a template becomes assured by an established connection, or by an answer', { skip }, async () => {
    await it().load([
      ...three(4, '-p 300', 80, '-g'),
      ...rules(`-u ${VIP4}:53`, '-p 300', [`${RS4[0]}:5353`], '-m'),
    ])
    const states = async (): Promise<string[]> =>
      (await listed())
        .filter((row) => row.includes(`${CLIENT4}:0 `))
        .map((row) => row.split(' ').slice(0, 2).join(' '))
    from(CLIENT4, syn(1))
    from(CLIENT4, udp({ sport: 7, dport: 53 }, 'question'))
    assert.deepEqual(await states(), ['TCP NONE', 'UDP NONE'])
    from(CLIENT4, tcp({ sport: 1, dport: 80, flags: 'A' }))
    assert.deepEqual(await states(), ['TCP ASSURED', 'UDP NONE'])
    it().send(
      'r',
      fromServer(ip({ src: RS4[0], dst: CLIENT4, ttl: 64 }, udp({ sport: 5353, dport: 7 }, 'answer')), 0),
    )
    assert.deepEqual(await states(), ['TCP ASSURED', 'UDP ASSURED'])
  })

  test('a template whose real server has left lapses, and is listed until its end', { skip }, async () => {
    await it().load(three(4))
    assert.equal(from(CLIENT4, syn(1)), 2)
    await it().run(`ipvsadm -d -t ${VIP4}:80 -r ${RS4[2]}:80`)
    assert.equal(from(CLIENT4, syn(2)), 1)
    assert.deepEqual(await listed(), [
      `TCP NONE ${CLIENT4}:0 ${VIP4}:65535 ${RS4[2]}:65535`,
      `TCP NONE ${CLIENT4}:0 ${VIP4}:80 ${RS4[1]}:80`,
      `TCP SYN_RECV ${CLIENT4}:1 ${VIP4}:80 ${RS4[2]}:80`,
      `TCP SYN_RECV ${CLIENT4}:2 ${VIP4}:80 ${RS4[1]}:80`,
    ])
    await it().run(`ipvsadm -a -t ${VIP4}:80 -r ${RS4[2]}:80 -g`)
    assert.equal(from(CLIENT4, syn(3)), 1, 'it stays where it is now')
    await end()
  })

  test('weight 0 keeps a persistent client, unless expire_quiescent_template is set', { skip }, async () => {
    for (const [setting, wanted] of [
      ['expire_quiescent_template=0', 2],
      ['expire_quiescent_template=1', 1],
    ] as const) {
      await it().load([setting, ...three(4)])
      assert.equal(from(CLIENT4, syn(1)), 2)
      await it().run(`ipvsadm -e -t ${VIP4}:80 -r ${RS4[2]}:80 -g -w 0`)
      assert.equal(from(CLIENT4, syn(2)), wanted, setting)
      assert.equal(from(CLIENT4, syn(1)), 2, 'a connection goes on where it is')
    }
  })

  test('a threshold does not turn persistent clients away', { skip }, async () => {
    await it().load(rules(`-t ${VIP4}:80`, '-p 300', [`${RS4[0]}:80`, `${RS4[1]}:80 -x 1`]))
    assert.deepEqual(
      [1, 2, 3].map((port) => from(CLIENT4, syn(port))),
      [1, 1, 1],
    )
    assert.equal(from('198.51.100.8', syn(1)), 0)
  })

  test('without a real server a new client is told, and gets no template', { skip }, async () => {
    await it().load(rules(`-t ${VIP4}:80`, '-p 300', [`${RS4[0]}:80 -w 0`]))
    assert.equal(from(CLIENT4, syn(1)), 'answer_port_unreachable')
    assert.deepEqual(templates(), { counted: 0, met: 0, controlled: 0 })
  })

  test('FTP: data connections follow the control connection, other ports do not', { skip }, async () => {
    await it().load(three(4, '-p 300', 21))
    assert.deepEqual(
      [
        from(CLIENT4, syn(1, 21)),
        from(CLIENT4, syn(2, 40000)),
        from(CLIENT4, syn(3, 20)),
        from(CLIENT4, syn(4, 80)),
      ],
      [2, 2, 2, 'pass_no_service'],
    )
    assert.equal(from('198.51.100.8', syn(1, 40000)), 1, 'data first')
    await it().load(three(4, '', 21))
    assert.equal(from(CLIENT4, syn(2, 40000)), 'pass_ftp_data', 'without persistence it is the stack’s')
  })

  test('FTP by NAT: the answers of data connections are translated', { skip }, async () => {
    await it().load(three(4, '-p 300', 21, '-m'))
    assert.equal(from(CLIENT4, syn(2, 40000)), 2)
    const answer = ip({ src: RS4[2], dst: CLIENT4, ttl: 64 }, tcp({ sport: 40000, dport: 2, flags: 'SA' }))
    assert.equal(it().send('r', fromServer(answer, 2)).verdict, 'forward_nat_reply')
  })

  test('a closed connection of a persistent client is taken up again, not made anew', { skip }, async () => {
    await it().load(['conn_reuse_mode=1', ...three(4)])
    for (const flags of ['S', 'A', 'R', 'S'])
      assert.equal(from(CLIENT4, tcp({ sport: 1, dport: 80, flags })), 2)
    assert.deepEqual(templates(), { counted: 1, met: 1, controlled: 1 })
  })

  test('datagrams that are scheduled one by one have a template and no connection', { skip }, async () => {
    await it().load(rules(`-u ${VIP4}:53`, '-p 300 -o', [`${RS4[0]}:53`, `${RS4[1]}:53`]))
    const ask = (sport: number): number | string => from(CLIENT4, udp({ sport, dport: 53 }, 'question'))
    assert.deepEqual([ask(1), ask(2), ask(3)], [1, 1, 1])
    assert.deepEqual(templates(), { counted: 1, met: 1, controlled: 0 })
  })

  test('in a full table, templates without a connection give way, and counts stay exact', {
    skip,
  }, async () => {
    await it().load(three(4))
    const refused: string[] = []
    for (let i = 0; i < 5000; i++) {
      const answer = from(`198.51.${100 + (i >> 8)}.${i & 255}`, syn(1024 + (i & 1023)))
      if (typeof answer === 'string') refused.push(answer)
    }
    assert.ok(refused.length < 50, `${refused.length} of 5000 clients were refused`)
    const { counted, met, controlled } = templates()
    assert.equal(counted, met)
    assert.equal(controlled, lines().filter(({ kind }) => kind === ConnKind.In).length)
  })
}

describe('persistence in wasm', () => {
  questions(async () => openWasmProgram(), false)
})

describe('persistence in the kernel', () => {
  questions(
    async () => await openKernelProgram(new Bench(`pmpp${process.pid % 100_000}`)),
    missingPrivilege() ?? false,
  )
})
