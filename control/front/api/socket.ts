/** Where the daemon listens unless told otherwise. */
import { join } from 'node:path'

export const DEFAULT_RUN_DIRECTORY = '/run/pointsman'
export const SOCKET_NAME = 'pointsman.sock'
export const DEFAULT_SOCKET = join(DEFAULT_RUN_DIRECTORY, SOCKET_NAME)
