// Passes messages through the broker at URL with MQTT.js, as the device in IDENTITY_DIR if one is given.
//
//   node mqttjs_round_trip.mjs URL [IDENTITY_DIR]
//
// Both protocol versions, QoS 0, 1 and 2; prints one line `ok VERSION QOS` for each. Exit code 0 only if all came back.
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

const connect = (clientId, protocolVersion) =>
  mqtt.connectAsync(url, { ...tls, clientId, protocolVersion, reconnectPeriod: 0, connectTimeout: PATIENCE })

for (const [version, protocolVersion] of [['3.1.1', 4], ['5', 5]]) {
  const receiver = await connect(`receiver-${version}`, protocolVersion)
  const sender = await connect(`sender-${version}`, protocolVersion)
  for (const qos of [0, 1, 2]) {
    const topic = `mqttjs/${version}/${qos}`
    const payload = Buffer.alloc(70_000, qos)
    const [granted] = await receiver.subscribeAsync(topic, { qos })
    assert.equal(granted.qos, qos)
    const came = new Promise((resolve) =>
      receiver.once('message', (topic, payload, packet) => resolve({ topic, payload, packet })),
    )
    const properties = protocolVersion === 5 ? { userProperties: { b: ['1', '2'], a: '3' } } : undefined
    await sender.publishAsync(topic, payload, { qos, properties })
    const message = await came
    assert.equal(message.topic, topic)
    assert.equal(message.packet.qos, qos)
    assert.ok(message.payload.equals(payload))
    if (properties) assert.deepEqual({ ...message.packet.properties.userProperties }, properties.userProperties)
    console.log('ok', version, qos)
  }
  await receiver.endAsync()
  await sender.endAsync()
}
