/** Recording packets, for whoever may change the director: what clients send is in it. */
import { type Answer, invalid, noContent, type Route, route } from '../route.ts'
import { captureAsked, recordingBody } from '../schema/recording.ts'

export const RECORDING_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/v1/recording',
    summary:
      'Record packets as they come and as they leave, until a limit, or until the client goes; one at a time',
    body: recordingBody,
    answers: { 200: { description: 'application/x-pcapng, as it comes; statistics at its end' } },
    handle: async ({ record, journal }, { body }): Promise<Answer> => {
      const tell = (words: string): void => void journal.add({ kind: 'dataplane', about: 'recording', words })
      const asked = captureAsked(body)
      const capture = await record(asked, (words) => tell(`ended: ${words}`))
      tell(`begun: ${asked.words}`)
      return {
        status: 200,
        headers: { 'content-type': 'application/x-pcapng', 'cache-control': 'no-store' },
        follow: (write, close) => capture.follow(write, close),
      }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/recording',
    summary: 'End the recording that goes on',
    answers: { 204: { description: 'Ended' } },
    handle: async ({ endRecording }) =>
      (await endRecording('it was called off'))
        ? noContent()
        : invalid([{ path: 'url', message: 'Nobody records packets' }], 404),
  }),
]
