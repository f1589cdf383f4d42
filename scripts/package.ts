/**
 * Builds a Debian package of what `npm pack` takes: `npm run package [-- --arch amd64|arm64] [--output DIR]`.
 *
 * It brings everything but Node: nothing is fetched or compiled when it is installed. dpkg-deb packs it;
 * debhelper would want a Debian source package, for a list of files and four short scripts.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'

const repository = join(dirname(fileURLToPath(import.meta.url)), '..')
const debian = join(repository, 'deploy/debian')

/** Names of one machine: Debian's, Node's, the kernel's. */
const MACHINES = {
  amd64: { node: 'x64', kernel: 'x86_64' },
  arm64: { node: 'arm64', kernel: 'aarch64' },
} as const
type Architecture = keyof typeof MACHINES

/** Where the package lies; the same tree as in a checkout, less what does not run. */
const HOME = 'usr/lib/pointsman'
const PROGRAMS = ['pointsmand', 'pointsman', 'ipvsadm', 'ipvsadm-save', 'ipvsadm-restore']
const DIST = [
  'pointsman.bpf.o',
  'pointsman-cut.bpf.o',
  'pointsman-out.bpf.o',
  'pointsman-own.bpf.o',
  'pointsman-relay.bpf.o',
  'pointsman-tc.bpf.o',
  'pointsman-recording.bpf.o',
  'pointsman-tc-recording.bpf.o',
  'steer.bpf.o',
  'failures.bpf.o',
  'pointsman.wasm',
  'page.html',
  'page.css',
  'playground.html',
  'THIRD-PARTY.txt',
]
/** Of koffi its JavaScript; its C++ and documentation do not run. */
const KOFFI = /^(package\.json|LICENSE\.txt|index\.js|src\/koffi\/.*\.js)$/

const DEPENDS = [
  // Debian 13 has it; for Debian 12 it comes from NodeSource's packages of the same name.
  'nodejs (>= 20)',
  'libbpf1',
  'nftables',
  'libc6 (>= 2.34)',
  'libstdc++6',
  'init-system-helpers (>= 1.52)',
  'passwd',
]

interface PackageJson {
  readonly version: string
  readonly description: string
  readonly dependencies: { readonly koffi: string }
}

const packageJson = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as PackageJson

/** The moment of the commit, so that the same sources give the same package. */
function moment(): Date {
  const stated = process.env.SOURCE_DATE_EPOCH
  if (stated !== undefined) return new Date(Number(stated) * 1000)
  try {
    const seconds = execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: repository, encoding: 'utf8' })
    return new Date(Number(seconds) * 1000)
  } catch {
    return new Date()
  }
}

class Tree {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  #place(path: string): string {
    const place = join(this.#root, path)
    mkdirSync(dirname(place), { recursive: true })
    return place
  }

  copy(from: string, to: string, mode = 0o644): void {
    const place = this.#place(to)
    cpSync(from, place)
    chmodSync(place, mode)
  }

  write(to: string, content: string | Buffer, mode = 0o644): void {
    const place = this.#place(to)
    writeFileSync(place, content)
    chmodSync(place, mode)
  }

  link(at: string, target: string): void {
    symlinkSync(target, this.#place(at))
  }

  kibibytes(): number {
    const files = readdirSync(this.#root, { recursive: true, encoding: 'utf8' })
    return files.reduce((sum, path) => sum + Math.ceil(statSync(join(this.#root, path)).size / 1024), 0)
  }
}

function isProgram(path: string): boolean {
  return readFileSync(path).subarray(0, 2).toString() === '#!'
}

function compressed(text: string | Buffer): Buffer {
  return gzipSync(text, { level: 9 })
}

/** The folder that holds koffi for a machine: ours if it is this one's, else what npm fetches for it. */
function modulesFor(architecture: Architecture, scratch: string): string {
  const native = `node_modules/@koromix/koffi-linux-${MACHINES[architecture].node}`
  if (existsSync(join(repository, native))) return join(repository, 'node_modules')
  for (const name of ['package.json', 'package-lock.json'])
    cpSync(join(repository, name), join(scratch, name))
  const options = ['--omit=dev', '--os=linux', `--cpu=${MACHINES[architecture].node}`, '--ignore-scripts']
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefer-offline', ...options], { cwd: scratch })
  return join(scratch, 'node_modules')
}

function layProgram(tree: Tree, architecture: Architecture, scratch: string): void {
  const dist = join(repository, 'dist')
  const { node, kernel } = MACHINES[architecture]
  for (const path of ['package.json', 'docs/verdicts.md'])
    tree.copy(join(repository, path), `${HOME}/${path}`)
  for (const name of [...DIST, ...readdirSync(dist).filter((name) => name.endsWith('.js'))])
    tree.copy(join(dist, name), `${HOME}/dist/${name}`, isProgram(join(dist, name)) ? 0o755 : 0o644)
  tree.copy(join(dist, `pointsman-preload-${kernel}.so`), `${HOME}/pointsman-preload.so`)
  for (const name of PROGRAMS) {
    // One machine, so nothing has to choose: the client itself.
    const source = name === 'ipvsadm' ? join(dist, `ipvsadm-${kernel}`) : join(repository, 'bin', name)
    tree.copy(source, `${HOME}/bin/${name}`, 0o755)
    tree.link(`usr/sbin/${name}`, `../lib/pointsman/bin/${name}`)
  }
  const modules = modulesFor(architecture, scratch)
  for (const name of readdirSync(join(modules, 'koffi'), { recursive: true, encoding: 'utf8' }))
    if (KOFFI.test(name)) tree.copy(join(modules, 'koffi', name), `${HOME}/node_modules/koffi/${name}`)
  const native = `@koromix/koffi-linux-${node}`
  for (const name of ['package.json', 'index.js', `linux_${node}/koffi.node`])
    tree.copy(join(modules, native, name), `${HOME}/node_modules/${native}/${name}`)
}

function layDocumentation(tree: Tree, date: Date): void {
  for (const page of readdirSync(join(repository, 'man')))
    tree.write(
      `usr/share/man/man${page.at(-1)}/${page}.gz`,
      compressed(readFileSync(join(repository, 'man', page))),
    )
  for (const name of ['ipvsadm-save', 'ipvsadm-restore'])
    tree.link(`usr/share/man/man8/${name}.8.gz`, 'ipvsadm.8.gz')
  const doc = 'usr/share/doc/pointsman'
  for (const entry of readdirSync(join(repository, 'examples'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = join(entry.path, entry.name)
    tree.copy(file, join(doc, relative(repository, file)))
  }
  tree.copy(join(debian, 'copyright'), `${doc}/copyright`)
  tree.write(`${doc}/NEWS.gz`, compressed(readFileSync(join(repository, 'CHANGELOG.md'))))
  const changes = `pointsman (${packageJson.version}) unstable; urgency=medium

  * See NEWS.gz.

 -- ${MAINTAINER}  ${date.toUTCString().replace('GMT', '+0000')}
`
  tree.write(`${doc}/changelog.gz`, compressed(changes))
}

const MAINTAINER = 'The pointsman authors <pointsman@pointsman.invalid>'

function laySystem(tree: Tree): void {
  const deploy = join(repository, 'deploy')
  tree.copy(join(deploy, 'pointsmand.service'), 'usr/lib/systemd/system/pointsmand.service')
  tree.copy(
    join(debian, 'socket-group.conf'),
    'usr/lib/systemd/system/pointsmand.service.d/socket-group.conf',
  )
  tree.copy(join(deploy, 'pointsmand.default'), 'etc/default/pointsmand')
  for (const path of ['prometheus/pointsman.rules.yml', 'grafana/pointsman.json'])
    tree.copy(join(deploy, path), `usr/share/pointsman/${path}`)
  tree.copy(join(deploy, 'pointsman.schema.json'), 'usr/share/pointsman/pointsman.schema.json')
  const completions = 'usr/share/bash-completion/completions'
  tree.copy(join(deploy, 'completion/pointsman.bash'), `${completions}/pointsman`)
  tree.link(`${completions}/pointsmand`, 'pointsman')
  tree.copy(join(deploy, 'completion/ipvsadm.bash'), `${completions}/ipvsadm`)
  tree.copy(join(debian, 'lintian-overrides'), 'usr/share/lintian/overrides/pointsman')
}

function layControl(tree: Tree, architecture: Architecture): void {
  const control = {
    Package: 'pointsman',
    Version: packageJson.version,
    Architecture: architecture,
    Maintainer: MAINTAINER,
    'Installed-Size': tree.kibibytes(),
    Depends: DEPENDS.join(', '),
    Section: 'net',
    Priority: 'optional',
    Description: `layer-4 load balancer with the words of ipvsadm, on XDP
 pointsman forwards connections to real servers by network address
 translation, direct routing or tunnels, before the kernel's network stack
 sees them. Rules are set up with ipvsadm; those saved from kernel IPVS load
 here. Connections go on while the daemon is stopped or upgraded.
 .
 The programs of Debian's package ipvsadm, if it is installed, are kept as
 ipvsadm.ipvs and so on.`,
  }
  tree.write(
    'DEBIAN/control',
    Object.entries(control)
      .map(([field, value]) => `${field}: ${value}\n`)
      .join(''),
  )
  tree.write('DEBIAN/conffiles', '/etc/default/pointsmand\n')
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm'])
    tree.copy(join(debian, script), `DEBIAN/${script}`, 0o755)
}

/** @returns the path of the package */
export function buildPackage(architecture: Architecture, output: string): string {
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-deb-'))
  try {
    const root = join(scratch, 'root')
    mkdirSync(root, { mode: 0o755 })
    const tree = new Tree(root)
    const date = moment()
    layProgram(tree, architecture, scratch)
    layDocumentation(tree, date)
    laySystem(tree)
    layControl(tree, architecture)
    for (const path of ['', ...readdirSync(root, { recursive: true, encoding: 'utf8' })])
      if (statSync(join(root, path)).isDirectory()) chmodSync(join(root, path), 0o755)
    mkdirSync(output, { recursive: true })
    const file = join(output, `pointsman_${packageJson.version}_${architecture}.deb`)
    execFileSync('dpkg-deb', ['--root-owner-group', '--build', root, file], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(Math.floor(date.getTime() / 1000)) },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    return file
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function main(): void {
  const own = Object.entries(MACHINES).find(([, { node }]) => node === process.arch)?.[0]
  const { values } = parseArgs({
    options: {
      arch: { type: 'string', default: own ?? 'amd64' },
      output: { type: 'string', default: '.' },
    },
  })
  const architecture = values.arch as Architecture
  if (MACHINES[architecture] === undefined) {
    throw new Error(`Cannot package for "${values.arch}": expected ${Object.keys(MACHINES).join(' or ')}`)
  }
  console.log(buildPackage(architecture, values.output))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
