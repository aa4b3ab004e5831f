// A device built with the unmodified Azure IoT SDK. It does what it reads line
// by line from its input and prints what happens, one JSON array a line.
'use strict';

const fs = require('fs');
const readline = require('readline');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const [host, id, cert, key, ca] = process.argv.slice(2);

function say(...event) { console.log(JSON.stringify(event)); }

async function main() {
  const client = Client.fromConnectionString(`HostName=${host};DeviceId=${id};x509=true`, Mqtt);
  await client.setOptions({
    cert: fs.readFileSync(cert, 'utf8'), key: fs.readFileSync(key, 'utf8'), ca: fs.readFileSync(ca, 'utf8'),
  });
  client.on('disconnect', () => say('disconnect'));
  client.on('error', (err) => say('error', err.name, err.message));
  client.onDeviceMethod('reboot', (req, res) => {
    say('method', req.methodName, req.payload);
    res.send(202, { rebooting: req.payload }, (err) => { if (err) say('error', err.name, err.message); });
  });
  client.on('message', async (m) => {
    await client.complete(m);
    say('message', m.messageId, m.getData().toString(), m.properties.propertyList.map((p) => [p.key, p.value]));
  });
  await client.open();
  const twin = await client.getTwin();
  twin.on('properties.desired', (delta) => say('desired', delta));
  say('open');

  // What load sends are numbers; acked are those that the hub has taken.
  const acked = [];
  let loading = [];
  let stopped = false;
  let next = 0;
  async function worker() {
    while (!stopped) {
      const n = next++;
      try {
        await client.sendEvent(new Message(String(n)));
        acked.push(n);
      } catch { // nobody promised this one
      }
      await new Promise((done) => { setTimeout(done, 20); });
    }
  }

  const verbs = {
    async load(workers) {
      loading = Array.from({ length: workers }, worker);
      say('loading');
    },
    async stop() {
      stopped = true;
      await Promise.all(loading);
      say('acked', ...acked);
    },
    async send(body) {
      const m = new Message(JSON.stringify(body));
      m.messageId = 'from-node';
      m.contentType = 'application/json';
      m.contentEncoding = 'utf-8';
      m.properties.add('level', 'a/b&c=ü');
      await client.sendEvent(m);
      say('sent');
    },
    async report(patch) {
      await new Promise((done, fail) => twin.properties.reported.update(patch, (err) => (err ? fail(err) : done())));
      say('reported');
    },
    async twin() {
      const fresh = await client.getTwin();
      say('twin', fresh.properties.desired, fresh.properties.reported);
    },
    async close() {
      await client.close();
      say('closed');
      process.exit(0);
    },
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, argument] = JSON.parse(line);
    verbs[verb](argument).catch((err) => say('error', err.name, err.message));
  }
}

main().catch((err) => { say('error', err.name, err.message); process.exit(1); });
