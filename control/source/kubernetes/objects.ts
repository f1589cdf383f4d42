/** The fields of Kubernetes' objects that a load balancer looks at, and nothing else of them. */
import { type Json, listOf, objectOf } from '../../registry/json.ts'

export interface Meta {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly resourceVersion: string
  readonly creationTimestamp: string
  readonly deletionTimestamp: string | null
  readonly finalizers: readonly string[]
  readonly annotations: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
}

export interface ServicePort {
  readonly name: string
  readonly protocol: string
  readonly port: number
  readonly nodePort: number
}

export interface KubeService {
  readonly meta: Meta
  readonly type: string
  readonly class: string | null
  readonly ports: readonly ServicePort[]
  readonly families: readonly ('IPv4' | 'IPv6')[]
  readonly loadBalancerIp: string | null
  readonly local: boolean
  readonly healthPort: number
  /** 0: none. */
  readonly affinityS: number
  readonly sourceRanges: readonly string[]
  readonly ingress: readonly string[]
}

export interface SliceEndpoint {
  readonly addresses: readonly string[]
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly node: string | null
}

export interface KubeSlice {
  readonly meta: Meta
  readonly service: string
  readonly family: 'IPv4' | 'IPv6' | null
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[]
  readonly endpoints: readonly SliceEndpoint[]
}

export interface KubeNode {
  readonly meta: Meta
  readonly addresses: readonly string[]
  readonly ready: boolean
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
const textsOf = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : []
const numberOf = (value: unknown): number => (typeof value === 'number' ? value : 0)
/** 0: there is none. Whoever answers in the API server's place has not checked it. */
const portOf = (value: unknown): number => {
  const port = numberOf(value)
  return Number.isInteger(port) && port > 0 && port <= 65_535 ? port : 0
}
const mapOf = (value: unknown): Record<string, string> =>
  Object.fromEntries(
    Object.entries(objectOf(value)).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    ),
  )
const familiesOf = (value: unknown): ('IPv4' | 'IPv6')[] =>
  textsOf(value).filter((one): one is 'IPv4' | 'IPv6' => one === 'IPv4' || one === 'IPv6')

/** sessionAffinityConfig's own default. */
const AFFINITY_S = 10_800

export function metaOf(object: Json): Meta {
  const meta = objectOf(object.metadata)
  return {
    name: textOf(meta.name),
    namespace: textOf(meta.namespace),
    uid: textOf(meta.uid),
    resourceVersion: textOf(meta.resourceVersion),
    creationTimestamp: textOf(meta.creationTimestamp),
    deletionTimestamp: textOf(meta.deletionTimestamp) || null,
    finalizers: textsOf(meta.finalizers),
    annotations: mapOf(meta.annotations),
    labels: mapOf(meta.labels),
  }
}

export function readService(object: Json): KubeService {
  const spec = objectOf(object.spec)
  const affinity = objectOf(objectOf(spec.sessionAffinityConfig).clientIP)
  const families = familiesOf(spec.ipFamilies)
  return {
    meta: metaOf(object),
    type: textOf(spec.type),
    class: textOf(spec.loadBalancerClass) || null,
    ports: listOf(spec.ports).map((port) => ({
      name: textOf(port.name),
      protocol: textOf(port.protocol) || 'TCP',
      port: portOf(port.port),
      nodePort: portOf(port.nodePort),
    })),
    families: families.length > 0 ? families : ['IPv4'],
    loadBalancerIp: textOf(spec.loadBalancerIP) || null,
    local: spec.externalTrafficPolicy === 'Local',
    healthPort: portOf(spec.healthCheckNodePort),
    affinityS: spec.sessionAffinity === 'ClientIP' ? numberOf(affinity.timeoutSeconds) || AFFINITY_S : 0,
    sourceRanges: textsOf(spec.loadBalancerSourceRanges),
    ingress: listOf(objectOf(objectOf(object.status).loadBalancer).ingress).map(({ ip }) => textOf(ip)),
  }
}

export function readSlice(object: Json): KubeSlice {
  const meta = metaOf(object)
  const family = textOf(object.addressType)
  return {
    meta,
    service: `${meta.namespace}/${meta.labels['kubernetes.io/service-name'] ?? ''}`,
    family: family === 'IPv4' || family === 'IPv6' ? family : null,
    ports: listOf(object.ports).map((port) => ({
      name: textOf(port.name),
      protocol: textOf(port.protocol) || 'TCP',
      port: portOf(port.port),
    })),
    endpoints: listOf(object.endpoints).map((endpoint) => {
      const conditions = objectOf(endpoint.conditions)
      // Not said means ready.
      const ready = conditions.ready !== false
      return {
        addresses: textsOf(endpoint.addresses),
        ready,
        serving: conditions.serving === undefined ? ready : conditions.serving === true,
        terminating: conditions.terminating === true,
        node: textOf(endpoint.nodeName) || null,
      }
    }),
  }
}

/** Nodes that no load balancer is to send anything to. */
const EXCLUDED = 'node.kubernetes.io/exclude-from-external-load-balancers'

export function readNode(object: Json): KubeNode {
  const meta = metaOf(object)
  const status = objectOf(object.status)
  const ready = listOf(status.conditions).some(({ type, status: is }) => type === 'Ready' && is === 'True')
  return {
    meta,
    addresses: listOf(status.addresses).flatMap(({ type, address }) =>
      type === 'InternalIP' ? [textOf(address)] : [],
    ),
    ready: ready && meta.labels[EXCLUDED] === undefined,
  }
}
