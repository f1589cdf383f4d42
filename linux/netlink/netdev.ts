/**
 * What drivers say they can do with XDP: the generic netlink family `netdev` (Linux 6.3,
 * linux/netdev.h). It tells the state of the moment: some drivers take redirected frames only while a program
 * is attached to them, a veth only while its other end runs NAPI.
 */
import { decodeAttributes, type NetlinkMessage, u32Of, viewOf } from './message.ts'
import type { Questions } from './questions.ts'
import { NETLINK_GENERIC, NetlinkError, RequestSocket } from './socket.ts'

/** enum netdev_xdp_act, as far as it matters here. */
export const XdpFeature = {
  /** XDP_PASS, XDP_DROP, XDP_TX. */
  BASIC: 1,
  /** Frames that are redirected from here. */
  REDIRECT: 2,
  /** Frames that are redirected to here (ndo_xdp_xmit). */
  TRANSMIT: 4,
} as const

/** `XdpFeature` bits of every interface of a network namespace, by ifindex; null where the kernel cannot say. */
export type XdpFeatures = ReadonlyMap<number, number> | null

/** linux/genetlink.h */
const GENL_ID_CTRL = 16
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2
const GENL_HEADER = 4
const VERSION = 1

const NETDEV_CMD_DEV_GET = 1
const NETDEV_A_DEV_IFINDEX = 1
const NETDEV_A_DEV_XDP_FEATURES = 3

/** struct genlmsghdr */
function header(command: number): Uint8Array {
  return Uint8Array.of(command, VERSION, 0, 0)
}

export function familyQuery(name: string) {
  const attributes = [{ type: CTRL_ATTR_FAMILY_NAME, value: new TextEncoder().encode(`${name}\0`) }]
  return { type: GENL_ID_CTRL, header: header(CTRL_CMD_GETFAMILY), attributes }
}

/** Number of a family, null from an answer without one. */
export function decodeFamily(message: NetlinkMessage): number | null {
  const id = decodeAttributes(message.body, GENL_HEADER).get(CTRL_ATTR_FAMILY_ID)
  return id === undefined || id.length < 2 ? null : viewOf(id).getUint16(0, true)
}

export function devicesQuery(family: number) {
  return { type: family, header: header(NETDEV_CMD_DEV_GET), attributes: [] }
}

/** ifindex and `XdpFeature` bits. */
export function decodeDevice(message: NetlinkMessage): readonly [number, number] | null {
  const attributes = decodeAttributes(message.body, GENL_HEADER)
  const ifindex = u32Of(attributes.get(NETDEV_A_DEV_IFINDEX))
  const features = attributes.get(NETDEV_A_DEV_XDP_FEATURES)
  // 64 bits, of which the kernel uses a handful.
  if (ifindex === null || features === undefined || features.length < 8) return null
  return [ifindex, viewOf(features).getUint32(0, true)]
}

/** The same from somebody who does not wait; undefined where the kernel has not answered yet. */
export async function askXdpFeatures(questions: Questions): Promise<XdpFeatures | undefined> {
  const [answer] = await questions.ask([familyQuery('netdev')])
  if (answer === undefined || answer === null) return undefined
  const family = answer.kind === 'message' ? decodeFamily(answer.message) : null
  if (family === null) return null
  const features = new Map<number, number>()
  const whole = await questions.dump(devicesQuery(family), (piece) => {
    for (const device of piece.map(decodeDevice)) if (device !== null) features.set(...device)
  })
  return whole ? features : undefined
}

/** Asks the kernel for all interfaces of the calling thread's network namespace. */
export function readXdpFeatures(): XdpFeatures {
  const socket = new RequestSocket(NETLINK_GENERIC)
  try {
    const answer = socket.get(familyQuery('netdev'))
    const family = answer === null ? null : decodeFamily(answer)
    if (family === null) return null
    const devices = socket.dump(devicesQuery(family), 'read the XDP features of interfaces').map(decodeDevice)
    return new Map(devices.filter((device) => device !== null))
  } catch (error) {
    if (error instanceof NetlinkError) return null
    throw error
  } finally {
    socket.close()
  }
}
