/** Addresses that full NAT gives connections for a source. */
import { noContent, type Route, route, settled } from '../route.ts'
import { fullNatAnswer, fullNatBody, fullNatChange, fullNatJson } from '../schema/full-nat.ts'

export const FULL_NAT_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/full-nat',
    summary: 'Addresses of full NAT, and their ports',
    answers: { 200: { description: 'Addresses', schema: fullNatAnswer } },
    handle: ({ director }) => ({ status: 200, json: fullNatJson(director.fullNat(), director.portsTaken()) }),
  }),
  route({
    method: 'POST',
    path: '/v1/full-nat',
    summary: 'Change the addresses of full NAT, all at once',
    body: fullNatBody,
    answers: { 204: { description: 'In force' } },
    handle: (context, { body }) =>
      settled(context, 'body', context.director.changeFullNat(fullNatChange(body)), noContent),
  }),
]
