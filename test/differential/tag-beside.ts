/**
 * Traffic control has a frame's outer tag beside it, and where the program takes a priority tag off, the kernel puts
 * the next one there (skb_vlan_pop). BPF_PROG_TEST_RUN gives back the frame without what stands beside it.
 */

/** Both MAC addresses; the tag follows. */
const TAG_AT = 12
const TAG_SIZE = 4
/** IEEE 802.1Q and 802.1ad. */
const TAGS: readonly number[] = [0x8100, 0x88a8]

/** Whether one frame is the other, of which the kernel has put the tag beside it. */
export function tagIsBeside(tagged: Buffer, frame: Buffer): boolean {
  return (
    tagged.length === frame.length + TAG_SIZE &&
    TAGS.includes(tagged.readUInt16BE(TAG_AT)) &&
    tagged.subarray(0, TAG_AT).equals(frame.subarray(0, TAG_AT)) &&
    tagged.subarray(TAG_AT + TAG_SIZE).equals(frame.subarray(TAG_AT))
  )
}
