/**
 * Writes control/front/api/openapi.json from the routes, and deploy/pointsman.schema.json from the definition
 * of configuration files; tests check that they are fresh. Format them afterwards: npm run format
 */
import { writeFileSync } from 'node:fs'
import { openApiText } from '../control/front/api/openapi.ts'
import { jsonSchemaText } from '../control/source/file/schema.ts'

writeFileSync(new URL('../control/front/api/openapi.json', import.meta.url), openApiText())
writeFileSync(new URL('../deploy/pointsman.schema.json', import.meta.url), jsonSchemaText())
