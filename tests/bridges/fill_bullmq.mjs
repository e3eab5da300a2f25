// Fills a queue with the npm package bullmq: a job of each kind that a move has to know. Then it prints what Redis has
// of the queue, as commands that make it again.
//
//   cd FOLDER && npm install bullmq@6 ioredis && cp .../fill_bullmq.mjs . && node fill_bullmq.mjs redis://127.0.0.1:6379/9 orders

import { createRequire } from 'node:module'

const require = createRequire(`${process.cwd()}/`)
const { Queue, Worker, FlowProducer } = require('bullmq')
const { Redis } = require('ioredis')

const [url, name] = process.argv.slice(2)
const connection = new Redis(url, { maxRetriesPerRequest: null })
const queue = new Queue(name, { connection })
const data = (argument) => ({ tenantId: 'acme', action: 'echo', argument })

// One that a worker has, with its lock.
await queue.add('echo', data('busy'), { jobId: 'busy' })
const worker = new Worker(name, null, { connection, autorun: false })
await worker.getNextJob('a-token')

await queue.add('echo', data('first'))
await queue.add('echo', data('second'), { attempts: 5 })
await queue.add('echo', { ...data('of globex'), tenantId: 'globex' }, { jobId: 'custom' })
await queue.add('echo', data('before the others'), { lifo: true })
await queue.add('other', data('of another name'))
await queue.add('echo', data('once'), { deduplication: { id: 'once' } })
await queue.add('echo', data('urgent'), { priority: 1 })
await queue.add('echo', data('can wait'), { priority: 100 })
await queue.add('echo', data('in an hour'), { delay: 3_600_000 })
await queue.add('echo', data('in a year'), { delay: 31_536_000_000, priority: 2 })

// What cannot become a run.
await queue.add('echo', 'a text', { jobId: 'text' })
await queue.add('echo', { ...data('of nobody'), tenantId: 'nobody-there' }, { jobId: 'nobody' })
await queue.add('echo', { tenantId: 'acme', argument: 7 }, { jobId: 'wrong' })
await queue.add('echo', { action: 'echo' }, { jobId: 'no-tenant' })
await new FlowProducer({ connection }).add({
  name: 'echo', queueName: name, data: data('parent'), opts: { jobId: 'parent' },
  children: [{ name: 'echo', queueName: name, data: data('child'), opts: { jobId: 'child' } }],
})
await queue.upsertJobScheduler('hourly', { every: 3_600_000 }, { name: 'echo', data: data('scheduled') })
await queue.pause()

const commands = []
for (const key of (await connection.keys(`bull:${name}:*`)).sort()) {
  const type = await connection.type(key)
  if (type === 'string') commands.push(['SET', key, await connection.get(key)])
  if (type === 'hash') commands.push(['HSET', key, ...Object.entries(await connection.hgetall(key)).flat()])
  if (type === 'list') commands.push(['RPUSH', key, ...(await connection.lrange(key, 0, -1))])
  if (type === 'set') commands.push(['SADD', key, ...(await connection.smembers(key))])
  if (type === 'zset') {
    const found = await connection.zrange(key, 0, -1, 'WITHSCORES')
    for (let n = 0; n < found.length; n += 2) commands.push(['ZADD', key, found[n + 1], found[n]])
  }
}
const { version } = require('bullmq/package.json')
console.log(JSON.stringify({ version, commands }, null, 1))
process.exit(0)
