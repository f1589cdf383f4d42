/**
 * The licences of what is not ours in what we ship: npm packages inside the bundles, as esbuild found
 * them, koffi beside them, and the C library inside the static clients.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Licences whose only demand is that their text comes along. */
const PERMISSIVE = new Set([
  'MIT',
  'ISC',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
])

/** Loaded at run time instead of bundled. */
const BESIDE = ['node_modules/koffi']

const C_LIBRARY = `GNU C Library (in dist/ipvsadm-*, linked statically)
licence: LGPL-2.1-or-later
sources: those of the distribution that built the package (Debian: apt-get source glibc)

ipvsadm-* can be linked again with another version of the library: its source is
control/cli/ipvsadm.c, and the command is
clang -O2 -static -s control/cli/ipvsadm.c -o dist/ipvsadm-$(uname -m)
The text of the licence: /usr/share/common-licenses/LGPL-2.1,
https://www.gnu.org/licenses/old-licenses/lgpl-2.1.txt`

interface PackageJson {
  readonly name: string
  readonly version: string
  readonly license?: string
}

/** `node_modules/a/node_modules/@b/c/lib/x.js` is of `node_modules/a/node_modules/@b/c`; ours of none. */
export function packageFolder(path: string): string | null {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? null
}

/**
 * @param root folder of node_modules
 * @param inputs files that went into the bundles, relative to root
 */
export function notices(root: string, inputs: Iterable<string>): string {
  const folders = new Set(BESIDE)
  for (const path of inputs) {
    const folder = packageFolder(path)
    if (folder !== null) folders.add(folder)
  }
  const texts = [...folders].sort().map((folder) => noticeOf(join(root, folder)))
  return `${[HEAD, ...texts, C_LIBRARY].join(`\n\n${'-'.repeat(72)}\n\n`)}\n`
}

const HEAD = 'pointsman is MIT licensed, see LICENSE. It is delivered with parts of others:'

function noticeOf(folder: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  ) as PackageJson
  if (license === undefined || !PERMISSIVE.has(license)) {
    throw new Error(
      `${name} has licence ${license ?? '(none)'}: read it before it is bundled, then add it to scripts/notices.ts`,
    )
  }
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)(\.|-|$)/i.test(entry))
  const text =
    file === undefined || !existsSync(join(folder, file)) ? '' : readFileSync(join(folder, file), 'utf8')
  return `${name} ${version}\nlicence: ${license}\n\n${text.trim()}`.trim()
}
