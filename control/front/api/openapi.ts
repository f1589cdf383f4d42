/** The OpenAPI document, made from the table of routes and their schemas. */
import { z } from 'zod'
import type { Route } from './route.ts'
import { ROUTES } from './routes.ts'
import { errorAnswer } from './schema/basic.ts'

type Json = Record<string, unknown>

/** Schemas that have a name stand once, among the components, and are referred to by it. */
class Components {
  readonly schemas: Record<string, Json> = {}

  /** @param io requests may leave out what has a default, answers never do */
  schema(schema: z.ZodType, io: 'input' | 'output'): Json {
    const text = JSON.stringify(z.toJSONSchema(schema, { io, target: 'draft-2020-12' }))
    const {
      $schema: _,
      $defs,
      ...root
    }: Json = JSON.parse(text.replaceAll('"#/$defs/', '"#/components/schemas/'))
    for (const [name, definition] of Object.entries($defs ?? {})) this.#add(name, definition)
    return typeof root.id === 'string' ? this.#add(root.id, root) : root
  }

  #add(name: string, { id: _, ...definition }: Json): Json {
    const known = this.schemas[name]
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(definition)) {
      throw new TypeError(`Two schemas are named ${name}: one of requests, one of answers`)
    }
    this.schemas[name] = definition
    return { $ref: `#/components/schemas/${name}` }
  }
}

const json = (schema: Json): Json => ({ content: { 'application/json': { schema } } })

function operation(route: Route, components: Components): Json {
  const parameters = (['params', 'query'] as const).flatMap((part) =>
    Object.entries(route[part]?.shape ?? {}).map(([name, schema]) => ({
      name,
      in: part === 'params' ? 'path' : 'query',
      required: part === 'params',
      schema: components.schema(schema, 'input'),
    })),
  )
  const answers = Object.entries(route.answers).map(([status, { description, schema }]) => [
    status,
    { description, ...(schema === undefined ? {} : json(components.schema(schema, 'output'))) },
  ])
  const refused = {
    description: 'Malformed, or refused as IPVS would',
    ...json(components.schema(errorAnswer, 'output')),
  }
  return {
    summary: route.summary,
    parameters,
    ...(route.body === undefined ? {} : { requestBody: json(components.schema(route.body, 'input')) }),
    responses: { ...Object.fromEntries(answers), '4XX': refused },
  }
}

export function openApiDocument(): object {
  const components = new Components()
  const paths: Record<string, Json> = {}
  for (const route of ROUTES) {
    paths[route.path] = {
      ...paths[route.path],
      [route.method.toLowerCase()]: operation(route, components),
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'pointsman',
      version: '1',
      description:
        'The control API of pointsmand, on a unix socket. Counters are 64-bit numbers, exact below 2^53. A change is in force for packets when its answer arrives.',
    },
    paths,
    components,
  }
}

/** The text of control/front/api/openapi.json. */
export function openApiText(): string {
  return `${JSON.stringify(openApiDocument(), null, 2)}\n`
}
