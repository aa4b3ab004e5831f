// A device built with the unmodified Azure provisioning SDK: it registers and
// prints the outcome as one JSON object. The hub's root comes in
// NODE_EXTRA_CA_CERTS, for the SDK has no option for it.
'use strict';

const fs = require('fs');
const https = require('https');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { X509Security } = require('azure-iot-security-x509');

const [transport, host, port, scope, id, cert, key] = process.argv.slice(2);

function client() {
  const security = new X509Security(id, { cert: fs.readFileSync(cert, 'utf8'), key: fs.readFileSync(key, 'utf8') });
  if (transport === 'http') {
    https.globalAgent.defaultPort = Number(port); // the SDK knows 443 alone
    const { Http } = require('azure-iot-provisioning-device-http');
    return ProvisioningDeviceClient.create(host, scope, new Http(), security);
  }
  const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
  return ProvisioningDeviceClient.create(`${host}:${port}`, scope, new Mqtt(), security);
}

const c = client();
c.setProvisioningPayload({ model: 'meter' });
c.register((err, result) => {
  const state = (err && err.result && err.result.registrationState) || {};
  const answer = err
    ? { error: err.name, code: (err.result && err.result.errorCode) || state.errorCode, message: err.message }
    : { hub: result.assignedHub, device: result.deviceId, status: result.status, substatus: result.substatus, payload: result.payload };
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
});
