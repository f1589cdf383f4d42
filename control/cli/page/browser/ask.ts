/** Questions to the director that the page came from. */

const TOKEN = 'pointsman-token'

/** It stays in this tab. */
export function keepToken(token: string): void {
  sessionStorage.setItem(TOKEN, token)
}

/** The director does not answer, or not with what was asked for. */
export class Refused extends Error {
  override readonly name = 'Refused'
}

/** Null: a token is wanted. */
export async function ask<T>(path: string): Promise<T | null> {
  const token = sessionStorage.getItem(TOKEN)
  const headers: HeadersInit = token === null ? {} : { authorization: `Bearer ${token}` }
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(30_000) })
  if (answer.status === 401) return null
  if (!answer.ok) throw new Refused(await whyNot(answer))
  return (await answer.json()) as T
}

async function whyNot(answer: Response): Promise<string> {
  try {
    const { error } = (await answer.json()) as { readonly error: { readonly message: string } }
    return error.message
  } catch {
    return `the director answered ${answer.status}`
  }
}
