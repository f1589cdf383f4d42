/** The state of the director as `pointsman status` shows it. */
import { z } from 'zod'
import { SOURCES } from '../../../model/source.ts'
import { holdAnswer, serviceNameAnswer, stateAnswer } from './service.ts'
import { goesOnAnswer, poolAnswer } from './source.ts'

export const dataplaneBody = z
  .strictObject({ kind: z.enum(['xdp', 'tc', 'userspace']) })
  .meta({ id: 'DataplaneKind' })

export const detachAnswer = z.object({ detached: z.literal(true) }).meta({ id: 'Detached' })

export const statusAnswer = z
  .object({
    version: z.string(),
    pid: z.int(),
    startedAt: z.string(),
    forwarding: z
      .boolean()
      .meta({ description: 'packets are taken from every interface that was asked for' }),
    dataplane: z.object({
      kind: z.enum(['xdp', 'tc', 'userspace', 'memory', 'none']),
      reason: z.string(),
      adopted: z.boolean(),
      program: z
        .object({ name: z.string(), id: z.number().nullable(), tag: z.string().nullable() })
        .nullable(),
      interfaces: z.array(
        z.object({
          name: z.string(),
          ifindex: z.int(),
          mode: z.string(),
          note: z.string().optional(),
          relayed: z.boolean().optional().meta({
            description: 'traffic control stands beside XDP there, and sends what XDP cannot send itself',
          }),
        }),
      ),
      missing: z
        .array(z.object({ name: z.string(), state: z.enum(['waiting', 'refused']), why: z.string() }))
        .meta({ description: 'asked for, and no packets are taken from it' }),
      answers: z
        .object({ seen: z.boolean(), interfaces: z.array(z.string()), refused: z.array(z.string()) })
        .nullable()
        .meta({
          description:
            'where answers of real servers on this host are seen as they leave; null: there are none, or the data plane cannot',
        }),
      cutting: z
        .object({ seen: z.boolean(), interfaces: z.array(z.string()), refused: z.array(z.string()) })
        .nullable()
        .meta({
          description:
            'where packets that are larger than their path are cut beside XDP; null: there was no need, or the data plane does it by itself',
        }),
      own: z
        .object({ served: z.boolean(), refused: z.array(z.string()) })
        .nullable()
        .meta({
          description:
            "whether the director's own sockets reach virtual services as clients; null: there are no services, or nobody has asked for it (--own-clients)",
        }),
      warnings: z.array(z.string()),
      sendFailures: z
        .object({
          counted: z.boolean(),
          why: z.string().nullable(),
          ways: z.array(z.object({ interface: z.string(), error: z.string(), frames: z.int() })),
        })
        .nullable()
        .meta({
          description:
            'xdp: frames that the kernel took and did not send, since the daemon started; why they are not counted',
        }),
    }),
    services: z.int(),
    realServers: z.int(),
    connections: z
      .object({ ipv4: z.int(), ipv6: z.int(), templates: z.int() })
      .nullable()
      .meta({ description: 'null: not counted yet, since this daemon or its data plane began' }),
    capacity: z.record(z.string(), z.number()),
    sources: z
      .array(
        z.object({
          source: z.enum(SOURCES),
          path: z.string(),
          since: z.string(),
          goesOn: goesOnAnswer,
          complaints: z.array(z.string()).meta({ description: 'file:line:column: what is wrong' }),
        }),
      )
      .meta({ description: 'those that were refused when they were read last; what was in force before is' }),
    pools: z
      .array(poolAnswer)
      .meta({ description: 'pools that follow a registry, of which something is not as it should be' }),
    health: z
      .object({
        services: z.int(),
        servicesDown: z.array(
          z.object({
            service: z.string(),
            since: z.string(),
            sorry: z.boolean().meta({ description: 'the sorry server serves' }),
          }),
        ),
        realServers: z.int(),
        realServersDown: z.int(),
      })
      .nullable()
      .meta({ description: 'of what is checked; null: nothing is' }),
    holds: z
      .array(z.object({ service: serviceNameAnswer, server: z.string(), hold: holdAnswer }))
      .meta({ description: 'weights held by hand' }),
    notInForce: z.array(z.object({ service: serviceNameAnswer, ...stateAnswer })),
    repairs: z
      .record(z.string(), z.int())
      .meta({ description: 'what was put right in the maps without a change of the rules' }),
    unsupported: z.array(z.object({ service: serviceNameAnswer, reasons: z.array(z.string()) })),
    memoryMiB: z.int(),
  })
  .meta({ id: 'Status' })
export type Status = z.infer<typeof statusAnswer>
