/** What a program takes for constants: an object's `.rodata`, before it is loaded. */
import { type Handle, libbpf, needPointer } from '../../linux/libbpf.ts'
import { memoryAt } from '../../linux/libc.ts'
import { DataplaneError } from '../dataplane.ts'

/** To be written in place. */
export function readOnlyData(object: Handle): DataView {
  for (
    let map = libbpf().bpf_object__next_map(object, null);
    map;
    map = libbpf().bpf_object__next_map(object, map)
  ) {
    if (!libbpf().bpf_map__name(map).endsWith('.rodata')) continue
    const size = new BigUint64Array(1)
    const data = needPointer(libbpf().bpf_map__initial_value(map, size), 'find the read-only data')
    return new DataView(memoryAt(data, Number(size[0])))
  }
  throw new DataplaneError('Cannot set the constants of the program: the object has no .rodata')
}
