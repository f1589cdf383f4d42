/** How much of an address of full NAT is in use. */
export interface PortsTaken {
  /** To all real servers. */
  readonly connections: number
  /** Ports that are taken towards the real server that has the most of them: towards others they may be free. */
  readonly most: number
}

export const NO_PORTS_TAKEN: PortsTaken = { connections: 0, most: 0 }
