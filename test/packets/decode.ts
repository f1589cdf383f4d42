/** Frames as lines a person can read, and two of them side by side with the differing bytes marked. */
import { decode } from '../../net/packet/decode.ts'

export { decode }

/**
 * Two frames compared for a person: every decoded line that differs twice (`-` wanted, `+` got), then the
 * rows of sixteen bytes that differ with a caret below each wrong byte.
 */
export function diff(want: Uint8Array, got: Uint8Array): string[] {
  const left = decode(want)
  const right = decode(got)
  const lines: string[] = []
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    if (left[i] === right[i]) lines.push(`    ${left[i]}`)
    else {
      if (left[i] !== undefined) lines.push(`  - ${left[i]}`)
      if (right[i] !== undefined) lines.push(`  + ${right[i]}`)
    }
  }
  const row = (bytes: Uint8Array, at: number): string =>
    Array.from({ length: 16 }, (_, i) => bytes[at + i]?.toString(16).padStart(2, '0') ?? '  ').join(' ')
  let shown = 0
  for (let at = 0; at < Math.max(want.length, got.length); at += 16) {
    const marks = Array.from({ length: 16 }, (_, i) => (want[at + i] === got[at + i] ? '  ' : '^^')).join(' ')
    if (!marks.includes('^')) continue
    // A shifted payload differs everywhere: the first rows tell the story.
    if (++shown > 12) return [...lines, '    … further rows differ']
    const offset = at.toString(16).padStart(4, '0')
    lines.push(
      `  - ${offset} ${row(want, at)}`,
      `  + ${offset} ${row(got, at)}`,
      `         ${marks}`.trimEnd(),
    )
  }
  return lines
}
