/** Where the daemon listens unless told otherwise. */
import { join } from 'node:path'

export const DEFAULT_RUN_DIRECTORY = '/run/pointsman'
export const SOCKET_NAME = 'pointsman.sock'
export const DEFAULT_SOCKET = join(DEFAULT_RUN_DIRECTORY, SOCKET_NAME)
/** Beside it, for those who only look: `pointsmand --read-only-socket`. */
export const READ_SOCKET_NAME = 'pointsman-read.sock'
