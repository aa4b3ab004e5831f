"""A device built with the unmodified Azure IoT SDK for Python. It provisions
itself, connects to the hub that it is assigned to, does what it reads line by
line from its input and prints what happens, one JSON array a line."""

import json
import sys
import threading

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, ProvisioningDeviceClient, X509

host, scope, registration, cert, key, ca = sys.argv[1:7]
printing = threading.Lock()


def say(*event):
    with printing:
        print(json.dumps(event, separators=(",", ":")), flush=True)


def main():
    x509 = X509(cert, key)
    with open(ca, encoding="ascii") as f:
        root = f.read()
    provisioning = ProvisioningDeviceClient.create_from_x509_certificate(host, registration, scope, x509, server_verification_cert=root)
    result = provisioning.register()
    state = result.registration_state
    say("registered", result.status, state.assigned_hub, state.device_id)

    client = IoTHubDeviceClient.create_from_x509_certificate(x509, state.assigned_hub, state.device_id, server_verification_cert=root)

    def method(request):
        say("method", request.name, request.payload)
        client.send_method_response(MethodResponse.create_from_method_request(request, 202, {"done": request.payload}))

    client.on_method_request_received = method
    client.on_message_received = lambda m: say("message", m.message_id, m.data.decode(), m.custom_properties)
    client.on_twin_desired_properties_patch_received = lambda patch: say("desired", patch)
    client.connect()
    say("open")

    def send(body):
        m = Message(body)
        m.message_id = "from-python"
        m.content_type, m.content_encoding = "text/plain", "utf-8"
        m.custom_properties["level"] = "a/b&c=ü"
        client.send_message(m)
        say("sent")

    def report(patch):
        client.patch_twin_reported_properties(patch)
        say("reported")

    def twin(_):
        t = client.get_twin()
        say("twin", t["desired"], t["reported"])

    def close(_):
        client.shutdown()
        say("closed")

    verbs = {"send": send, "report": report, "twin": twin, "close": close}
    for line in sys.stdin:
        verb, argument = json.loads(line)
        try:
            verbs[verb](argument)
        except Exception as e:  # whatever the SDK makes of a refusal
            say("error", type(e).__name__, str(e))


main()
