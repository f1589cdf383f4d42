/** Long work on the daemon's thread lets others go first now and then. */
export interface Pace {
  readonly over: boolean
  pass(): Promise<void>
}
