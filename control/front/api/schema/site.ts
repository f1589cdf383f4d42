/** A whole configuration file as an answer: a large schema, so that only those who need it read it in. */
export { siteFile as siteAnswer } from '../../../source/file/schema.ts'
