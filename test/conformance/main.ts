/** `npm run conformance -- ipvsadm|packets FILE… [options]`: plays recordings against this director. */

const AREAS = ['ipvsadm', 'packets'] as const

const [area, ...args] = process.argv.slice(2)
switch (area) {
  case 'ipvsadm':
    process.exitCode = await (await import('./ipvsadm.ts')).main(args)
    break
  case 'packets':
    process.exitCode = await (await import('./packets.ts')).main(args)
    break
  default:
    console.error(
      `Cannot play ${area === undefined ? 'nothing' : `"${area}"`}: expected ${AREAS.join(' or ')}, then files\n` +
        `usage: npm run conformance -- ${AREAS.join('|')} FILE… [--area NAME] [--name PATTERN] [--json]`,
    )
    process.exitCode = 2
}
