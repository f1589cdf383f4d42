/** Files of others: a keepalived.conf, rules that ipvsadm has saved. */
import { readdirSync, readFileSync } from 'node:fs'
import { ClientError } from '../front/api/client.ts'
import { systemNames } from '../front/ipvsadm/names.ts'
import { runIpvsadm, STDIN_WANTED } from '../front/ipvsadm/run.ts'
import { NO_SERVER_POLICY } from '../model/health-policy.ts'
import { NO_DIRECTOR_SETTINGS, placeText } from '../model/site.ts'
import { createDirector } from '../rules/director.ts'
import { fixedHost } from '../rules/host.ts'
import { siteDocument } from '../source/file/document.ts'
import { documentText } from '../source/file/write.ts'
import { type KeepalivedReading, readKeepalived, thisHost } from '../source/keepalived/read.ts'

const NAMES_TIMEOUT_MS = 5_000

function readConf(file: string, configId: unknown): KeepalivedReading {
  const files = {
    read: (path: string) => readFileSync(path, 'utf8'),
    list: (folder: string) => readdirSync(folder),
  }
  return readKeepalived(file, files, { ...thisHost(), ...(typeof configId === 'string' ? { configId } : {}) })
}

/** What is made of a keepalived.conf, and what is not. */
export function checkKeepalived(
  file: string,
  configId: unknown,
): { readonly json: unknown; readonly text: () => string; readonly status: number } {
  const { site, complaints, status } = readConf(file, configId)
  const services = site?.services ?? []
  const servers = services.reduce((sum, service) => sum + service.servers.length, 0)
  return {
    json: {
      good: site !== null,
      services: services.length,
      realServers: servers,
      complaints: complaints.map(({ at, message, severity }) => ({ at: placeText(at), message, severity })),
    },
    text: () => {
      const lines = complaints.map(({ at, message }) => `${placeText(at)}: ${message}\n`)
      if (site !== null) lines.push(`${file}: ${services.length} services, ${servers} real servers\n`)
      return lines.join('')
    },
    status,
  }
}

/** The file as one of ours. */
export async function importFile(file: string, say: (notice: string) => void): Promise<string> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new ClientError(`Cannot read "${file}": ${error instanceof Error ? error.message : error}`)
  }
  if (isSaved(text)) return await importSaved(text, say)
  const { site, complaints } = readConf(file, undefined)
  for (const { at, message } of complaints) say(`${placeText(at)}: ${message}`)
  if (site === null) throw new ClientError(`Cannot import "${file}"`)
  return documentText(siteDocument(site.director, site.services, site))
}

/** The first word of saved rules is an option. */
function isSaved(text: string): boolean {
  const first = text.split('\n').find((line) => line.trim() !== '' && !line.startsWith('#'))
  return first?.trimStart().startsWith('-') ?? false
}

async function importSaved(text: string, say: (notice: string) => void): Promise<string> {
  const director = createDirector({ host: fixedHost() })
  const names = systemNames()
  const argv = ['ipvsadm', '-R']
  const signal = AbortSignal.timeout(NAMES_TIMEOUT_MS)
  const result = await runIpvsadm({ argv, stdin: text, director, names: () => names(signal) })
  if (result === STDIN_WANTED) throw new Error('A restore was given its input and asks for it')
  for (const line of result.stderr.toString('latin1').split('\n').filter(Boolean)) say(line)
  if (result.status !== 0) throw new ClientError('Cannot import these rules: ipvsadm -R would not take them')
  // Both lists have the newest first.
  const services = [...director.rules()].reverse().map(({ service, servers }) => ({
    service,
    servers: [...servers]
      .reverse()
      .map((real) => ({ real, checks: [], policy: NO_SERVER_POLICY, pool: null })),
    health: null,
    filters: [],
    limit: null,
  }))
  return documentText(siteDocument(NO_DIRECTOR_SETTINGS, services))
}
