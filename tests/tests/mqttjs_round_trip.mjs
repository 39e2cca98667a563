// Passes messages through the broker at URL with MQTT.js, as the device in IDENTITY_DIR if one is given.
//
//   node mqttjs_round_trip.mjs URL [IDENTITY_DIR]
//
// Both protocol versions: QoS 0, 1 and 2, a retained message, a will; prints one line `ok VERSION WHAT` for each. Exit code 0
// only if all came back.
// $SMQTT_TEST_NODE is the directory whose node_modules has mqtt.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const mqtt = createRequire(`${process.env.SMQTT_TEST_NODE}/`)('mqtt')
const [url, identity] = process.argv.slice(2)
const PATIENCE = 30_000

setTimeout(() => {
  console.error('nothing came for too long')
  process.exit(1)
}, PATIENCE).unref()

const tls = identity
  ? {
      ca: readFileSync(`${identity}/ca.crt`),
      cert: readFileSync(`${identity}/device.crt`),
      key: readFileSync(`${identity}/device.key`),
    }
  : {}

const connect = (clientId, protocolVersion, will) =>
  mqtt.connectAsync(url, { ...tls, clientId, protocolVersion, will, reconnectPeriod: 0, connectTimeout: PATIENCE })

const next = (client) =>
  new Promise((resolve) => client.once('message', (topic, payload, packet) => resolve({ topic, payload, packet })))

for (const [version, protocolVersion] of [['3.1.1', 4], ['5', 5]]) {
  const receiver = await connect(`receiver-${version}`, protocolVersion)
  const sender = await connect(`sender-${version}`, protocolVersion)
  for (const qos of [0, 1, 2]) {
    const topic = `mqttjs/${version}/${qos}`
    const payload = Buffer.alloc(70_000, qos)
    const [granted] = await receiver.subscribeAsync(topic, { qos })
    assert.equal(granted.qos, qos)
    const came = next(receiver)
    const properties = protocolVersion === 5 ? { userProperties: { b: ['1', '2'], a: '3' } } : undefined
    await sender.publishAsync(topic, payload, { qos, properties })
    const message = await came
    assert.equal(message.topic, topic)
    assert.equal(message.packet.qos, qos)
    assert.ok(message.payload.equals(payload))
    if (properties) assert.deepEqual({ ...message.packet.properties.userProperties }, properties.userProperties)
    console.log('ok', version, qos)
  }
  const kept = `mqttjs/${version}/kept`
  await sender.publishAsync(kept, 'kept', { qos: 1, retain: true })
  const stored = next(receiver)
  await receiver.subscribeAsync(kept, { qos: 1 })
  assert.deepEqual([String((await stored).payload), (await stored).packet.retain], ['kept', true])
  const cleared = next(receiver)
  await sender.publishAsync(kept, '', { qos: 1, retain: true })
  assert.deepEqual([String((await cleared).payload), (await cleared).packet.retain], ['', false])
  console.log('ok', version, 'retained')
  const topic = `mqttjs/${version}/will`
  await receiver.subscribeAsync(topic, { qos: 1 })
  const mortal = await connect(`mortal-${version}`, protocolVersion, { topic, payload: Buffer.from('gone'), qos: 1 })
  const last = next(receiver)
  mortal.stream.destroy()
  assert.deepEqual([(await last).topic, String((await last).payload)], [topic, 'gone'])
  console.log('ok', version, 'will')
  await receiver.endAsync()
  await sender.endAsync()
}
