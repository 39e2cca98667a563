"""Passes messages through the broker on 127.0.0.1:PORT with paho-mqtt, as the device in IDENTITY_DIR if one is given; with
--websockets over WebSocket.

Both protocol versions: QoS 0, 1 and 2, a retained message, a will; prints one line `ok VERSION WHAT` for each. Exit code 0
only if all came back.
"""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

arguments = [a for a in sys.argv[1:] if a != "--websockets"]
transport = "websockets" if "--websockets" in sys.argv else "tcp"
port, identity = int(arguments[0]), arguments[1] if len(arguments) > 1 else None
PATIENCE = 30.0


def connect(name, protocol, will=None):
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, transport=transport)
    if identity:
        client.tls_set(f"{identity}/ca.crt", f"{identity}/device.crt", f"{identity}/device.key")
    if will:
        client.will_set(*will)
    events = queue.Queue()
    client.on_connect = lambda c, u, flags, reason, props: events.put(("connected", reason))
    client.on_subscribe = lambda c, u, mid, reasons, props: events.put(("subscribed", reasons))
    client.on_message = lambda c, u, message: events.put(("message", message))
    client.connect("127.0.0.1", port, keepalive=30)
    client.loop_start()
    what, reason = events.get(timeout=PATIENCE)
    assert what == "connected" and not reason.is_failure, reason
    return client, events


for version, protocol in (("3.1.1", mqtt.MQTTv311), ("5", mqtt.MQTTv5)):
    receiver, received = connect(f"receiver-{version}", protocol)
    sender, _ = connect(f"sender-{version}", protocol)
    for qos in (0, 1, 2):
        topic, payload = f"paho/{version}/{qos}", bytes(range(256)) * (qos + 1)
        receiver.subscribe(topic, qos=qos)
        what, reasons = received.get(timeout=PATIENCE)
        assert what == "subscribed" and [r.value for r in reasons] == [qos], reasons
        sender.publish(topic, payload, qos=qos).wait_for_publish(PATIENCE)
        what, message = received.get(timeout=PATIENCE)
        assert what == "message" and (message.topic, message.payload, message.qos) == (topic, payload, qos)
        print("ok", version, qos)
    topic = f"paho/{version}/kept"
    sender.publish(topic, b"kept", qos=1, retain=True).wait_for_publish(PATIENCE)
    receiver.subscribe(topic, qos=1)
    came = dict(received.get(timeout=PATIENCE) for _ in range(2))
    assert (came["message"].payload, came["message"].retain) == (b"kept", True) and "subscribed" in came
    sender.publish(topic, b"", qos=1, retain=True).wait_for_publish(PATIENCE)
    what, cleared = received.get(timeout=PATIENCE)
    assert (what, cleared.payload, cleared.retain) == ("message", b"", False)
    print("ok", version, "retained")
    topic = f"paho/{version}/will"
    receiver.subscribe(topic, qos=1)
    assert received.get(timeout=PATIENCE)[0] == "subscribed"
    mortal, _ = connect(f"mortal-{version}", protocol, (topic, b"gone", 1))
    mortal.loop_stop()
    mortal.socket().close()
    what, message = received.get(timeout=PATIENCE)
    assert (what, message.topic, message.payload) == ("message", topic, b"gone")
    print("ok", version, "will")
    for client in (sender, receiver):
        client.disconnect()
        client.loop_stop()
