/** The form that asks what would become of a packet. */
import type { Explanation } from '../../../insight/explain/told.ts'
import { ask } from './ask.ts'
import { part, setText } from './dom.ts'
import { showSteps } from './steps.ts'

const FIELDS = ['protocol', 'from', 'to', 'flags'] as const

/** Answers of earlier questions are not shown any more. */
let asked = 0

export function listenToExplain(): void {
  part('explain', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    void explain()
  }
}

async function explain(): Promise<void> {
  const query = new URLSearchParams()
  const frame = part('explain-frame', HTMLTextAreaElement).value.trim()
  if (frame !== '') query.set('frame', frame)
  else {
    for (const name of FIELDS) {
      const value = part(`explain-${name}`, HTMLElement) as HTMLInputElement | HTMLSelectElement
      if (value.value.trim() !== '') query.set(name, value.value.trim())
    }
  }
  const words = part('explain-words', HTMLElement)
  const steps = part('explain-steps', HTMLElement)
  const mine = ++asked
  steps.setAttribute('aria-busy', 'true')
  try {
    const explanation = await ask<Explanation>(`/v1/explain?${query}`)
    if (explanation === null || mine !== asked) return
    setText(words, `${explanation.verdict} on ${explanation.interface}`)
    showSteps(steps, explanation.steps)
  } catch (error) {
    if (mine !== asked) return
    setText(words, error instanceof Error ? error.message : String(error))
    steps.replaceChildren()
  } finally {
    if (mine === asked) steps.removeAttribute('aria-busy')
  }
}
