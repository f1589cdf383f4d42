/** Which ports the kernel gives to sockets that ask for none. */
import { readFileSync } from 'node:fs'
import { type Ports, parseLocalPorts } from '../net/ports.ts'

function read(name: string): string {
  try {
    return readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim()
  } catch {
    return ''
  }
}

/** Of this network namespace. */
export function localPorts(): readonly Ports[] {
  return parseLocalPorts(read('ip_local_port_range'), read('ip_local_reserved_ports'))
}
