/** What is said of a file that is wrong is logged and told to everybody: no password is in it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSite } from '../../../control/source/file/read.ts'

const WRONG = {
  'a password of digits': 'kind: etcd, endpoints: ["http://h:1"], user: u, password: 987654321',
  'no kind': 'user: u, password: "987654321"',
  'a token, and no kind': 'token: "987654321"',
  'a password in an endpoint': 'kind: etcd, endpoints: ["http://u:987654321@h:1"]',
}

for (const [what, words] of Object.entries(WRONG)) {
  test(`complaints show no secrets: ${what}`, () => {
    const text = `registries:\n  site: { ${words} }\nservices: []\n`
    const { complaints } = readSite('/site.yaml', { read: () => text, list: () => [] })
    const told = complaints.map(({ message }) => message).join('\n')
    assert.notEqual(told, '')
    assert.doesNotMatch(told, /987654321/)
  })
}
