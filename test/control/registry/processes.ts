/**
 * Servers of tests, in a network of their own where that can be had: nobody else has ports there, and none of
 * them is given to a client while its server is being started again.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { enterPrivateNetwork, skipWithoutPrivileges } from '../../dataplane/private-network.ts'

const isAlone = skipWithoutPrivileges === false
if (isAlone) enterPrivateNetwork()

/** Below those that the kernel gives to clients (ip_local_port_range). */
let nextPort = 20_000

/** Ports that nobody has: at this moment only, where the network is everybody's. */
export async function freePorts(count: number): Promise<number[]> {
  if (isAlone) return Array.from({ length: count }, () => nextPort++)
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => {
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return address.port
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
