/** What the data plane has room for: rules ask before they grow. */
import type { VirtualService } from '../model/service.ts'
import type { ServiceEntry } from './entries.ts'

/** The services there are, by identity. */
export type Services = ReadonlyMap<string, ServiceEntry>

export interface Room {
  admitsService(service: string, services: Services): boolean
  admitsServer(service: ServiceEntry, server: string, services: Services): boolean
  /** Whether the service may become this one: with another scheduler, or tracked in another way. */
  admitsEdit(service: ServiceEntry, value: VirtualService): boolean
  /** A service takes its place, or another one once it has changed; `left` comes before the change. */
  entered(service: ServiceEntry): void
  left(service: ServiceEntry): void
  /** The same room, to be furnished by a draft of the rules. */
  fork(): Room
}

/** For rules that reach no packets. */
export const UNLIMITED: Room = {
  admitsService: () => true,
  admitsServer: () => true,
  admitsEdit: () => true,
  entered: () => {},
  left: () => {},
  fork: () => UNLIMITED,
}
