/** `pointsman health` for people. */
import type { HealthShown } from '../front/api/schema/health.ts'
import { table } from './text.ts'

type ServiceHealth = HealthShown[number]
type ServerHealth = ServiceHealth['servers'][number]

export function healthText(services: HealthShown, nowMs = Date.now()): string {
  if (services.length === 0) return 'No checks. They stand in the configuration file: see pointsman.yaml(5)\n'
  return services
    .map(
      (service) =>
        `${headLine(service, nowMs)}\n${table(service.servers.flatMap((one) => rows(one, nowMs)))}`,
    )
    .join('\n')
}

function headLine({ service, state, since, weightUp, quorum, sorry }: ServiceHealth, nowMs: number): string {
  const serves = sorry ? ', the sorry server serves' : ''
  return `${service}: ${state} for ${age(since, nowMs)}, weight ${weightUp} up, quorum ${quorum}${serves}`
}

function rows({ server, state, since, share, checks }: ServerHealth, nowMs: number): string[][] {
  const growing = share < 1 ? `, ${Math.round(share * 100)}% of its weight` : ''
  return [
    [`  ${server}`, `${state} for ${age(since, nowMs)}${growing}`],
    ...checks.map((check) => {
      const took = check.ms === null ? '' : ` in ${check.ms} ms`
      const result = check.result === '' ? 'no answer yet' : `${check.result}${took}`
      const trouble = check.trouble === null ? '' : ` (not asked: ${check.trouble})`
      return [
        `    ${check.name}`,
        check.state === 'unknown' ? 'unknown' : `${check.state} for ${age(check.since, nowMs)}`,
        check.path === 'service' ? `over the service's way` : `of ${check.asked}`,
        `${result}${trouble}`,
      ]
    }),
  ]
}

/** `42 s`, `3 min`, `5 h`, `2 d` */
function age(since: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(since)) / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}
