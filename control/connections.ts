/** IPVS's default number of buckets, shown when no connection table exists. */
export const CONNECTION_TABLE_SIZE = 4096
