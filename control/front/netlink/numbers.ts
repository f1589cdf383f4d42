/** Counters and rates, in the 32-bit form of old clients and in the 64-bit form. */
import type { NetlinkAttribute } from '../../../linux/netlink/message.ts'
import type { Counters, Rates } from '../../model/counters.ts'
import { nest, u32, u64 } from './attributes.ts'

/** The two of bytes have 64 bits in either form. */
const IN_BYTES = 4
const OUT_BYTES = 5

/** Counters first, rates behind: attributes 1 to 10. */
export function stats(
  { narrow, wide }: { readonly narrow: number; readonly wide: number },
  { conns, inPackets, outPackets, inBytes, outBytes }: Counters,
  { cps, inPps, outPps, inBps, outBps }: Rates,
): readonly NetlinkAttribute[] {
  const counted = [conns, inPackets, outPackets, inBytes, outBytes]
  const values = [...counted, ...[cps, inPps, outPps, inBps, outBps].map((rate) => BigInt(Math.round(rate)))]
  const narrowed = values.map((value, i) => {
    const type = i + 1
    return type === IN_BYTES || type === OUT_BYTES
      ? u64(type, value)
      : u32(type, Number(BigInt.asUintN(32, value)))
  })
  return [
    nest(narrow, narrowed),
    nest(
      wide,
      values.map((value, i) => u64(i + 1, value)),
    ),
  ]
}
