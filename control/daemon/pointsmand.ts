#!/usr/bin/env node
/** The daemon as a process: words in, exit status out. */
import { CommanderError } from 'commander'
import pino from 'pino'
import { runDaemon } from './daemon.ts'
import { parseDaemonOptions } from './options.ts'

async function main(): Promise<number> {
  try {
    const { logLevel, ...options } = parseDaemonOptions(process.argv.slice(2), {
      out: (text) => process.stdout.write(text),
      err: (text) => process.stderr.write(text),
    })
    const log = pino(
      { level: logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
      pino.destination({ dest: 2, sync: true }),
    )
    return await runDaemon(options, log)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode
    throw error
  }
}

const status = await main()
// Native libraries hold handles that would keep the process alive.
process.exit(status)
