/**
 * Writes into etcd from inside a namespace: `registry-writer.ts URL`, told what by messages, one transaction each;
 * ends with its channel.
 */
import { EtcdGateway } from '../../control/registry/etcd/gateway.ts'
import { etcdAddress } from '../control/registry/addresses.ts'

export interface Write {
  readonly id: number
  /** null: the key goes. */
  readonly entries: readonly { readonly key: string; readonly value: string | null }[]
}

export interface Written {
  readonly id: number
  readonly failure: string | null
}

async function write(gateway: EtcdGateway, { entries }: Write): Promise<void> {
  const put = entries.flatMap(({ key, value }) => (value === null ? [] : [{ key, value }]))
  if (put.length > 0) await gateway.transact({ if: [], put })
  for (const { key, value } of entries) if (value === null) await gateway.remove(key)
}

const [, , url] = process.argv
if (url !== undefined) {
  const gateway = new EtcdGateway(etcdAddress([url]))
  process.on('message', (asked: Write) => {
    write(gateway, asked).then(
      () => process.send?.({ id: asked.id, failure: null } satisfies Written),
      (error: unknown) => process.send?.({ id: asked.id, failure: String(error) } satisfies Written),
    )
  })
  process.on('disconnect', () => process.exit(0))
}
