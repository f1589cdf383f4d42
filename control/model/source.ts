/** Where services come from. Each service belongs to one source, as a whole. */

/**
 * `manual` is commands and the API; the others state a whole set of services each, and own what they state.
 * Who states a service first has it: another source, or a command, that wants to change it is refused.
 */
export const SOURCES = ['manual', 'file', 'keepalived'] as const
export type SourceName = (typeof SOURCES)[number]

/** Sources that state whole sets. */
export type StatingSource = Exclude<SourceName, 'manual'>
export const STATING_SOURCES = SOURCES.filter((name): name is StatingSource => name !== 'manual')
