/** Answers requests for `/` on port 8080 of every address, and says every second how many connections there were. */
import { createServer } from 'node:http'

const server = createServer((_asked, answer) => answer.end('good\n'))
let connections = 0
server.on('connection', () => {
  connections++
})
server.listen(8080, '0.0.0.0', 4096, () => {
  setInterval(() => process.send?.(connections), 1000)
  process.send?.(connections)
})
process.on('disconnect', () => process.exit())
