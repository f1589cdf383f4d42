/** Hosts beside those of the lab's description, on its wires: more directors, and a router in front of them. */
import { rmSync } from 'node:fs'
import { labPrograms } from '../../lab/built.ts'
import { must } from '../../lab/command.ts'
import { LabDirector } from '../../lab/director.ts'
import { linksAndAddressesOf, offloadsOff, parametersOf, wiresOf } from '../../lab/host-network.ts'
import type { Lab } from '../../lab/lab.ts'
import {
  createNamespace,
  destroyNamespace,
  inNamespace,
  ipBatch,
  setParameters,
} from '../../lab/namespace.ts'
import { portName } from '../../lab/network.ts'
import { type Host, topology } from '../../lab/topology.ts'

/** A director by its last byte, which is not one of the lab's own. */
export function directorAt(name: string, byte: number): Host {
  const mac = (wire: number): string => `02:00:00:00:0${wire}:${byte}`
  return {
    name,
    role: 'director',
    clients: { mac: mac(1), ipv4: `192.0.2.${byte}`, ipv6: `2001:db8:1::${byte}` },
    servers: { mac: mac(2), ipv4: `10.0.2.${byte}`, ipv6: `2001:db8:2::${byte}` },
  }
}

/** Makes its namespace and its links, without virtual addresses of its own. */
export async function addHost({ prefix }: Lab, host: Host): Promise<void> {
  const namespace = prefix + host.name
  await createNamespace(namespace)
  await setParameters(namespace, parametersOf(host))
  for (const wire of wiresOf(host)) {
    const { interface: device, mtu } = topology.wires[wire]
    const port = portName(host.name, wire)
    await ipBatch(null, [
      `link add name ${device} address ${host[wire]?.mac} netns ${namespace} type veth peer name ${port} netns ${prefix}net`,
    ])
    await must(inNamespace(`${prefix}net`, ['sh', '-e', '-c', offloadsOff(port)]))
    await must(inNamespace(namespace, ['sh', '-e', '-c', offloadsOff(device)]))
    await ipBatch(`${prefix}net`, [
      `link set ${port} mtu ${mtu}`,
      `link set ${port} master br-${wire}`,
      `link set ${port} up`,
      `link set ${port} xdpdrv object ${labPrograms()} program pass`,
    ])
  }
  await ipBatch(namespace, ['link set lo up', ...linksAndAddressesOf(host)])
  await ipBatch(
    namespace,
    wiresOf(host).map((wire) => `link set ${topology.wires[wire].interface} up`),
  )
}

export async function removeHost({ prefix }: Lab, { name }: Host): Promise<void> {
  await destroyNamespace(prefix + name)
}

/** One more director on the lab's wires. */
export async function addDirector(lab: Lab, host: Host): Promise<LabDirector> {
  await addHost(lab, host)
  return new LabDirector(lab.prefix + host.name, `/run/pointsman-lab-${lab.prefix}${host.name}`)
}

export async function removeDirector(director: LabDirector): Promise<void> {
  await director.remove()
  await destroyNamespace(director.namespace)
  rmSync(director.runDir, { recursive: true, force: true })
}
