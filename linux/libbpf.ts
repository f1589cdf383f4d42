/**
 * libbpf (1.1 or newer) through koffi: loading objects, maps, programs, links, pins. Thin: one typed
 * binding per function, and its log kept for error messages instead of printed.
 */
import koffi from 'koffi'
import { addressOf, Errno, errno, libc } from './libc.ts'
import { MachineError } from './machine-error.ts'
import { withoutSignals } from './signals.ts'

/** `struct bpf_object *` and its like: the address, 0n for NULL. */
export type Handle = bigint
type Bytes = Uint8Array | null

interface Bindings {
  readonly libbpf_set_print: (callback: unknown) => unknown
  readonly libbpf_num_possible_cpus: () => number
  readonly bpf_object__open_file: (path: string, options: null) => Handle | null
  /** Of bytes that stay where they are until the object is closed. */
  readonly bpf_object__open_mem: (bytes: Uint8Array, size: number, options: Uint8Array) => Handle | null
  readonly bpf_object__load: (object: Handle) => number
  readonly bpf_object__close: (object: Handle) => void
  readonly bpf_object__find_map_by_name: (object: Handle, name: string) => Handle | null
  readonly bpf_object__next_map: (object: Handle, map: Handle | null) => Handle | null
  readonly bpf_object__find_program_by_name: (object: Handle, name: string) => Handle | null
  readonly bpf_map__name: (map: Handle) => string
  readonly bpf_map__fd: (map: Handle) => number
  readonly bpf_map__set_max_entries: (map: Handle, entries: number) => number
  readonly bpf_map__reuse_fd: (map: Handle, fd: number) => number
  /** Bytes of a global data section before loading; its size goes to the second argument. */
  readonly bpf_map__initial_value: (map: Handle, size: BigUint64Array) => Handle | null
  readonly bpf_map_create: (
    type: number,
    name: string,
    keyBytes: number,
    valueBytes: number,
    entries: number,
    options: Bytes,
  ) => number
  readonly bpf_map_update_elem: (map: number, key: Uint8Array, value: Uint8Array, flags: number) => number
  readonly bpf_map_delete_elem: (map: number, key: Uint8Array) => number
  readonly bpf_program__fd: (program: Handle) => number
  readonly bpf_raw_tracepoint_open: (name: string | null, program: number) => number
  readonly bpf_obj_pin: (fd: number, path: string) => number
  readonly bpf_obj_get: (path: string) => number
  readonly bpf_obj_get_info_by_fd: (fd: number, info: Uint8Array, size: Uint32Array) => number
  readonly bpf_btf_get_fd_by_id: (id: number) => number
  readonly bpf_prog_get_fd_by_id: (id: number) => number
  readonly bpf_map_get_fd_by_id: (id: number) => number
  readonly bpf_link_create: (program: number, target: number, type: number, options: Bytes) => number
  readonly bpf_link_update: (link: number, program: number, options: Bytes) => number
  readonly bpf_link_detach: (link: number) => number
  readonly bpf_xdp_attach: (ifindex: number, program: number, flags: number, options: Bytes) => number
  readonly bpf_xdp_detach: (ifindex: number, flags: number, options: Bytes) => number
  readonly bpf_xdp_query: (ifindex: number, flags: number, options: Uint8Array) => number
  readonly bpf_prog_test_run_opts: (program: number, options: Uint8Array) => number
}

let loaded: Bindings | undefined

/** Calls that other threads are about. */
let underWay = 0

/**
 * Node ends when such threads have: one may be held up by a driver, and one that libbpf lets write to the log waits for
 * this thread, which waits for it.
 */
function leaveAtOnce(status: number): void {
  if (underWay > 0) libc._exit(status)
}

/** A call of libbpf by another thread; resolves with what it returned, or with `failed`. */
function later(call: unknown, parameters: readonly unknown[], failed: number): Promise<number> {
  if (!process.listeners('exit').includes(leaveAtOnce)) process.on('exit', leaveAtOnce)
  underWay++
  return new Promise((resolve) => {
    ;(call as { async(...parameters: unknown[]): void }).async(
      ...parameters,
      (error: Error | null, result: unknown) => {
        underWay--
        resolve(error === null ? Number(result) : failed)
      },
    )
  })
}

/**
 * `bpf_obj_get_info_by_fd` by another thread: for some kinds of object the kernel takes rtnl, which drivers
 * hold for seconds. Resolves with what the call returned.
 */
export async function objectInfoLater(fd: number, info: Uint8Array): Promise<number> {
  // Large enough to stay where they are in memory while the other thread writes there.
  const size = new Uint32Array(64)
  size[0] = info.length
  const at = addressOf(new Uint8Array(size.buffer))
  const result = await later(libbpf().bpf_obj_get_info_by_fd, [fd, addressOf(info), at], -1)
  return size.length > 0 && info.length > 0 ? result : -1
}

/** `bpf_map_update_elem` by another thread, of a map of 32-bit values; resolves with what the call returned. */
export async function updateMapLater(map: number, key: number, value: number): Promise<number> {
  // Large enough to stay where they are in memory while the other thread reads them.
  const words = new Uint32Array(64)
  words[0] = key
  words[1] = value
  const at = addressOf(new Uint8Array(words.buffer))
  const result = await later(libbpf().bpf_map_update_elem, [map, at, at + 4n, 0], -1)
  return words.length > 0 ? result : -1
}

/**
 * `bpf_object__load`, which signals do not interrupt: the verifier gives up for any that is pending, and begins anew;
 * children that end every second would keep it from ever ending.
 */
export function loadNow(object: Handle): number {
  return withoutSignals(() => libbpf().bpf_object__load(object))
}

/** `bpf_object__load` by another thread; resolves with what the call returned. Nothing else may use the object. */
export function loadLater(object: Handle): Promise<number> {
  return later(libbpf().bpf_object__load, [object], -Errno.ENOMEM)
}

/** The library, loaded at first use: the userspace plane runs on machines without it. */
export function libbpf(): Bindings {
  loaded ??= load()
  return loaded
}

function load(): Bindings {
  let library: ReturnType<typeof koffi.load>
  try {
    library = koffi.load('libbpf.so.1')
  } catch (cause) {
    throw new MachineError('Cannot load libbpf.so.1: install it with apt-get install libbpf1', { cause })
  }
  const printer = koffi.proto('int pointsman_libbpf_print(int level, void *format, void *arguments)')
  const bindings: Bindings = {
    libbpf_set_print: library.func('void *libbpf_set_print(pointsman_libbpf_print *callback)'),
    libbpf_num_possible_cpus: library.func('int libbpf_num_possible_cpus()'),
    bpf_object__open_file: library.func('void *bpf_object__open_file(str path, void *options)'),
    bpf_object__open_mem: library.func('void *bpf_object__open_mem(void *bytes, size_t size, void *options)'),
    bpf_object__load: library.func('int bpf_object__load(void *object)'),
    bpf_object__close: library.func('void bpf_object__close(void *object)'),
    bpf_object__find_map_by_name: library.func('void *bpf_object__find_map_by_name(void *object, str name)'),
    bpf_object__next_map: library.func('void *bpf_object__next_map(void *object, void *map)'),
    bpf_object__find_program_by_name: library.func(
      'void *bpf_object__find_program_by_name(void *object, str name)',
    ),
    bpf_map__name: library.func('str bpf_map__name(void *map)'),
    bpf_map__fd: library.func('int bpf_map__fd(void *map)'),
    bpf_map__set_max_entries: library.func('int bpf_map__set_max_entries(void *map, uint32_t entries)'),
    bpf_map__reuse_fd: library.func('int bpf_map__reuse_fd(void *map, int fd)'),
    bpf_map__initial_value: library.func('void *bpf_map__initial_value(void *map, void *size)'),
    bpf_map_create: library.func(
      'int bpf_map_create(int type, str name, uint32_t key, uint32_t value, uint32_t entries, void *options)',
    ),
    bpf_map_update_elem: library.func(
      'int bpf_map_update_elem(int map, void *key, void *value, uint64_t flags)',
    ),
    bpf_map_delete_elem: library.func('int bpf_map_delete_elem(int map, void *key)'),
    bpf_program__fd: library.func('int bpf_program__fd(void *program)'),
    bpf_raw_tracepoint_open: library.func('int bpf_raw_tracepoint_open(str name, int program)'),
    bpf_obj_pin: library.func('int bpf_obj_pin(int fd, str path)'),
    bpf_obj_get: library.func('int bpf_obj_get(str path)'),
    bpf_obj_get_info_by_fd: library.func('int bpf_obj_get_info_by_fd(int fd, void *info, void *size)'),
    bpf_btf_get_fd_by_id: library.func('int bpf_btf_get_fd_by_id(uint32_t id)'),
    bpf_prog_get_fd_by_id: library.func('int bpf_prog_get_fd_by_id(uint32_t id)'),
    bpf_map_get_fd_by_id: library.func('int bpf_map_get_fd_by_id(uint32_t id)'),
    bpf_link_create: library.func('int bpf_link_create(int program, int target, int type, void *options)'),
    bpf_link_update: library.func('int bpf_link_update(int link, int program, void *options)'),
    bpf_link_detach: library.func('int bpf_link_detach(int link)'),
    bpf_xdp_attach: library.func(
      'int bpf_xdp_attach(int ifindex, int program, uint32_t flags, void *options)',
    ),
    bpf_xdp_detach: library.func('int bpf_xdp_detach(int ifindex, uint32_t flags, void *options)'),
    bpf_xdp_query: library.func('int bpf_xdp_query(int ifindex, int flags, void *options)'),
    bpf_prog_test_run_opts: library.func('int bpf_prog_test_run_opts(int program, void *options)'),
  }
  bindings.libbpf_set_print(koffi.register(collect, koffi.pointer(printer)))
  return bindings
}

// ---- the log

/** enum libbpf_print_level: warnings and information; the hundreds of debug lines are dropped. */
const LIBBPF_INFO = 1
/** libbpf's own limit for a verifier log, which is one entry. Pages that are not written cost nothing. */
const ENTRY_BYTES = 16 << 20
/** What is kept of an entry: its end, where the verifier gives its reason. */
const KEPT_BYTES = 16 << 10
/** Entries kept until somebody asks. */
const ENTRIES_MAX = 100

let scratch: Uint8Array | undefined
let lines: string[] = []
const format = libcFormat()

function libcFormat(): (bytes: Uint8Array, size: number, format: unknown, values: unknown) => number {
  return koffi.load(null).func('int vsnprintf(void *bytes, size_t size, void *format, void *arguments)')
}

/** libbpf's print function. A va_list is passed as an address on x86-64 and on arm64. */
function collect(level: number, text: unknown, values: unknown): number {
  if (level > LIBBPF_INFO) return 0
  scratch ??= new Uint8Array(ENTRY_BYTES)
  const length = Math.max(0, Math.min(format(scratch, ENTRY_BYTES, text, values), ENTRY_BYTES - 1))
  const kept = Math.min(length, KEPT_BYTES)
  lines.push(
    Buffer.from(scratch.buffer, length - kept, kept)
      .toString('utf8')
      .trimEnd(),
  )
  if (lines.length > ENTRIES_MAX) lines.shift()
  return length
}

/** What libbpf wrote since the last call, oldest first. */
export function takeLog(): string[] {
  const taken = lines
  lines = []
  return taken
}

/** Lines of the log quoted in an error: enough for the verifier's reason and its surroundings. */
const LOG_LINES_QUOTED = 25

/** A call failed: what was tried, the error's text, what mends it, and libbpf's own words. */
export function failure(action: string, number: number, fix?: Fix): MachineError {
  const log = takeLog().flatMap((entry) => entry.split('\n'))
  const remedy = typeof fix === 'function' ? fix(number, log.join('\n')) : fix
  const message = [
    `Cannot ${action}: ${libc.strerror(number)} (errno ${number})${remedy === undefined ? '' : `; ${remedy}`}`,
    ...log.slice(-LOG_LINES_QUOTED).map((line) => `  ${line}`),
  ]
  return new MachineError(message.join('\n'))
}

/** What mends a failure; it may depend on the error and on what libbpf said. */
export type Fix = string | ((errno: number, log: string) => string)

/** The result of a libbpf call, which is -errno on failure, or an error. */
export function need(result: number, action: string, fix?: Fix): number {
  if (result < 0) throw failure(action, result === -1 ? errno() || 1 : -result, fix)
  return result
}

/** A pointer that libbpf returned, or an error when it is NULL. */
export function needPointer(pointer: Handle | null, action: string, fix?: Fix): Handle {
  if (pointer === null || pointer === 0n) throw failure(action, errno(), fix)
  return pointer
}
