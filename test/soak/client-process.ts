/** The client of the soak, inside its namespace: does what `traffic.ts` asks for. */
import { Datagrams } from './datagrams.ts'
import { answerQuestions } from './peer.ts'
import { servicesFor } from './services.ts'
import { Transfers } from './transfers.ts'

const transfers = new Transfers(servicesFor('http'))
const datagrams = new Datagrams()

answerQuestions({
  openLong: (perService) => transfers.openLong(Number(perService)),
  start: async () => {
    await datagrams.open([...servicesFor('echo'), ...servicesFor('sink')])
    transfers.start()
  },
  pauseDatagrams: () => datagrams.pause(),
  beginPhase: (phase) => datagrams.begin(Number(phase)),
  pauseTransfers: () => transfers.pause(),
  resumeTransfers: () => transfers.resume(),
  transfers: () => transfers.report(),
  end: async () => {
    datagrams.close()
    await transfers.end()
    return transfers.report()
  },
})
