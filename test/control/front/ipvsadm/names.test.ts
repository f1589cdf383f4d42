import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { namesFrom, systemNames } from '../../../../control/front/ipvsadm/names.ts'
import type { Resolver } from '../../../../control/front/ipvsadm/resolver.ts'
import { runIpvsadm, STDIN_WANTED } from '../../../../control/front/ipvsadm/run.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { parseAddress } from '../../../../net/address.ts'

const HOSTS = `# comment
127.0.0.1\tlocalhost
::1 localhost ip6-localhost
10.0.0.1 First.example first # trailing comment
10.0.0.2 first.example
::ffff:10.0.0.3 mapped.example
2001:db8::5 six.example
not-an-address broken.example
10.0.0.4
`
const SERVICES = `http 80/tcp www # WorldWideWeb
http 80/sctp
domain 53/tcp
domain\t53/udp
alias-first 8080/tcp
other 8080/tcp
nonsense
bad x/tcp
`

const names = namesFrom(HOSTS, SERVICES)
const address = (text: string) => parseAddress(text)!

test('a host name is its first IPv4 address, in any case', () => {
  assert.equal(names.hostAddress('FIRST.EXAMPLE'), '10.0.0.1')
  assert.equal(names.hostAddress('first'), '10.0.0.1')
})

test('IPv6 lines count for IPv4 where they are loopback or mapped, as in glibc', () => {
  assert.equal(names.hostAddress('ip6-localhost'), '127.0.0.1')
  assert.equal(names.hostAddress('mapped.example'), '10.0.0.3')
  assert.equal(names.hostAddress('six.example'), null)
})

test('an address has the first name of its first line', () => {
  assert.equal(names.hostName(address('10.0.0.1')), 'First.example')
  assert.equal(names.hostName(address('2001:db8::5')), 'six.example')
  assert.equal(names.hostName(address('10.0.0.4')), null)
})

test('service names and aliases belong to a protocol', () => {
  assert.equal(names.servicePort('www', 'tcp'), 80)
  assert.equal(names.servicePort('www', 'udp'), null)
  assert.equal(names.serviceName(53, 'udp'), 'domain')
  assert.equal(names.serviceName(8080, 'tcp'), 'alias-first')
  assert.equal(names.serviceName(9, 'tcp'), null)
})

test('changed files are read again', () => {
  const dir = mkdtempSync(join(tmpdir(), 'pointsman-names-'))
  try {
    const hosts = join(dir, 'hosts')
    const current = systemNames({ hosts, services: join(dir, 'services'), resolver: null })
    assert.equal(current().hostAddress('a'), null)
    writeFileSync(hosts, '10.0.0.1 a\n')
    assert.equal(current().hostAddress('a'), '10.0.0.1')
    writeFileSync(hosts, '10.0.0.22 a\n')
    assert.equal(current().hostAddress('a'), '10.0.0.22')
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('names the files do not know are asked for once, without holding anything up', async () => {
  const asked: string[] = []
  const resolver: Resolver = {
    async address(name) {
      asked.push(name)
      return name === 'far.example' ? address('10.9.9.9') : null
    },
    async name(of) {
      asked.push(of)
      return of === '10.9.9.9' ? 'far.example' : null
    },
    cancel() {},
  }
  const director = createDirector({ host: fixedHost() })
  const run = async (line: string, stdin = ''): Promise<string> => {
    const argv = ['ipvsadm', ...line.split(' ')]
    const result = await runIpvsadm({
      argv,
      stdin,
      director,
      names: () => namesFrom(HOSTS, SERVICES, resolver),
    })
    assert.notEqual(result, STDIN_WANTED)
    const { status, stdout, stderr } = result as Exclude<typeof result, string>
    return `${status} ${stdout}${stderr}`
  }
  assert.equal(await run('-A -t far.example:80 -s rr'), '0 ')
  assert.equal(await run('-R', '-A -t far.example:81 -s rr\n-a -t far.example:81 -r far.example -m\n'), '0 ')
  assert.equal(await run('-A -t nowhere.example:80'), '2 illegal virtual server address[:port] specified\n')
  assert.deepEqual(asked, ['far.example', 'far.example', 'nowhere.example'])
  asked.length = 0
  assert.equal(
    await run('-S'),
    '0 -A -t far.example:http -s rr\n-A -t far.example:81 -s rr\n-a -t far.example:81 -r far.example:81 -m -w 1\n',
  )
  assert.deepEqual(asked, ['10.9.9.9'])
  assert.match(await run('-Sn'), /10\.9\.9\.9:80/)
  assert.deepEqual(asked, ['10.9.9.9'])
})
