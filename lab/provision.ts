/**
 * Sets this machine up as one host of the lab: `provision.ts HOST`, as root. Run by the Vagrantfile in
 * every virtual machine at every boot; never in namespaces, which `network.ts` makes.
 *
 * The links are found by the MAC addresses of topology.json and get the names the namespaces use, so
 * that every command of the documentation holds in both.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { labProcess, labPrograms } from './built.ts'
import { must, run } from './command.ts'
import { executable } from './director.ts'
import { linksAndAddressesOf, natReturnRoutes, offloadsOff, parametersOf, wiresOf } from './host-network.ts'
import { ipBatch } from './namespace.ts'
import { serverSettings } from './server-settings.ts'
import { type Host, hostNamed, topology } from './topology.ts'

function deviceWithMac(mac: string): string {
  const device = readdirSync('/sys/class/net').find(
    (name) => readFileSync(`/sys/class/net/${name}/address`, 'utf8').trim() === mac,
  )
  if (device === undefined) throw new Error(`No network interface has the MAC address ${mac}`)
  return device
}

async function nameLinks(host: Host): Promise<string[]> {
  const names: string[] = []
  for (const wire of wiresOf(host)) {
    const name = topology.wires[wire].interface
    const device = deviceWithMac(host[wire]?.mac ?? '')
    const rename = device === name ? [] : [`link set ${device} name ${name}`]
    await ipBatch(null, [`link set ${device} down`, ...rename, `addr flush dev ${name}`])
    names.push(name)
  }
  return names
}

async function configure(host: Host): Promise<void> {
  const parameters = Object.entries(parametersOf(host)).map(
    ([path, value]) => `echo '${value}' > '/proc/sys/net/${path}'`,
  )
  await must(['sh', '-e', '-s'], { input: parameters.join('\n') })
  const devices = await nameLinks(host)
  // Not every virtual card lets every feature be switched.
  for (const device of devices) await run(['sh', '-c', offloadsOff(device)])
  await run(['sh', '-c', 'ip -4 addr flush dev lo scope global; ip -6 addr flush dev lo scope global'])
  await ipBatch(null, [...linksAndAddressesOf(host), ...devices.map((device) => `link set ${device} up`)])
  for (const family of ['ipv4', 'ipv6'] as const) {
    const option = family === 'ipv4' ? '-4' : '-6'
    if (host.servers !== undefined) await run(['ip', option, 'rule', 'del', 'from', host.servers[family]])
    await ipBatch(null, natReturnRoutes(host, family), [option])
  }
}

/** Runs a command as a service of systemd, instead of an earlier one of that name. */
async function serve(unit: string, argv: readonly string[]): Promise<void> {
  await run(['systemctl', 'stop', `${unit}.service`])
  await must(['systemd-run', '--quiet', '--collect', `--unit=${unit}`, '--', ...argv])
}

async function main(name: string): Promise<void> {
  const host = hostNamed(name)
  await configure(host)
  switch (host.role) {
    case 'client':
      break
    case 'director':
      await serve('pointsmand', [
        executable('pointsmand'),
        ...wiresOf(host).flatMap((wire) => ['--interface', topology.wires[wire].interface]),
      ])
      break
    case 'real-server':
      // Generic: every driver has it, and speed is not the point of a real server here.
      await run(['ip', 'link', 'set', topology.wires.servers.interface, 'xdpgeneric', 'off'])
      await ipBatch(null, [
        `link set ${topology.wires.servers.interface} xdpgeneric object ${labPrograms()} program decap`,
      ])
      await serve('lab-server', labProcess('server', [JSON.stringify(serverSettings(name))]))
      break
    default:
      host.role satisfies never
  }
  console.log(`${name} is set up as ${host.role}`)
}

await main(process.argv[2] ?? '')
