/**
 * Moves a running director from one data plane to another: rules, connections and counters go along,
 * established connections do not notice. Nothing else may publish rules meanwhile.
 */
import { copyMaps } from './copy.ts'
import { type Dataplane, throwRefusals, type WantedInterface } from './dataplane.ts'

/** A plane that can leave frames waiting while its maps are exchanged. */
interface Holding {
  hold(): Promise<void>
  resume(): Promise<void>
}

function holding(plane: Dataplane): Holding | null {
  return 'hold' in plane && 'resume' in plane ? (plane as Dataplane & Holding) : null
}

/**
 * Both planes are open and have the same sizes; afterwards `to` takes packets from `interfaces` and
 * `from` is detached (its caller closes it). If `to` cannot attach, `from` goes on as before.
 *
 * Towards a plane that holds, packets wait in its rings from the moment the old plane lets go until
 * the maps have been copied. Away from it, what waits when the new plane takes over is lost: some
 * milliseconds' worth, which the ends send again.
 */
export async function changePlane(
  from: Dataplane,
  to: Dataplane,
  interfaces: readonly WantedInterface[],
): Promise<void> {
  const target = holding(to)
  const source = holding(from)
  await target?.hold()
  await source?.hold()
  try {
    // With the rules in place the new plane can claim what it will take.
    copyMaps(from, to)
    throwRefusals(await to.attach(interfaces))
  } catch (error) {
    await source?.resume()
    throw error
  }
  await from.detach()
  // What happened to connections between the copy and the end of the old plane.
  if (target !== null) copyMaps(from, to)
  await target?.resume()
}
