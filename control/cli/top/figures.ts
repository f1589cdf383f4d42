/** Numbers and lines for a narrow screen. */

const STEPS = ['', 'k', 'M', 'G', 'T', 'P'] as const

/** At most five characters: 999, 1.2k, 34k, 5.6M. */
export function short(value: number): string {
  let scaled = value
  let step = 0
  while (scaled >= 999.5 && step < STEPS.length - 1) {
    scaled /= 1000
    step++
  }
  const digits = step > 0 && scaled < 9.95 ? 1 : 0
  return `${scaled.toFixed(digits)}${STEPS[step]}`
}

/** Bytes a second as what links are measured in. */
export function bits(bytesPerSecond: number): string {
  return short(bytesPerSecond * 8)
}

export function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

const BLOCKS = '▁▂▃▄▅▆▇█'

/** The last values, the largest of them as high as it goes. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width)
  const most = Math.max(...shown, 0)
  return shown
    .map((value) => BLOCKS[most === 0 ? 0 : Math.min(7, Math.floor((value / most) * 7.999))])
    .join('')
}

/** What a terminal would take for an order is shown as a mark, and what is too long is cut. */
export function fit(text: string, width: number): string {
  const plain = text.replace(/[^\x20-\x7e▁-█→…·]/g, '?')
  return plain.length > width ? `${plain.slice(0, Math.max(0, width - 1))}…` : plain.padEnd(width)
}

export function right(text: string, width: number): string {
  return text.length > width ? text.slice(0, width) : text.padStart(width)
}
