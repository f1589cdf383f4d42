/** Where services come from. Each service belongs to one source, as a whole. */

/**
 * `manual` is commands and the API; the others state a whole set of services each, and own what they state.
 * Who states a service first has it: another source, or a command, that wants to change it is refused.
 */
export const SOURCES = ['manual', 'file', 'keepalived', 'kubernetes'] as const
export type SourceName = (typeof SOURCES)[number]

/** Who a source is, in words for those whom it refuses. */
export interface Origin {
  /** `the file /etc/pointsman/pointsman.yaml` */
  readonly title: string
  /** What to do instead of changing its services: `change it there, then: pointsman apply` */
  readonly instead: string
}

/** As long as nothing has been read from a source, since the daemon started. */
export const ORIGINS: Readonly<Record<SourceName, Origin>> = {
  manual: { title: 'commands', instead: 'delete it there: ipvsadm -D' },
  file: {
    title: 'the configuration file',
    instead: 'change it there, then: pointsman apply',
  },
  keepalived: {
    title: 'keepalived.conf',
    instead: 'change it there, then: systemctl reload pointsmand',
  },
  kubernetes: { title: 'a Kubernetes cluster', instead: 'change it there: kubectl edit service' },
}

/** Sources that state whole sets. */
export type StatingSource = Exclude<SourceName, 'manual'>
export const STATING_SOURCES = SOURCES.filter((name): name is StatingSource => name !== 'manual')
