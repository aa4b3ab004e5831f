// A device built with MQTT.js, which speaks MQTT 5 and keeps its session. It
// does what it reads line by line from its input and prints what happens, one
// JSON array a line. It subscribes when it is told to and at no other time.
'use strict';

const fs = require('fs');
const readline = require('readline');
const mqtt = require('mqtt');

const [address, id, cert, key, ca] = process.argv.slice(2);
const [host, port] = address.split(':');
const methods = '$iothub/methods/POST/';

function say(...event) { console.log(JSON.stringify(event)); }

const client = mqtt.connect({
  protocol: 'mqtts', host, port, servername: host, clientId: id, protocolVersion: 5,
  clean: false, properties: { sessionExpiryInterval: 600 },
  resubscribe: false, reconnectPeriod: 100,
  cert: fs.readFileSync(cert), key: fs.readFileSync(key), ca: fs.readFileSync(ca),
});

let opened = false;
client.on('connect', (ack) => {
  if (!opened) say('open', ack.sessionPresent, ack.properties.topicAliasMaximum);
  opened = true;
});
client.on('disconnect', (p) => say('told', p.reasonCode));
client.on('error', (err) => { if (!err.code || typeof err.code === 'number') say('error', err.message); }); // the rest is of sockets
client.on('message', (topic, body, packet) => {
  const user = (packet.properties || {}).userProperties;
  if (!topic.startsWith(methods)) {
    say('message', topic.startsWith('devices/') ? 'devicebound' : topic, body.toString(), { ...user });
    return;
  }
  const [name, query] = topic.slice(methods.length).split('/');
  say('method', name, JSON.parse(body));
  client.publish('$iothub/methods/res/200/' + query, '{"ok":true}');
});

function pause(ms) { return new Promise((done) => { setTimeout(done, ms); }); }

// What load sends are numbers; acked are those that the hub has taken.
const acked = [];
let loading = [];
let stopped = false;
let next = 0;
async function worker() {
  while (!stopped) {
    const n = next++;
    try {
      await client.publishAsync(`devices/${id}/messages/events/`, String(n), { qos: 1 });
      acked.push(n);
    } catch { // nobody promised this one: the connection broke while it was sent again
    }
    await pause(20);
  }
}

const verbs = {
  async subscribe(filters) {
    const granted = await client.subscribeAsync(filters, { qos: 1 });
    say('subscribed', ...granted.map((g) => g.qos));
  },
  async publish({ topic, body, properties }) {
    await client.publishAsync(topic, body, { qos: 1, properties: properties || {} });
    say('published');
  },
  async publish0(topic) {
    client.publish(topic, 'x', { qos: 0 }); // not sent again, as it would be with 1
  },
  async load(workers) {
    loading = Array.from({ length: workers }, worker);
    say('loading');
  },
  async stop() {
    stopped = true;
    await Promise.all(loading);
    say('acked', ...acked);
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, argument] = JSON.parse(line);
    verbs[verb](argument).catch((err) => say('error', err.message));
  }
})();
