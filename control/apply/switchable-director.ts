/**
 * A director that can be exchanged while clients hold on to it (another data plane under the same rules),
 * and that tells when changes have come into force.
 */
import type { ConnectionListing } from '../model/connection.ts'
import type { Director } from '../model/director.ts'
import type { Outcome } from '../model/outcome.ts'
import type { RealServer, ServerId, ServerListing } from '../model/server.ts'
import type { ServiceId, ServiceListing, ServiceRequest } from '../model/service.ts'
import type { SyncDaemon } from '../model/sync-daemon.ts'
import type { Timeouts } from '../model/timeouts.ts'

export class SwitchableDirector implements Director {
  /** Who answers at present. */
  current: Director
  readonly #settled: () => void

  constructor(current: Director, settled: () => void) {
    this.current = current
    this.#settled = settled
  }

  addService(service: ServiceRequest): Outcome {
    return this.current.addService(service)
  }

  editService(service: ServiceRequest): Outcome {
    return this.current.editService(service)
  }

  deleteService(id: ServiceId): Outcome {
    return this.current.deleteService(id)
  }

  flush(): Outcome {
    return this.current.flush()
  }

  zero(id?: ServiceId): Outcome {
    return this.current.zero(id)
  }

  addServer(id: ServiceId, server: RealServer): Outcome {
    return this.current.addServer(id, server)
  }

  editServer(id: ServiceId, server: RealServer): Outcome {
    return this.current.editServer(id, server)
  }

  deleteServer(id: ServiceId, server: ServerId): Outcome {
    return this.current.deleteServer(id, server)
  }

  services(): readonly ServiceListing[] {
    return this.current.services()
  }

  service(id: ServiceId): Outcome<ServiceListing> {
    return this.current.service(id)
  }

  server(id: ServiceId, server: ServerId): Outcome<ServerListing> {
    return this.current.server(id, server)
  }

  rules(): ReturnType<Director['rules']> {
    return this.current.rules()
  }

  connections(): Iterable<ConnectionListing> {
    return this.current.connections()
  }

  connectionTableSize(): number {
    return this.current.connectionTableSize()
  }

  totals(): ReturnType<Director['totals']> {
    return this.current.totals()
  }

  timeouts(): Timeouts {
    return this.current.timeouts()
  }

  setTimeouts(timeouts: Timeouts): Outcome {
    return this.current.setTimeouts(timeouts)
  }

  daemons(): readonly SyncDaemon[] {
    return this.current.daemons()
  }

  startDaemon(daemon: Parameters<Director['startDaemon']>[0]): Outcome {
    return this.current.startDaemon(daemon)
  }

  stopDaemon(state: 'master' | 'backup'): Outcome {
    return this.current.stopDaemon(state)
  }

  sysctls(): Readonly<Record<string, number>> {
    return this.current.sysctls()
  }

  setSysctl(name: string, value: number): Outcome {
    return this.current.setSysctl(name, value)
  }

  async settle(): Promise<void> {
    await this.current.settle()
    this.#settled()
  }
}
