/** A packet program for the tests of a `describe`: there before the first of them, gone after the last. */
import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import type { Program } from './programs.ts'

/** @returns the program, for use within the tests; with `skip` none is opened */
export function openedProgram(open: () => Promise<Program>, skip: string | false): () => Program {
  let program: Program | undefined
  before(async () => {
    if (skip === false) program = await open()
  })
  after(async () => await program?.close())
  return () => {
    assert.ok(program)
    return program
  }
}
