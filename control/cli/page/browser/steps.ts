/** What is told of a packet, as elements of the lines that a terminal shows. */

import { signOf } from '../../../insight/explain/text.ts'
import type { Line, Step } from '../../../insight/explain/told.ts'

export function showSteps(into: HTMLElement, steps: readonly Step[]): void {
  into.replaceChildren(...steps.map(stepOf))
}

function stepOf({ title, lines }: Step): HTMLElement {
  const step = document.createElement('li')
  const heading = document.createElement('h3')
  heading.textContent = title
  const text = document.createElement('pre')
  text.append(...lines.map(lineOf))
  step.append(heading, text)
  return step
}

function lineOf(line: Line): HTMLElement {
  const shown = document.createElement('span')
  shown.textContent = `${signOf(line)} ${line.text}\n`
  if (line.mark !== undefined) shown.className = line.mark
  return shown
}
