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
 * Both planes are open and have the same sizes; afterwards one of them takes packets from `interfaces`. When
 * this throws it is `from`, as before. When it returns it is `to`, and `from` is detached (its caller closes
 * it); what did not go as it should on the last part of the way is returned in words.
 *
 * Towards a plane that holds, packets wait in its rings from the moment the old plane lets go until
 * the maps have been copied. Away from it, what waits when the new plane takes over is lost: some
 * milliseconds' worth, which the ends send again.
 */
export async function changePlane(
  from: Dataplane,
  to: Dataplane,
  interfaces: readonly WantedInterface[],
): Promise<readonly string[]> {
  const target = holding(to)
  const source = holding(from)
  try {
    await target?.hold()
    await source?.hold()
    // With the rules in place the new plane can claim what it will take.
    copyMaps(from, to)
    throwRefusals(await to.attach(interfaces))
  } catch (error) {
    // What a forwarder cannot be told it forgets with the next one.
    await source?.resume().catch(() => {})
    throw error
  }
  const complaints: string[] = []
  const complain = (what: string) => (error: unknown) =>
    void complaints.push(`${what}: ${error instanceof Error ? error.message : error}`)
  try {
    await from.detach()
  } catch (error) {
    if (await takesAgain(from, interfaces)) throw error
    complain('Cannot take off everything of the data plane that was')(error)
  }
  // What happened to connections between the copy and the end of the old plane.
  if (target !== null) copyMaps(from, to)
  // The old plane is gone: the new one has to go on with it, or to try again.
  await target?.resume().catch(complain('Cannot let packets go on yet'))
  return complaints
}

/** Whether a plane that could not let go of everything is at work again. */
async function takesAgain(plane: Dataplane, interfaces: readonly WantedInterface[]): Promise<boolean> {
  try {
    throwRefusals(await plane.attach(interfaces))
    await holding(plane)?.resume()
    return true
  } catch {
    return false
  }
}
