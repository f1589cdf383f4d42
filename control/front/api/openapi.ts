/** The OpenAPI document, made from the table of routes and their schemas. */
import { z } from 'zod'
import { ROUTES, type Route } from './routes.ts'

const error = z
  .object({
    error: z.object({
      path: z.string().meta({ description: 'the field, e.g. body.servers.0.weight' }),
      message: z.string(),
      errno: z.string().optional().meta({ description: "IPVS's refusal, e.g. EEXIST" }),
    }),
  })
  .meta({ id: 'Error' })

function schemaOf(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', target: 'draft-2020-12' })
  return rest
}

function parameters(route: Route): object[] {
  return (['params', 'query'] as const).flatMap((part) =>
    Object.entries(route[part]?.shape ?? {}).map(([name, schema]) => ({
      name,
      in: part === 'params' ? 'path' : 'query',
      required: part === 'params',
      schema: schemaOf(schema),
    })),
  )
}

function operation(route: Route): object {
  const refused = {
    description: 'Malformed, or refused as IPVS would',
    content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
  }
  const answers = Object.entries(route.answers).map(([status, description]) => {
    const content = status === '204' ? {} : { content: { 'application/json': {} } }
    return [status, { description, ...content }] as const
  })
  return {
    summary: route.summary,
    parameters: parameters(route),
    ...(route.body === undefined
      ? {}
      : { requestBody: { content: { 'application/json': { schema: schemaOf(route.body) } } } }),
    responses: { ...Object.fromEntries(answers), '4XX': refused },
  }
}

export function openApiDocument(): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of ROUTES) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route) }
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
    components: { schemas: { Error: schemaOf(error) } },
  }
}

/** The text of control/front/api/openapi.json. */
export function openApiText(): string {
  return `${JSON.stringify(openApiDocument(), null, 2)}\n`
}
