/** What is measured of health: one row is one metric; only what is checked has them. */
import { endpointText } from '../../../net/endpoint.ts'
import type { CheckedService } from '../../health/health.ts'
import { serviceName } from '../../model/service-name.ts'
import type { Named, Sample } from './family.ts'

export interface HealthMetric extends Named {
  /** Of each real server, besides its service. */
  readonly fine: boolean
  readonly of: (service: CheckedService, name: string) => Iterable<Sample>
}

function* perServer(
  { servers }: CheckedService,
  service: string,
  value: (server: CheckedService['servers'][number]) => number,
): Generator<Sample> {
  for (const server of servers) {
    if (server.probes.length > 0)
      yield [{ service, real_server: endpointText(server.real.id) }, value(server)]
  }
}

function* perCheck(
  { servers }: CheckedService,
  service: string,
  value: (probe: CheckedService['servers'][number]['probes'][number]['probe']) => number | null,
): Generator<Sample> {
  for (const { real, probes } of servers) {
    for (const { check, probe } of probes) {
      const number = value(probe)
      if (number !== null) yield [{ service, real_server: endpointText(real.id), check: check.name }, number]
    }
  }
}

export const HEALTH_METRICS: readonly HealthMetric[] = [
  {
    name: 'pointsman_service_up',
    type: 'gauge',
    help: 'Whether a checked service has its quorum.',
    fine: false,
    of: ({ state }, service) => [[{ service }, state === 'up' ? 1 : 0]],
  },
  {
    name: 'pointsman_service_sorry',
    type: 'gauge',
    help: 'Whether the sorry server serves, since no real server is up.',
    fine: false,
    of: ({ sorry }, service) => [[{ service }, sorry ? 1 : 0]],
  },
  {
    name: 'pointsman_service_weight_up',
    type: 'gauge',
    help: 'Sum of the weights of the real servers that are up: what the quorum is held against.',
    fine: false,
    of: ({ weight }, service) => [[{ service }, weight]],
  },
  {
    name: 'pointsman_service_quorum',
    type: 'gauge',
    help: 'Weight that has to be up.',
    fine: false,
    of: ({ quorum }, service) => [[{ service }, quorum]],
  },
  {
    name: 'pointsman_service_real_servers_down',
    type: 'gauge',
    help: 'Checked real servers that are down.',
    fine: false,
    of: ({ servers }, service) => [
      [{ service }, servers.filter(({ state, probes }) => probes.length > 0 && state === 'down').length],
    ],
  },
  {
    name: 'pointsman_real_server_up',
    type: 'gauge',
    help: 'Whether a checked real server is up; pointsman health says why not.',
    fine: true,
    of: (service, name) => perServer(service, name, ({ state }) => (state === 'up' ? 1 : 0)),
  },
  {
    name: 'pointsman_check_up',
    type: 'gauge',
    help: 'What a check has come to; none before it has.',
    fine: true,
    of: (service, name) =>
      perCheck(service, name, ({ state }) => (state === 'unknown' ? null : state === 'up' ? 1 : 0)),
  },
  {
    name: 'pointsman_check_duration_seconds',
    type: 'gauge',
    help: 'How long the last answer to a check took.',
    fine: true,
    of: (service, name) =>
      perCheck(service, name, ({ last }) => (last === null || last.state === 'void' ? null : last.ms / 1000)),
  },
]

export function checkedName({ service }: CheckedService): string {
  return serviceName(service.id)
}
