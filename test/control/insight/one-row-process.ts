/** Prints what each of those who show counters makes of a director, as JSON. */
import { counts, services } from '../../../control/cli/page/content.ts'
import { page } from '../../../control/cli/top/screen.ts'
import { START, withOverview } from '../../../control/cli/top/view.ts'
import { SORTS } from '../../../control/counting/measures.ts'
import { overviewAnswer } from '../../../control/front/api/schema/overview.ts'
import { LiveRecord } from '../../../dataplane/layout/layout.gen.ts'
import { scene } from './counting-director.ts'

const { dataplane, collector, text } = await scene()
dataplane.map('live').u32[LiveRecord.offsets.active / 4] = 21
const overview = overviewAnswer.parse(await collector.overview({ sort: SORTS[0]! }))
const view = withOverview(START, overview, 0)
process.stdout.write(
  JSON.stringify({
    metrics: await text(),
    overview,
    top: page(view, 120, 0).map((row) => row.text),
    services: services(view),
    counts: counts(view),
    sorts: SORTS,
  }),
)
