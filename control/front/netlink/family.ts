/** Numbers of the generic netlink family `IPVS` (docs/spec/netlink.md), by name. */

/**
 * The kernel gives families numbers up to 1023, so that this one is never a family of its own. The preload
 * library (deploy/preload/pointsman-preload.c) knows its messages by it.
 */
export const FAMILY_ID = 0x4950
export const FAMILY_NAME = 'IPVS'
export const FAMILY_VERSION = 1

export const COMMAND = {
  newService: 1,
  setService: 2,
  delService: 3,
  getService: 4,
  newDest: 5,
  setDest: 6,
  delDest: 7,
  getDest: 8,
  newDaemon: 9,
  delDaemon: 10,
  getDaemon: 11,
  setConfig: 12,
  getConfig: 13,
  setInfo: 14,
  getInfo: 15,
  zero: 16,
  flush: 17,
} as const

/** Attributes of a message. */
export const TOP = { service: 1, dest: 2, daemon: 3, timeoutTcp: 4, timeoutTcpFin: 5, timeoutUdp: 6 } as const
export const TOP_MAX = 6
export const INFO = { version: 1, tableSize: 2 } as const

export const SERVICE = {
  family: 1,
  protocol: 2,
  address: 3,
  port: 4,
  mark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
  stats: 10,
  engine: 11,
  stats64: 12,
} as const

export const DEST = {
  address: 1,
  port: 2,
  method: 3,
  weight: 4,
  upperThreshold: 5,
  lowerThreshold: 6,
  activeConns: 7,
  inactiveConns: 8,
  persistentConns: 9,
  stats: 10,
  family: 11,
  stats64: 12,
  tunnelType: 13,
  tunnelPort: 14,
  tunnelFlags: 15,
} as const

export const DAEMON = {
  state: 1,
  interface: 2,
  syncId: 3,
  maxLength: 4,
  group4: 5,
  group6: 6,
  port: 7,
  ttl: 8,
} as const

export const FLAG = { persistent: 0x01, hashed: 0x02, onePacket: 0x04, scheduler: 0x38 } as const

/** What `ipvsadm` prints as 1.2.1. */
export const IPVS_VERSION = 0x010201
