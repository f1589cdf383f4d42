/** A certificate of 127.0.0.1 that is its own authority. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** @returns files of the certificate and of its key */
export function certificate(folder: string): readonly [certificate: string, key: string] {
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  execFileSync(
    'openssl',
    [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...['-subj', '/CN=registry', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
    ],
    { stdio: 'ignore' },
  )
  return [cert, key]
}
