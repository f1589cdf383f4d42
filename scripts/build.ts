/**
 * Builds everything that is not TypeScript run in place: the objects of the packet program, the
 * native ipvsadm client, the library to preload, the BPF helpers of lab, bench and tests, and the bundles behind
 * bin/ and the lab's hosts.
 *
 *     npm run build [-- --force] [--every-machine]
 *
 * With `--every-machine`, as a package needs it, client and library are built for all machines we serve, and what
 * earlier builds left in dist/ goes.
 *
 * Only what is older than its inputs is built. Outputs are written beside their final name and moved
 * there, so two builds at once, or a build under a running daemon, never show a half-written file.
 */
import { execFile } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { type BuildOptions, build as bundle } from 'esbuild'
import { updateLayout } from './generate.ts'
import { notices } from './notices.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const dist = join(root, 'dist')
const run = promisify(execFile)

interface Target {
  readonly output: string
  /** Without this file the target is skipped. */
  readonly source: string
  /** The output is up to date while it is newer than all of these (and source, and this file). */
  readonly inputs: readonly string[]
  readonly make: (output: string) => Promise<void>
}

const WARNINGS = ['-Wall', '-Wextra', '-Werror']
const headers = files('bpf', '.h')
/** Where Debian keeps asm/types.h, which linux/bpf.h needs and the BPF target does not know. */
const multiarch = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`

type Machine = 'x86_64' | 'aarch64'

/** What the kernel calls the machines that Node knows by these names. */
const MACHINES: { readonly [arch: string]: Machine | undefined } = { x64: 'x86_64', arm64: 'aarch64' }
const CROSS_LIBC: Readonly<Record<Machine, string>> = {
  x86_64: 'gcc-x86-64-linux-gnu libc6-dev-amd64-cross',
  aarch64: 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross',
}

/** Exports of the wasm object; those the linker makes itself exist only with thread-local variables. */
const WASM_EXPORTS = [
  ...['pm_alloc', 'pm_map_set', 'pm_limits_ptr', 'pm_set_now', 'pm_set_cpu', 'pm_run_batch', 'pm_arrive'],
  ...['pm_ring_take', 'pm_ring_give', 'pm_ring_put'],
  ...['pm_queue_take', 'pm_queue_put', 'pm_queue_collect', 'pm_queue_give'],
]
const WASM_LINKER_EXPORTS = ['__stack_pointer', '__wasm_init_tls', '__tls_size', '__tls_align', '__heap_base']
/** What the host must provide: nothing else may stay undefined. */
const WASM_IMPORTS = ['pm_host_fib']

/** Files of a folder and the folders in it, by the end of their names. */
function files(folder: string, ...endings: string[]): string[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => endings.some((ending) => path.endsWith(ending)))
    .map((path) => join(root, folder, path))
    .sort()
}

/** The lab's programs take their port from the description the rest of the lab uses. */
function labDefines(source: string): string[] {
  if (dirname(source) !== join(root, 'lab')) return []
  const topology: { ports: { gue: number } } = JSON.parse(
    readFileSync(join(root, 'lab/topology.json'), 'utf8'),
  )
  return [`-DLAB_GUE_PORT=${topology.ports.gue}`]
}

/** @param included other sources that it includes */
function bpfObject(source: string, ...included: readonly string[]): Target {
  const beside = files(relative(root, dirname(source)), '.h', 'topology.json')
  return {
    output: join(dist, basename(source).replace(/\.c$/, '.o')),
    source,
    inputs: [...headers, ...beside, ...included],
    make: (output) =>
      clang(
        ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', ...WARNINGS],
        [`-I${join(root, 'bpf')}`, `-I${multiarch}`, ...labDefines(source), '-c', source, '-o', output],
      ),
  }
}

function wasmObject(source: string): Target {
  const link = [
    '--no-entry',
    '--import-memory',
    '--shared-memory',
    '--initial-memory=4194304',
    '--max-memory=4294967296',
    ...WASM_EXPORTS.map((name) => `--export-if-defined=${name}`),
    ...WASM_LINKER_EXPORTS.map((name) => `--export-if-defined=${name}`),
    '-z',
    'stack-size=65536',
  ].map((option) => `-Wl,${option}`)
  return {
    output: join(dist, 'pointsman.wasm'),
    source,
    inputs: headers,
    make: async (output) => {
      const imports = `${output}.imports`
      writeFileSync(imports, WASM_IMPORTS.join('\n'))
      try {
        await clang(
          ['--target=wasm32', '-O3', '-nostdlib', '-ffreestanding', ...WARNINGS],
          [
            '-matomics',
            '-mbulk-memory',
            '-mmutable-globals',
            '-ftls-model=local-exec',
            ...link,
            `-Wl,--allow-undefined-file=${imports}`,
            source,
            '-o',
            output,
          ],
        )
      } finally {
        rmSync(imports, { force: true })
      }
    },
  }
}

function nativeObject(source: string): Target {
  return {
    output: join(dist, 'pointsman.native.o'),
    source,
    inputs: headers,
    make: (output) => clang(['-O2', '-g', '-fPIC', ...WARNINGS], ['-c', source, '-o', output]),
  }
}

/**
 * Static: scripts call ipvsadm in loops, and the dynamic linker would be most of its run time.
 * bin/ipvsadm chooses by the machine's name, which is the kernel's.
 */
function nativeClient(source: string, machine: Machine): Target {
  const cross = machine === MACHINES[process.arch] ? [] : [`--target=${machine}-linux-gnu`, '-fuse-ld=lld']
  return {
    output: join(dist, `ipvsadm-${machine}`),
    source,
    inputs: files('control/cli', '.h'),
    make: async (output) => {
      try {
        await clang(['-O2', '-static', '-s', ...cross, ...WARNINGS], [source, '-o', output])
      } catch (error) {
        throw withMissingLibc(error, machine)
      }
    },
  }
}

/** What the compiler says of another machine's library is what it looked for, not where it comes from. */
function withMissingLibc(error: unknown, machine: Machine): unknown {
  if (machine === MACHINES[process.arch] || existsSync(`/usr/${machine}-linux-gnu/lib/libc.a`)) return error
  return new Error(`the C library for ${machine} is missing: apt-get install ${CROSS_LIBC[machine]}`)
}

/** For programs of others, so it hides all but the functions it stands in front of. */
function preloadLibrary(source: string, machine: Machine): Target {
  const cross = machine === MACHINES[process.arch] ? [] : [`--target=${machine}-linux-gnu`, '-fuse-ld=lld']
  return {
    output: join(dist, `pointsman-preload-${machine}.so`),
    source,
    inputs: files('deploy/preload', '.h'),
    make: async (output) => {
      try {
        await clang(
          ['-O2', '-shared', '-fPIC', '-fvisibility=hidden', '-s', ...cross, ...WARNINGS],
          [source, '-o', output],
        )
      } catch (error) {
        throw withMissingLibc(error, machine)
      }
    },
  }
}

/** One ESM file; koffi stays outside, since it finds its native part relative to its own folder. */
const BUNDLE = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['koffi'],
  legalComments: 'none',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
  loader: { '.html': 'text', '.yaml': 'text' },
  // CommonJS dependencies ask for Node's own modules through require().
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
} satisfies BuildOptions

const bundled = [
  ...files('control', '.ts', '.json', '.html', '.yaml'),
  ...files('net', '.ts'),
  ...files('linux', '.ts'),
  ...files('dataplane', '.ts'),
  join(root, 'package-lock.json'),
]

function nodeBundle(source: string, output: string, inputs = bundled): Target {
  return {
    output,
    source,
    inputs,
    make: async (temporary) => {
      await bundle({ ...BUNDLE, entryPoints: [source], outfile: temporary })
    },
  }
}

/** What a browser gets; nothing of Node's. */
function pageBundle(source: string): Target {
  return {
    output: join(dist, 'page.js'),
    source,
    inputs: bundled,
    make: async (temporary) => {
      await bundle({
        ...{ bundle: true, format: 'esm', platform: 'browser', target: 'es2022', minify: true },
        ...{ legalComments: 'none', logLevel: 'warning', entryPoints: [source], outfile: temporary },
      })
    },
  }
}

/** All of it in one script that also runs from a file: the packet program is inside. */
function playgroundBundle(source: string): Target {
  const wasm = join(dist, 'pointsman.wasm')
  const verdicts = join(root, 'docs/verdicts.md')
  return {
    output: join(dist, 'playground.js'),
    source,
    inputs: [...bundled, wasm, verdicts],
    make: async (temporary) => {
      const program = gzipSync(readFileSync(wasm), { level: 9 }).toString('base64')
      await bundle({
        ...{ bundle: true, format: 'iife', platform: 'browser', target: 'es2022', minify: true },
        ...{ legalComments: 'none', logLevel: 'warning', entryPoints: [source], outfile: temporary },
        define: {
          PACKET_PROGRAM: JSON.stringify(program),
          VERDICTS: JSON.stringify(readFileSync(verdicts, 'utf8')),
        },
      })
    },
  }
}

/** Made above, and put where whoever reads the documentation finds it. */
function playgroundPart(name: string, as = name): Target {
  const source = join(dist, name)
  return {
    output: join(root, 'docs/playground', as),
    source,
    inputs: [],
    make: async (temporary) => copyFileSync(source, temporary),
  }
}

function copied(source: string): Target {
  return {
    output: join(dist, basename(source)),
    source,
    inputs: [],
    make: async (temporary) => copyFileSync(source, temporary),
  }
}

function noticeFile(sources: readonly string[]): Target {
  return {
    output: join(dist, 'THIRD-PARTY.txt'),
    source: join(root, 'scripts/notices.ts'),
    inputs: bundled,
    make: async (temporary) => {
      const { metafile } = await bundle({
        ...BUNDLE,
        absWorkingDir: root,
        entryPoints: [...sources],
        outdir: dist,
        write: false,
        metafile: true,
      })
      writeFileSync(temporary, notices(root, Object.keys(metafile.inputs)))
    },
  }
}

async function clang(mode: readonly string[], rest: readonly string[]): Promise<void> {
  try {
    const { stderr } = await run('clang', [...mode, ...rest], { cwd: root })
    if (stderr !== '') process.stderr.write(stderr)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error('clang is not installed: apt-get install clang lld libbpf-dev libc6-dev')
    }
    throw new Error(error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error))
  }
}

function isUpToDate(target: Target): boolean {
  if (!existsSync(target.output)) return false
  const built = statSync(target.output).mtimeMs
  return [target.source, fileURLToPath(import.meta.url), ...target.inputs].every(
    (path) => statSync(path).mtimeMs <= built,
  )
}

/** True when the target is there afterwards or could not be expected to be. */
async function buildTarget(target: Target, force: boolean): Promise<boolean> {
  const name = relative(root, target.output)
  if (!existsSync(target.source)) {
    console.log(`skip ${name}: no ${relative(root, target.source)} yet`)
    return true
  }
  if (!force && isUpToDate(target)) return true
  const temporary = `${target.output}.${process.pid}.tmp`
  const started = new Date()
  try {
    mkdirSync(dirname(target.output), { recursive: true })
    await target.make(temporary)
    // An input edited while the compiler ran must look newer than the output.
    utimesSync(temporary, started, started)
    renameSync(temporary, target.output)
    console.log(`built ${name} in ${Date.now() - started.getTime()} ms`)
    return true
  } catch (error) {
    console.error(`Cannot build ${name}: ${error instanceof Error ? error.message : error}`)
    return false
  } finally {
    rmSync(temporary, { force: true })
  }
}

function layoutIsFresh(): boolean {
  const object = join(dist, 'pointsman.bpf.o')
  return !existsSync(object) || updateLayout(object, undefined, { check: true })
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      force: { type: 'boolean', default: false },
      'every-machine': { type: 'boolean', default: false },
    },
  })
  const machines = Object.entries(MACHINES).filter(
    ([arch]) => values['every-machine'] || arch === process.arch,
  )
  const at = (path: string) => join(root, path)
  const program = [
    bpfObject(at('bpf/pointsman.bpf.c')),
    bpfObject(at('bpf/pointsman-tc.bpf.c')),
    bpfObject(at('bpf/pointsman-recording.bpf.c'), at('bpf/pointsman.bpf.c')),
    bpfObject(at('bpf/pointsman-tc-recording.bpf.c'), at('bpf/pointsman-tc.bpf.c')),
    bpfObject(at('bpf/pointsman-cut.bpf.c')),
    bpfObject(at('bpf/pointsman-out.bpf.c')),
    bpfObject(at('bpf/pointsman-own.bpf.c')),
    bpfObject(at('bpf/pointsman-relay.bpf.c')),
    bpfObject(at('bpf/steer.bpf.c')),
    bpfObject(at('bpf/failures.bpf.c')),
    wasmObject(at('bpf/pointsman.wasm.c')),
    nativeObject(at('bpf/pointsman.native.c')),
    ...machines.map(([, machine]) => nativeClient(at('control/cli/ipvsadm.c'), machine!)),
    ...machines.map(([, machine]) => preloadLibrary(at('deploy/preload/pointsman-preload.c'), machine!)),
    ...['lab', 'bench', 'test']
      .flatMap((folder) => files(folder, '.bpf.c'))
      .map((source) => bpfObject(source)),
  ]
  const programs = [
    at('control/daemon/pointsmand.ts'),
    at('control/cli/pointsman.ts'),
    at('control/health/checker/pointsman-checker.ts'),
    at('dataplane/userspace/forwarder/pointsman-forwarder.ts'),
    at('dataplane/userspace/worker/packet-worker.ts'),
    at('control/source/thread/site-worker.ts'),
    at('control/insight/explain/thread/explain-thread.ts'),
  ]
  const ofTheLab = ['server', 'client-process'].map((name) => at(`lab/${name}.ts`))
  const bundles = [
    ...ofTheLab.map((source) =>
      nodeBundle(source, join(dist, 'lab', basename(source).replace(/\.ts$/, '.js')), files('lab', '.ts')),
    ),
    ...programs.map((source) => nodeBundle(source, join(dist, basename(source).replace(/\.ts$/, '.js')))),
    pageBundle(at('control/cli/page/browser/page.ts')),
    copied(at('control/cli/page/page.html')),
    copied(at('control/cli/page/page.css')),
    playgroundBundle(at('control/cli/page/browser/playground.ts')),
    copied(at('control/cli/page/playground/playground.html')),
    noticeFile(programs),
  ]
  const compiled = await Promise.all(program.map((target) => buildTarget(target, values.force)))
  const fresh = layoutIsFresh()
  const rest = await Promise.all(bundles.map((target) => buildTarget(target, values.force)))
  const parts = [
    playgroundPart('playground.html', 'index.html'),
    playgroundPart('playground.js'),
    playgroundPart('page.css'),
  ]
  const placed = await Promise.all(parts.map((target) => buildTarget(target, values.force)))
  const complete = fresh && [...compiled, ...rest, ...placed].every(Boolean)
  if (complete && values['every-machine']) removeLeftovers([...program, ...bundles])
  return complete ? 0 : 1
}

/** A package takes what dist/ holds: a bundle that has another name now must not come along. */
function removeLeftovers(targets: readonly Target[]): void {
  const made = new Set(targets.flatMap(({ output }) => [output, dirname(output)]))
  for (const name of readdirSync(dist)) {
    const path = join(dist, name)
    if (!made.has(path) && !name.endsWith('.tmp')) rmSync(path, { recursive: true })
  }
}

process.exitCode = await main()
