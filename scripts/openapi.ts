/** Writes control/front/api/openapi.json from the routes; a test checks that it is fresh. */
import { writeFileSync } from 'node:fs'
import { openApiText } from '../control/front/api/openapi.ts'

writeFileSync(new URL('../control/front/api/openapi.json', import.meta.url), openApiText())
