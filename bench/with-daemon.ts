/** A daemon on XDP in a namespace of its own, which this process is in meanwhile. */
import { ipBatch } from '../lab/namespace.ts'
import { enterNetns } from '../linux/netns.ts'
import { goAhead } from './bpf.ts'
import { Daemon } from './daemon.ts'
import { DIRECTOR, makeDirector, Namespaces, namespacePath } from './network.ts'

/** Real servers of `many.ts`, behind one gateway. */
const MANY_SERVERS = `route add 10.64.0.0/12 via ${DIRECTOR.real[4]}`

export async function withDaemon(
  label: string,
  options: readonly string[],
  measure: (daemon: Daemon) => Promise<void>,
): Promise<void> {
  const namespaces = new Namespaces()
  let daemon: Daemon | null = null
  try {
    const name = await makeDirector(namespaces, label)
    await ipBatch(name, [MANY_SERVERS])
    enterNetns(namespacePath(name))
    goAhead()
    daemon = new Daemon({
      namespace: namespacePath(name),
      interfaces: [DIRECTOR.client.device, DIRECTOR.server.device],
      dataplane: 'xdp',
      options,
    })
    await daemon.start()
    await measure(daemon)
  } finally {
    await daemon?.stop()
    await namespaces.remove()
  }
}
