/** Random command lines, mostly sensible, made from the grammar's own tables. */

import {
  type OPTION_NAMES,
  OWN_SPELLINGS,
  SPELLINGS,
  type Spelling,
} from '../../../../control/front/ipvsadm/grammar.ts'
import fc from '../../../property.ts'

const oddAddresses = fc.constantFrom(
  '10.0.0.1:80',
  '10.0.0.2:0',
  '10.0.0.3',
  '10.1:81',
  '0x0a000001:http',
  '010.0.0.1:53',
  '192.0.2.7:65535',
  '192.0.2.7:65536',
  '[2001:db8::1]:80',
  '[2001:db8::1]',
  '2001:DB8::0:2',
  '[::ffff:10.0.0.1]:8080',
  '[10.0.0.1]:80',
  '[10.0.0.1:5]:80',
  'localhost:domain',
  'localhost',
  'nosuch.invalid:80',
  '10.0.0.1:nosuch',
  '10.0.0.1:tftp',
  '10.0.0.1:',
  ':80',
  '',
  '80',
  '1.2.3.4 x:5',
  '1.2.3.4.5:6',
  '::1%lo',
  ':::80',
  '[]:80',
  '[::1]x80',
  '1.2.3.256:80',
)
const addresses = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom('10.0.0.1:80', '10.0.0.2:53', '[2001:db8::1]:80', '192.0.2.7:8080'),
  },
  { weight: 2, arbitrary: oddAddresses },
)
const numbers = fc.oneof(
  fc.constantFrom(
    '0',
    '1',
    '5',
    '+7',
    ' 8',
    '-1',
    '-0',
    '010',
    '0x10',
    '1x',
    '',
    '1.5',
    '255',
    '256',
    '65507',
    '65508',
    '65535',
    '65536',
    '360',
    '2678400',
    '2678401',
    '2147483647',
    '2147483648',
    '4294967295',
    '4294967296',
    '18446744073709551616',
    '9 ',
    '=5',
  ),
  fc.integer({ min: 1, max: 255 }).map(String),
  fc.integer({ min: 0, max: 70000 }).map(String),
)
const masks = fc.constantFrom(
  '255.255.255.0',
  '0.0.0.0',
  '24',
  '64',
  '0',
  '128',
  '129',
  '64x',
  '',
  '/24',
  '255.255.255.255.0',
  '4294967360',
)
const schedulers = fc.constantFrom(
  'rr',
  'wrr',
  'wlc',
  'sh',
  'mh',
  'none',
  'lblcr',
  'twos',
  'RR',
  '',
  'shh',
  'abcdefghijklmnopqrst',
  'r\xe9',
)
const flags = fc.constantFrom(
  'flag-1',
  'flag-2,flag-3',
  'sh-port',
  'sh-fallback,sh-port',
  'mh-port',
  'mh-fallback,sh-port',
  'bogus',
  '',
  'flag-1,',
  'flag-1,,flag-2',
  'flag-1 ',
)
const states = fc.constantFrom('master', 'backup', 'master', 'backup', 'master', 'backup', 'slave', '')

/** What an option's argument may look like, by what reads it. */
const ARGUMENTS: Readonly<Record<string, fc.Arbitrary<string>>> = {
  service: addresses,
  server: addresses,
  fwmark: numbers,
  scheduler: schedulers,
  persistent: numbers,
  netmask: masks,
  interface: fc.constantFrom('eth0', 'nosuch0', '', 'abcdefghijklmnopqrst'),
  engine: fc.constantFrom('sip', '', 'SIP', 'abcdefghijklmnopqrst'),
  schedulerFlags: flags,
  group: fc.constantFrom('224.0.0.5', '10.0.0.1', 'ff02::5', '2001:db8::1', '', 'abc', '239.1', ':'),
  tunnelType: fc.constantFrom('ipip', 'gue', 'gre', 'GUE', '', 'vxlan'),
}

function argumentFor(spelling: Spelling): fc.Arbitrary<string> {
  if (spelling.role.kind === 'command') return states
  return (spelling.role.kind === 'option' && ARGUMENTS[spelling.role.reader ?? '']) || numbers
}

/** The ways to type one option. */
function typed(spelling: Spelling): fc.Arbitrary<string[]> {
  const { long, short } = spelling
  if (spelling.argument === 'none') {
    const forms: string[][] = [[`--${long}`], ...(short === undefined ? [] : [[`-${short}`]])]
    return fc.oneof(
      { weight: 30, arbitrary: fc.constantFrom(...forms) },
      fc.constant<string[]>([`--${long}=1`]),
    )
  }
  return argumentFor(spelling).chain((argument) => {
    const forms: string[][] = [
      [`--${long}`, argument],
      [`--${long}=${argument}`],
      ...(short === undefined
        ? []
        : [[`-${short}`, argument], [`-${short}${argument}`], [`-${short}=${argument}`]]),
      ...(spelling.argument === 'optional' ? [[`--${long}`], [`-${short}`]] : []),
    ]
    return fc.oneof(
      { weight: 30, arbitrary: fc.constantFrom(...forms) },
      fc.constant<string[]>([`--${long}`]),
    )
  })
}

const commands = SPELLINGS.filter((row) => row.role.kind === 'command')
/** What the original knows, too. */
const others = SPELLINGS.filter((row) => row.role.kind !== 'command' && !OWN_SPELLINGS.includes(row))
const byOption = (...names: (typeof OPTION_NAMES)[number][]): Spelling[] =>
  others.filter((row) => row.role.kind === 'option' && names.includes(row.role.option))

const anyOption = fc.constantFrom(...others).chain(typed)
/** A cluster of short options, as `-Ln`. */
const cluster = fc
  .array(fc.constantFrom(...others.flatMap((row) => row.short ?? [])), { minLength: 1, maxLength: 3 })
  .map((letters) => [`-${letters.join('')}`])
const oddWord = fc.constantFrom(
  ['foo'],
  ['-'],
  ['--'],
  [''],
  ['--bogus'],
  ['-q'],
  ['---'],
  ['--=1'],
  ['-=1'],
  ['x!#:+', 'y'],
)

/** Options a command asks for, so that many lines get past the first checks. */
function likely(command: Spelling): fc.Arbitrary<string[][]> {
  if (command.role.kind !== 'command') return fc.constant([])
  const service = fc.constantFrom(...byOption('service-address')).chain(typed)
  const server = fc.constantFrom(...byOption('real-server')).chain(typed)
  const some = (...names: (typeof OPTION_NAMES)[number][]) =>
    fc.array(fc.constantFrom(...byOption(...names)).chain(typed), { maxLength: 3 })
  switch (command.role.command) {
    case 'add-service':
    case 'edit-service':
      return fc
        .tuple(service, some('scheduler', 'persistent', 'netmask', 'ops', 'pe', 'sched-flags'))
        .map(([first, rest]) => [first, ...rest])
    case 'add-server':
    case 'edit-server':
      return fc
        .tuple(
          service,
          server,
          some('forwarding-method', 'weight', 'u-threshold', 'l-threshold'),
          some('tun-type', 'tun-port', 'tun-nocsum', 'tun-csum', 'tun-remcsum'),
        )
        .map(([first, second, rest, tunnel]) => [first, second, ...rest, ...tunnel])
    case 'delete-server':
      return fc.tuple(service, server)
    case 'delete-service':
    case 'zero':
      return fc.tuple(service)
    case 'start-daemon':
    case 'stop-daemon':
      return some('syncid', 'mcast-interface', 'mcast-group', 'mcast-port', 'mcast-ttl', 'sync-maxlen')
    case 'list':
      return some(
        'numeric',
        'connection',
        'timeout',
        'daemon',
        'stats',
        'rate',
        'thresholds',
        'persistent-conn',
        'exact',
        'nosort',
        'tun-info',
      )
    case 'set':
      return fc.array(
        numbers.map((value) => [value]),
        { minLength: 2, maxLength: 4 },
      )
    default:
      return some('numeric')
  }
}

/** Arguments of an ipvsadm command line, without the program's name. */
export const commandLine: fc.Arbitrary<string[]> = fc
  .constantFrom(...commands)
  .chain((command) =>
    fc.tuple(
      typed(command),
      likely(command),
      fc.array(fc.oneof({ weight: 4, arbitrary: anyOption }, cluster, oddWord), { maxLength: 2 }),
      fc.integer({ min: 0, max: 9 }),
      fc.boolean(),
    ),
  )
  .chain(([first, wanted, noise, dice, quiet]) => {
    const rest = [...wanted, ...(quiet ? [] : noise)]
    // Options in any order; now and then even before the command.
    return fc
      .shuffledSubarray(rest, { minLength: Math.max(0, rest.length - (dice === 0 ? 2 : 0)) })
      .map((parts) => {
        const words =
          dice === 1 && parts.length > 0 ? [parts[0]!, first, ...parts.slice(1)] : [first, ...parts]
        return words.flat()
      })
  })

/** Lines of a restore, some of them strange. */
export const restoreInput: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: commandLine.map((words) => words.join(' ')) },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          '',
          '   ',
          '\t',
          '# comment',
          'ipvsadm',
          'ipvsadm -C',
          '-C\r',
          '-Z ipvsadm',
          '\0',
          '-L',
          '-S -n',
          '-R',
          '-v',
        ),
      },
    ),
    { maxLength: 5 },
  )
  .chain((lines) => fc.constantFrom('', '\n').map((end) => lines.join('\n') + end))
