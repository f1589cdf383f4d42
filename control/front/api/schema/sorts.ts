/** Orders of services; apart from their schema, for those who have no use for schemas (a browser). */
export const SORTS = ['new', 'packets', 'bytes', 'connections', 'name'] as const
export type Sort = (typeof SORTS)[number]
