/** What every thread of a race does, whatever runs the program: sends its packets, and looks where they went. */
import { BATCH } from './race-setup.ts'
import { Dice, isRight, type Sent, type Tally, Traffic } from './race-traffic.ts'

/** Offset in the frame. */
const PROTOCOL = 23

/** Sends a batch; hears of every frame that left. */
export type Sender = (batch: readonly Sent[], left: (index: number, frame: Uint8Array) => void) => void

/** @param go is told of every batch; false ends it */
export function race(
  who: {
    readonly thread: number
    readonly threads: number
    readonly seed: number
    readonly interfaces: { readonly client: number; readonly server: number }
  },
  send: Sender,
  go: (tally: Tally) => boolean,
): void {
  const dice = new Dice(who.seed * 7919 + who.thread + 1)
  const traffic = new Traffic(who.thread, who.threads, who.interfaces)
  const tally: Tally = { packets: 0, right: 0, answers: 0, wrong: 0 }
  const batch: Sent[] = new Array<Sent>(BATCH)
  do {
    for (let index = 0; index < BATCH; index++) batch[index] = traffic.next(dice)
    send(batch, (index, frame) => {
      const sent = batch[index]!
      // Nobody could be chosen: the client is told so by ICMP.
      if (frame[PROTOCOL] !== sent.frame[PROTOCOL]) return
      if (!isRight(sent, frame)) tally.wrong++
      else if (sent.isAnswer) tally.answers++
      else tally.right++
    })
    tally.packets += BATCH
  } while (go(tally))
}
