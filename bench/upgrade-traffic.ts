/** Stands for packets while maps are exchanged: moves the times of random lines of pinned maps on. */
import { Pins } from '../dataplane/kernel/pins.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { mapShared } from '../linux/libc.ts'

/** Bytes of a line, where its time stands, lines, lines from one in use to the next, packets a second. */
const [size = 0, at = 0, lines = 0, step = 1, rate = 0] = process.argv.slice(2).map(Number)
const PERIOD_MS = 5
const fd = new Pins(defaultPinDirectory()).openMap('connections4')
const words = new Uint32Array(mapShared(fd, size * lines, 'map connections4').buffer)
let random = 1
setInterval(() => {
  for (let i = 0; i < (rate * PERIOD_MS) / 1000; i++) {
    random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0
    const line = (random % (lines / step)) * step
    words[(line * size + at) / 4]! += 1
  }
}, PERIOD_MS)
process.stdout.write('at work\n')
