// Adds jobs with the npm package bullmq, for a bridge that follows: node adding_bullmq.mjs URL QUEUE HOW_MANY

import { createRequire } from 'node:module'

const require = createRequire(`${process.cwd()}/`)
const { Queue } = require('bullmq')
const { Redis } = require('ioredis')

const [url, name, count] = process.argv.slice(2)
const queue = new Queue(name, { connection: new Redis(url, { maxRetriesPerRequest: null }) })
for (let n = 0; n < Number(count); n += 1) {
  await queue.add('echo', { tenantId: 'acme', action: 'echo', argument: `n ${n}` })
}
process.exit(0)
