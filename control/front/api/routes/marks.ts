/** Marking rules: which packets have which firewall mark. */
import { noContent, type Route, route, settled } from '../route.ts'
import { markRules, marksAnswer, marksBody, marksJson } from '../schema/mark.ts'

export const MARK_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/marks',
    summary: 'Marking rules, the most specific first',
    answers: { 200: { description: 'Rules', schema: marksAnswer } },
    handle: ({ director }) => ({ status: 200, json: marksJson(director.marks()) }),
  }),
  route({
    method: 'POST',
    path: '/v1/marks',
    summary: 'Change marking rules, all at once',
    body: marksBody,
    answers: { 204: { description: 'In force' } },
    handle: (context, { body }) => {
      const change = {
        add: body.add.flatMap(markRules),
        delete: body.delete.flatMap(markRules),
        flush: body.flush,
      }
      return settled(context, 'body', context.director.changeMarks(change), noContent)
    },
  }),
]
