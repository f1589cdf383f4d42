import { vectorTests } from './vector-tests.ts'

vectorTests('wasm', null)
