/** The JSON form of the bench: what `--json` prints, versioned; read again for what other commits print. */
import { z } from 'zod'
import { JUDGEMENTS } from './against/verdict.ts'

/** Goes up when a field goes away or changes its meaning; a new one is no reason. */
export const REPORT_VERSION = 1

const interval = z.object({ low: z.number(), high: z.number() })

export const machineSchema = z.object({
  cpu: z.string(),
  cpus: z.number(),
  memoryGb: z.number(),
  kernel: z.string(),
  node: z.string(),
  load: z.number(),
  commit: z.string(),
  date: z.string(),
})

const rowSchema = z.object({
  /** Of the block that it is part of; with the name it is unique in its section. */
  title: z.string(),
  name: z.string(),
  unit: z.string(),
  value: z.number(),
  best: z.number().optional(),
  reference: z.object({ name: z.string(), value: z.number() }).optional(),
  ratio: z.number().optional(),
  /** Where the medians lie, with 99 % confidence. */
  valueInterval: interval.optional(),
  ratioInterval: interval.optional(),
  /** What the stopwatch's own runs differ by: a value or a reference below it says nothing more. */
  noise: z.number().optional(),
  goal: z
    .object({ of: z.enum(['ratio', 'value']), bound: z.enum(['most', 'least']), limit: z.number() })
    .optional(),
  /** null: too noisy to judge. */
  met: z.boolean().nullable().optional(),
  note: z.string().optional(),
})
export type ReportRow = z.infer<typeof rowSchema>

const trouble = z.object({ part: z.string(), why: z.string() })

const sectionSchema = z.object({
  section: z.string(),
  seconds: z.number(),
  rows: z.array(rowSchema),
  skipped: z.array(trouble),
  failed: z.array(trouble),
})
export type ReportSection = z.infer<typeof sectionSchema>

/** Commits before the version was there print the same without it. */
export const runReportSchema = z.object({
  version: z.literal(REPORT_VERSION).default(REPORT_VERSION),
  machine: machineSchema,
  sections: z.array(sectionSchema),
})
export type RunReport = z.infer<typeof runReportSchema>

const comparedRowSchema = z.object({
  section: z.string(),
  title: z.string(),
  name: z.string(),
  unit: z.string(),
  judgement: z.enum(JUDGEMENTS),
  /** Whether a move is one for the better; null without a move. */
  better: z.boolean().nullable(),
  /** Medians; absent when the row is lacking. */
  ours: z.number().optional(),
  theirs: z.number().optional(),
  ratio: z.number().optional(),
  interval: interval.optional(),
  rounds: z.number().optional(),
  /** Why a row is lacking. */
  why: z.string().optional(),
})
export type ComparedRow = z.infer<typeof comparedRowSchema>

export const comparisonSchema = z.object({
  version: z.literal(REPORT_VERSION),
  machine: machineSchema,
  against: z.object({ revision: z.string(), commit: z.string() }),
  quick: z.boolean(),
  rows: z.array(comparedRowSchema),
  failed: z.array(trouble),
})
export type ComparisonReport = z.infer<typeof comparisonSchema>

/** Five digits: more than any of these numbers is good for, and few enough to be read. */
export const rounded = (value: number): number => Number(value.toPrecision(5))
