/** The kernel's own translation, by nftables: what a director without pointsman or IPVS would have. */
import { must } from '../lab/command.ts'
import type { Endpoint } from './traffic.ts'
import { within } from './triangle.ts'

export interface Translation {
  readonly protocol: 'tcp' | 'udp'
  readonly at: Endpoint
  readonly to: Endpoint
}

/** The virtual addresses have no route there: what arrives at the other end has been translated. */
export async function addDnat(namespace: string, translations: readonly Translation[]): Promise<void> {
  const rules = [
    'table ip bench {',
    'chain pre {',
    'type nat hook prerouting priority dstnat',
    ...translations.map(
      ({ protocol, at, to }) =>
        `ip daddr ${at.address} ${protocol} dport ${at.port} dnat to ${to.address}:${to.port}`,
    ),
    '}',
    '}',
    '',
  ]
  await must(within(namespace, ['nft', '-f', '-']), { input: rules.join('\n') })
}
