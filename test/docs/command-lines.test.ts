/** Manual pages and completion know every word and every option that `--help` does, and no others. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('../..', import.meta.url))
const SOURCES = { pointsmand: 'control/daemon/pointsmand.ts', pointsman: 'control/cli/pointsman.ts' }
type Program = keyof typeof SOURCES

/** Bundled first: each of some dozen calls would compile them again. */
const bundles = join(root, 'test/tmp', `help-${process.pid}`)
await build({
  entryPoints: Object.values(SOURCES).map((path) => join(root, path)),
  outdir: bundles,
  outExtension: { '.js': '.mjs' },
  entryNames: '[name]',
  bundle: true,
  format: 'esm',
  platform: 'node',
  external: ['koffi'],
  loader: { '.html': 'text', '.yaml': 'text' },
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
})
after(() => rmSync(bundles, { recursive: true }))

function help(program: Program, ...words: readonly string[]): string {
  return execFileSync(process.execPath, [join(bundles, `${program}.mjs`), ...words, '--help'], {
    encoding: 'utf8',
  })
}

/** Long options, `--help` left out: every program has it. */
function optionsOf(text: string): string[] {
  const names = [...text.matchAll(/^ {2}(?:-\w, )?(--[a-z][a-z0-9-]*)/gm)].map(([, name]) => name!)
  return names.filter((name) => name !== '--help')
}

function commandsOf(text: string): string[] {
  const list = text.slice(text.indexOf('\nCommands:\n'))
  return [...list.matchAll(/^ {2}([a-z][a-z-]*)/gm)]
    .map(([, name]) => name!)
    .filter((name) => name !== 'help')
}

/** Flags and command words that a manual page names, macros and their quoting taken off. */
function manual(program: Program): {
  readonly flags: Set<string>
  readonly words: Set<string>
  readonly tags: string
} {
  const text = readFileSync(join(root, 'man', `${program}.8`), 'utf8')
  const flags = [...text.matchAll(/\bFl (?:\w ,? ?)?\\-([a-z][a-z0-9-]*)/g)].map(([, name]) => `--${name}`)
  for (const [, name] of text.matchAll(/, \\-([a-z][a-z0-9-]*)/g)) flags.push(`--${name}`)
  const words = [...text.matchAll(/^\.It Cm ([a-z-]+)/gm)].map(([, name]) => name!)
  const tags = [...text.matchAll(/^\.It Fl .*$/gm)].map(([line]) => line).join('\n')
  return { flags: new Set(flags), words: new Set(words), tags }
}

function complete(program: Program, words: readonly string[]): string[] {
  const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _${program}; printf '%s\\n' "\${COMPREPLY[@]}"`
  const file = join(root, 'deploy/completion/pointsman.bash')
  const output = execFileSync('bash', ['--norc', '-c', script, 'bash', file, program, ...words], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', POINTSMAN_SOCKET: '/nonexistent' },
  })
  return output.split('\n').filter((line) => line !== '')
}

function sorted(names: Iterable<string>): string[] {
  return [...new Set(names)].filter((name) => name !== '--help').sort()
}

describe('pointsmand', () => {
  const options = optionsOf(help('pointsmand'))

  test('has its options described in the manual', () => {
    assert.ok(options.length >= 12, `--help has ${options.join(' ')}`)
    const { flags, tags } = manual('pointsmand')
    // Every program has --version, and its page need not say so.
    assert.deepEqual(sorted(flags), sorted(options.filter((name) => name !== '--version')))
    const undescribed = options.filter(
      (name) => name !== '--version' && !tags.includes(`\\-${name.slice(2)}`),
    )
    assert.deepEqual(undescribed, [])
  })

  test('has its options completed, and their choices', () => {
    assert.deepEqual(sorted(complete('pointsmand', ['--'])), sorted(options))
    let withChoices = 0
    for (const entry of help('pointsmand').split(/^ {2}(?=-)/m)) {
      const name = /--[a-z-]+/.exec(entry)?.[0] ?? ''
      const list = /\(choices:\s+(.*?)(?:,\s+default:\s.*)?\)/s.exec(entry)?.[1]
      if (list === undefined) continue
      withChoices++
      const choices = [...list.matchAll(/"([^"]+)"/g)].map(([, choice]) => choice!)
      assert.deepEqual(sorted(complete('pointsmand', [name, ''])), sorted(choices), name)
    }
    assert.ok(withChoices >= 4)
  })
})

describe('pointsman', () => {
  const whole = help('pointsman')
  const commands = commandsOf(whole)
  /** With those of the words that some words take. */
  const optionsOfWord = (name: string): string[] => {
    const text = help('pointsman', name)
    const words = text.includes('\nCommands:\n') ? commandsOf(text) : []
    return [...optionsOf(text), ...words.flatMap((word) => optionsOf(help('pointsman', name, word)))]
  }
  const options = new Map(commands.map((name) => [name, optionsOfWord(name)]))

  test('has its words and options described in the manual', () => {
    assert.ok(commands.includes('doctor') && commands.includes('detach'), `--help has ${commands.join(' ')}`)
    const { flags, words } = manual('pointsman')
    assert.deepEqual(sorted(words), sorted(commands))
    const all = [...optionsOf(whole), ...[...options.values()].flat()]
    assert.deepEqual(sorted(flags), sorted(all.filter((name) => name !== '--version')))
  })

  test('has its words completed, and the options of each', () => {
    const first = complete('pointsman', [''])
    assert.deepEqual(sorted(first), sorted([...commands, ...optionsOf(whole)]))
    for (const [name, its] of options)
      assert.deepEqual(sorted(complete('pointsman', [name, '--'])), sorted(its), name)
  })
})
