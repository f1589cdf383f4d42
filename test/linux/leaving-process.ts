/** Has libbpf load, in another thread, an object of which it will say that it cannot be loaded; and ends with status 3. */
import { builtFile } from '../../dataplane/assets.ts'
import { libbpf, loadLater, needPointer } from '../../linux/libbpf.ts'

const file = builtFile('pointsman-out.bpf.o')
const object = needPointer(libbpf().bpf_object__open_file(file, null), `open ${file}`)
const map = needPointer(libbpf().bpf_object__find_map_by_name(object, 'reals'), 'find map reals')
libbpf().bpf_map__set_max_entries(map, 0xffff_ffff)
void loadLater(object)
process.exit(3)
