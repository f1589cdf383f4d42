/** Signals that may have been given before anybody listens: that nobody tells again. */

/** Calls `act` when the signal is given, at once if it has been. Returns what has it called no more. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  if (signal.aborted) act()
  else signal.addEventListener('abort', act, { once: true })
  return () => signal.removeEventListener('abort', act)
}

/** Rejects with the signal's reason. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => void onAbort(signal, () => reject(signal.reason)))
}
