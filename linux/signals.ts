/** Signals, which interrupt what this thread does in the kernel. */
import { libc } from './libc.ts'

const SIG_SETMASK = 2
/** sigset_t of glibc and musl. */
const SET_BYTES = 128

/** Those that come meanwhile wait, or go to other threads. */
export function withoutSignals<T>(act: () => T): T {
  const before = new Uint8Array(SET_BYTES)
  libc.pthread_sigmask(SIG_SETMASK, new Uint8Array(SET_BYTES).fill(0xff), before)
  try {
    return act()
  } finally {
    libc.pthread_sigmask(SIG_SETMASK, before, null)
  }
}
