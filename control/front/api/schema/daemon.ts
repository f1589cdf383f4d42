/** Synchronisation daemons as they cross the API. */
import { z } from 'zod'
import { address, addressShown } from './basic.ts'

const state = z.enum(['master', 'backup'])
export const daemonParams = z.object({ state })

export const daemonBody = z
  .strictObject({
    interface: z.string().min(1).max(15),
    syncId: z.int().min(0).max(255).default(0),
    maxLength: z.int().min(1).max(65507).optional(),
    group: address.optional(),
    port: z.int().min(1).max(65535).optional(),
    ttl: z.int().min(1).max(255).optional(),
  })
  .meta({ id: 'SyncDaemonSettings' })

export const daemonAnswer = z
  .object({
    state,
    interface: z.string(),
    syncId: z.int(),
    maxLength: z.int(),
    group: addressShown,
    port: z.int(),
    ttl: z.int(),
  })
  .meta({ id: 'SyncDaemon' })
export const daemonsAnswer = z.array(daemonAnswer)
