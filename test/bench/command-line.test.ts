/** What the bench is asked for, and what it answers to nonsense. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { readCommandLine } from '../../bench/command-line.ts'

const read = (line: string) => readCommandLine(line === '' ? [] : line.split(' '), ['floor', 'wasm'])

describe('the command line', () => {
  it('asks for everything by default', () => {
    assert.deepEqual(read(''), {
      ...{ json: false, quick: false, sections: [], against: null, record: null, plots: null },
    })
  })

  it('compares with a commit, in a form for programs, for the record and as a picture', () => {
    assert.deepEqual(read('--against HEAD~3 --quick --json --record r.jsonl --plots p program wasm'), {
      ...{ json: true, quick: true, sections: ['program', 'wasm'] },
      ...{ against: 'HEAD~3', record: 'r.jsonl', plots: 'p' },
    })
  })

  it('says what is wrong, and what would be right', () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ['flor', /no section "flor": expected floor, wasm$/],
      ['program', /expected floor, wasm; program goes with --against REVISION/],
      ['--against HEAD flor', /expected program, floor, wasm$/],
      ['--record r.jsonl', /goes with --against/],
      ['--against= floor', /wants a commit: --against HEAD~1/],
      ['--plots= floor', /wants a path: --plots/],
      ['--against HEAD --record=', /wants a path: --record/],
      ['--against', /against/],
      ['--fast', /--fast/],
    ]
    for (const [line, says] of wrong) {
      const answer = read(line)
      assert.equal(typeof answer, 'string', line)
      assert.match(answer as string, says, line)
    }
  })
})
