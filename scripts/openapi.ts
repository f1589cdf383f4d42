/** Writes control/openapi.json from the routes; a test checks that it is fresh. */
import { writeFileSync } from 'node:fs'
import { openApiText } from '../control/openapi.ts'

writeFileSync(new URL('../control/openapi.json', import.meta.url), openApiText())
