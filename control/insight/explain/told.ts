/** What is told of a packet: its way, step by step, in lines of text that say how they are meant. */

/** How a line is meant, for whoever colours it. */
export type Mark = 'good' | 'bad' | 'chosen' | 'added' | 'removed' | 'quiet'

export interface Line {
  readonly text: string
  readonly mark?: Mark | undefined
}

export interface Step {
  readonly title: string
  readonly lines: readonly Line[]
}

export interface Explanation {
  readonly interface: string
  readonly verdict: string
  readonly action: 'pass' | 'drop' | 'send'
  readonly meaning: string
  readonly remedy: string
  readonly service: string | null
  readonly realServer: string | null
  readonly connection: 'found' | 'made' | 'none'
  /** Where the frame leaves; null if it does not. */
  readonly leaves: string | null
  /** The frame as it came and as it left, in hexadecimal. */
  readonly frame: { readonly before: string; readonly after: string | null }
  readonly steps: readonly Step[]
}
