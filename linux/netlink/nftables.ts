/** What stands in a table of nftables, asked of the kernel (linux/netfilter/nf_tables.h), and who changes it. */
import { attributesIn, decodeAttributes, type NetlinkMessage, textOf, viewOf } from './message.ts'
import type { Query } from './rtnetlink.ts'
import { EventSocket, NETLINK_NETFILTER, RequestSocket } from './socket.ts'

const SUBSYSTEM = 10
const GETTABLE = 1
const GETRULE = 7
const GETSETELEM = 13
const NEWGEN = 15
/** struct nfgenmsg: family, version, resource. */
const HEADER = 4
const NFPROTO_NETDEV = 5
const NFNLGRP_NFTABLES = 7
/** The name of the table, in messages of all kinds. */
const TABLE_NAME = 1
const TABLE_HANDLE = 4
const ELEMENTS_SET = 2
const ELEMENTS = 3

/** What of a table can be compared: another handle is another table. */
export interface TableState {
  readonly handle: bigint
  readonly rules: number
  /** Elements by set. */
  readonly elements: ReadonlyMap<string, number>
}

export class TableReader {
  readonly #socket = new RequestSocket(NETLINK_NETFILTER)
  readonly #table: string

  /** `table`: of the family netdev. */
  constructor(table: string) {
    this.#table = table
  }

  /** Null where there is no such table. */
  read(sets: readonly string[]): TableState | null {
    const message = this.#socket.get(this.#query(GETTABLE, []))
    const handle = message === null ? undefined : decodeAttributes(message.body, HEADER).get(TABLE_HANDLE)
    if (handle === undefined) return null
    const rules = this.#socket
      .dump(this.#query(GETRULE, []), 'read the nftables rules')
      .filter((rule) => tableOf(rule) === this.#table).length
    const elements = new Map(sets.map((set) => [set, this.#countElements(set)] as const))
    return { handle: viewOf(handle).getBigUint64(0, false), rules, elements }
  }

  #countElements(set: string): number {
    const query = this.#query(GETSETELEM, [{ type: ELEMENTS_SET, value: text(set) }])
    return this.#socket
      .dump(query, `read the nftables set ${set}`)
      .map(({ body }) => decodeAttributes(body, HEADER).get(ELEMENTS))
      .map((list) => (list === undefined ? 0 : attributesIn(list, 0).length))
      .reduce((sum, count) => sum + count, 0)
  }

  #query(kind: number, attributes: Query['attributes']): Query {
    return {
      type: (SUBSYSTEM << 8) | kind,
      header: Uint8Array.of(NFPROTO_NETDEV, 0, 0, 0),
      attributes: [{ type: TABLE_NAME, value: text(this.#table) }, ...attributes],
    }
  }

  close(): void {
    this.#socket.close()
  }
}

/** Tells of every change of a table, whoever makes it, as soon as it is in force. */
export function watchTable(table: string, onChange: () => void): EventSocket {
  return new EventSocket(
    [NFNLGRP_NFTABLES],
    (messages) => {
      const isOurs = (message: NetlinkMessage) =>
        (message.type & 0xff) !== NEWGEN && message.body[0] === NFPROTO_NETDEV && tableOf(message) === table
      if (messages.some(isOurs)) onChange()
    },
    onChange,
    NETLINK_NETFILTER,
  )
}

function tableOf({ body }: NetlinkMessage): string | null {
  const name = decodeAttributes(body, HEADER).get(TABLE_NAME)
  return name === undefined ? null : textOf(name)
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`)
}
